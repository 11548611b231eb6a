"""Which network a table of tensors belongs to, told from names and shapes, and what keeps it from fitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Shapes: TypeAlias = Mapping[str, Sequence[int]]

PATCH = "image_encoder.patch_embed.proj.weight"
POSITION = "image_encoder.pos_embed"
MASK_TOKENS = "mask_decoder.mask_tokens.weight"
PATCH_PIXELS = 16

_VIT_SIZES = {768: "B", 1024: "L", 1280: "H"}
_SHOWN = 3


@dataclass(frozen=True)
class Identity:
    """What a weight file is.

    Parameters
    ----------
    system : str
        Name and variant, as people say it: ``SAM-Med2D with adapters``.
    models : tuple of str
        Registry names of the models that it is meant for, the likeliest first; empty if this program has none.
    details : dict
        What names and shapes tell: ``image_size``, ``classes``, ``rank``, ``vit``, ``adapters``, ``tokens``.
    remark : str
        One sentence that its user should know; empty if there is nothing to say.
    """

    system: str
    models: tuple[str, ...] = ()
    details: Mapping[str, int | str | bool] = field(default_factory=dict)
    remark: str = ""


def identify(shapes: Shapes) -> Identity | None:
    """Name the system whose weights have these names and shapes.

    Parameters
    ----------
    shapes : mapping of str to sequence of int
        Shape of each tensor.

    Returns
    -------
    Identity or None
        None if the names are of none of the systems known here.
    """
    return next((identity for look in _LOOKS if (identity := look(shapes)) is not None), None)


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


def lora_base(shapes: Shapes) -> str | None:
    """The model whose weights a LoRA file of SAMed adds to; None if this is not the width of one of SAM's."""
    size = _VIT_SIZES.get(_at(shapes, "w_a_000", 1))
    return None if size is None else f"sam-vit-{size.lower()}"


def lora_rank(shapes: Shapes) -> int:
    """Rank of a LoRA file of SAMed: rows of its first matrix."""
    return _at(shapes, "w_a_000", 0)


def class_count(shapes: Shapes) -> int:
    """Classes of SAMed, the background not counted: one mask token each, and one for the background."""
    return max(_at(shapes, MASK_TOKENS, 0) - 1, 0)


def image_size(shapes: Shapes) -> int:
    """Side of the square input of a ViT, pixels; 0 where there is no position table."""
    return _at(shapes, POSITION, 1) * PATCH_PIXELS


def has_adapters(shapes: Shapes) -> bool:
    """Whether the encoder has the adapters of SAM-Med2D."""
    return any(".Adapter." in key for key in shapes)


def is_lora(shapes: Shapes) -> bool:
    """Whether this is a LoRA file of SAMed, or half of one."""
    return any(key.startswith(("w_a_", "w_b_")) for key in shapes)


def is_samed_s(shapes: Shapes) -> bool:
    """Whether a LoRA file also changes the decoder's attention, as that of SAMed_s does."""
    return any(key.startswith(("sa_a_", "cti_a_", "cit_a_", "fati_")) for key in shapes)


def _samed(shapes: Shapes) -> Identity | None:
    if not is_lora(shapes):
        return None
    base = lora_base(shapes)
    size = "ViT-" + base[-1].upper() if base else "a ViT of unknown width"
    classes, rank = class_count(shapes), lora_rank(shapes)
    name = "SAMed_s" if is_samed_s(shapes) else "SAMed_h" if base == "sam-vit-h" else "SAMed"
    return Identity(
        f"a LoRA file of {name}",
        ("samed",),
        {"variant": name, "rank": rank, "classes": classes, "vit": size, "base": base or ""},
        f"It has rank {rank} and {classes} classes, and adds to the weights of SAM {size}, which are needed as well.",
    )


def _samed_network(shapes: Shapes) -> Identity | None:
    if not any(key.endswith(".attn.qkv.linear_a_q.weight") for key in shapes):
        return None
    return Identity("SAMed as its network is built", remark="Save its LoRA file as the official training script does.")


def _segvol(shapes: Shapes) -> Identity | None:
    if not any(key.startswith("image_encoder.patch_embedding.") for key in shapes):
        return None
    text = any(key.startswith("text_encoder.") for key in shapes)
    return Identity("SegVol", ("segvol",), {"text": text})


def _segvol_encoder(shapes: Shapes) -> Identity | None:
    if not any(key.startswith("encoder.patch_embedding.") for key in shapes):
        return None
    return Identity(
        "SegVol's image encoder before it learnt to segment", remark="Get SegVol_v1.pth or pytorch_model.bin instead."
    )


def _sam2(shapes: Shapes) -> Identity | None:
    if not any(key.startswith(("image_encoder.trunk.", "sam_mask_decoder.")) for key in shapes):
        return None
    return Identity("SAM 2 or MedSAM 2")


def _transformers(shapes: Shapes) -> Identity | None:
    if not any(key.startswith(("vision_encoder.", "shared_image_embedding.")) for key in shapes):
        return None
    return Identity(
        "SAM in the layout of the transformers library", remark="Get the file in the layout of the official code."
    )


def _tiny_vit(shapes: Shapes) -> Identity | None:
    patch = shapes.get("image_encoder.patch_embed.seq.0.c.weight")
    if patch is None:
        return None
    if tuple(patch[2:]) == (3, 3):
        return Identity("MobileSAM (strided patch kernels)")
    return Identity("LiteMedSAM (TinyViT)", ("litemedsam",), {"image_size": 256})


def _sam_med3d(shapes: Shapes) -> Identity | None:
    if len(shapes.get(PATCH, ())) != 5:
        return None
    return Identity("SAM-Med3D", ("sam-med3d",), {"image_size": image_size(shapes)})


def _sam_med2d(shapes: Shapes) -> Identity | None:
    side = image_size(shapes)
    adapters = has_adapters(shapes)
    if PATCH not in shapes or not (adapters or side == 256):
        return None
    details = {"adapters": adapters, "image_size": side or 256, "vit": _vit(shapes)}
    if adapters:
        return Identity("SAM-Med2D with adapters", ("sam-med2d",), details)
    return Identity(f"SAM-Med2D without adapters ({_vit(shapes)} for 256 pixels)", ("sam-med2d",), details)


def _sam(shapes: Shapes) -> Identity | None:
    if PATCH not in shapes:
        return None
    side, vit, tokens = image_size(shapes), _vit(shapes), _at(shapes, MASK_TOKENS, 0)
    details: dict[str, int | str | bool] = {"image_size": side, "vit": vit, "tokens": tokens}
    if tokens not in (0, 4):
        return Identity(f"SAM {vit} with {tokens} mask tokens", (), details)
    if side not in (0, 1024):
        return Identity(f"SAM {vit} for {side} pixels", (), details)
    size = _VIT_SIZES.get(_at(shapes, PATCH, 0))
    if size == "B":
        remark = "SAM ViT-B and MedSAM have the same names and shapes; only the published sums tell them apart."
        return Identity("SAM ViT-B or MedSAM", ("sam-vit-b", "medsam"), details, remark)
    return Identity(f"SAM {vit}", (f"sam-vit-{size.lower()}",) if size else (), details)


_LOOKS: tuple[Callable[[Shapes], Identity | None], ...] = (
    _samed,
    _samed_network,
    _segvol,
    _segvol_encoder,
    _sam2,
    _transformers,
    _tiny_vit,
    _sam_med3d,
    _sam_med2d,
    _sam,
)


def _vit(shapes: Shapes) -> str:
    width = _at(shapes, PATCH, 0)
    size = _VIT_SIZES.get(width)
    return f"ViT-{size}" if size else f"a ViT of width {width}"


def _at(shapes: Shapes, key: str, axis: int) -> int:
    """Length along an axis of a tensor; 0 where the file has no such tensor or axis."""
    shape = shapes.get(key, ())
    return int(shape[axis]) if len(shape) > axis else 0


def _list(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})"
