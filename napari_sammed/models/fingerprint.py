"""Which network a table of tensors belongs to, told from names and shapes, and what keeps it from fitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Shapes: TypeAlias = Mapping[str, Sequence[int]]

_VIT_SIZES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
_SHOWN = 3


def look(shapes: Shapes) -> str | None:
    """Name the system whose weights have these shapes, for an error message.

    Parameters
    ----------
    shapes : mapping of str to sequence of int
        Shape of each tensor.

    Returns
    -------
    str or None
        None if the names are of none of the systems known here.
    """
    if any(key.startswith("w_a_") for key in shapes):
        return "a LoRA file of SAMed"
    if any(key.startswith("image_encoder.patch_embedding.") for key in shapes):
        return "SegVol"
    if any(key.startswith(("image_encoder.trunk.", "sam_mask_decoder.")) for key in shapes):
        return "SAM 2 or MedSAM 2"
    if any(key.startswith(("vision_encoder.", "shared_image_embedding.")) for key in shapes):
        return "SAM in the layout of the transformers library"
    tiny = shapes.get("image_encoder.patch_embed.seq.0.c.weight")
    if tiny is not None:
        return "MobileSAM (strided patch kernels)" if tuple(tiny[2:]) == (3, 3) else "LiteMedSAM (TinyViT)"
    patch = shapes.get("image_encoder.patch_embed.proj.weight")
    if patch is None:
        return None
    if len(patch) == 5:
        return "SAM-Med3D"
    if any(".Adapter." in key for key in shapes):
        return "SAM-Med2D with adapters"
    position = shapes.get("image_encoder.pos_embed", ())
    size = _VIT_SIZES.get(patch[0], f"a ViT of width {patch[0]}")
    if len(position) == 4 and position[1] == 16:
        return f"SAM-Med2D without adapters ({size} for 256 pixels)"
    return f"SAM {size}" + (" (SAM or MedSAM)" if size == "ViT-B" else "")


def difference(found: Shapes, expected: Shapes) -> str | None:
    """What keeps tensors from fitting a network, in a few words; None if they fit.

    Parameters
    ----------
    found, expected : mapping of str to sequence of int
        Shapes of the file's tensors and of the network's.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} {tuple(found[key])} instead of {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and tuple(found[key]) != tuple(shape)
    ]
    parts = [
        _list(missing, "missing"),
        _list(unexpected, "unexpected"),
        _list(misshapen, "of another shape"),
    ]
    return "; ".join(part for part in parts if part) or None


def _list(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"
