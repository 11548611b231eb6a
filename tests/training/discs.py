"""A folder of pictures with discs and rings, for what trains on files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_discs(folder: Path, count: int = 6, side: int = 64) -> Path:
    """nnU-Net's layout: grey pictures ``p0_a``, ``p0_b``, ``p1_a``, ... with a bright disc (1) and a dark one (2)."""
    random = np.random.default_rng(0)
    rows, columns = np.indices((side, side))
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        labels = np.zeros((side, side), np.uint8)
        radius = side * 0.14
        for label, low in ((1, 0.18), (2, 0.58)):
            y, x = random.uniform(low * side, (low + 0.2) * side, 2)
            labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = label
        pixels = np.array([127, 230, 25])[labels] + random.normal(0, 6, labels.shape)
        name = f"p{number // 2}_{'ab'[number % 2]}"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "imagesTr" / f"{name}_0000.png")
        Image.fromarray(labels).save(folder / "labelsTr" / f"{name}.png")
    about = {
        "channel_names": {"0": "picture"},
        "labels": {"background": 0, "bright": 1, "dark": 2},
        "numTraining": count,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder
