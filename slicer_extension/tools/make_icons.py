"""Draw the icons of the extension, its module and its Segment Editor effect: a clicked structure and its outline.

python make_icons.py        writes the PNG files where CMake expects them (needs Pillow)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ICONS = {  # file: side in pixels
    "SammedSegmentation.png": 128,
    "Sammed/Resources/Icons/Sammed.png": 64,
    "SegmentEditorSammed/SegmentEditorSammedLib/SegmentEditorEffect.png": 21,
}
_SCALE = 8  # drawn larger, then made smaller, for smooth edges
_BACK, _ORGAN, _LINE, _CLICK = (38, 50, 72), (106, 124, 148), (240, 228, 66), (230, 159, 0)


def icon(side: int) -> Image.Image:
    """The picture, with rounded corners and clear around them."""
    from PIL import Image, ImageDraw

    size = side * _SCALE
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, size - 1, size - 1), size // 6, fill=_BACK)
    outline = [_around(math.tau * step / 180, size) for step in range(180)]
    draw.polygon(outline, fill=_ORGAN)
    half = size / 32
    for x, y in outline:  # a line with corners would be ragged
        draw.ellipse((x - half, y - half, x + half, y + half), fill=_LINE)
    x, y, radius = 0.47 * size, 0.53 * size, 0.1 * size
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_CLICK)
    draw.ellipse((x - radius / 3, y - radius / 3, x + radius / 3, y + radius / 3), fill=_BACK)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _around(angle: float, size: int) -> tuple[float, float]:
    """A point of the outline of a bean."""
    radius = size * (0.32 + 0.06 * math.cos(angle - 0.6) - 0.05 * math.cos(2 * angle + 0.4))
    return size / 2 + radius * math.cos(angle), size / 2 + radius * math.sin(angle)


if __name__ == "__main__":
    for name, side in ICONS.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        icon(side).save(path, optimize=True)
