"""Which system a file belongs to, from names and shapes: of the official files, and of some that people mix up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.models import fingerprint
from napari_sammed.models.fingerprint import Shapes, identify
from tests.golden import Golden
from tests.golden_weights import NAMES, golden_shapes

Read = Callable[[Path], Shapes]


def of_sam(size: str) -> Read:
    def read(goldens: Path) -> Shapes:
        listed = json.loads((goldens / "sam_state_keys.json").read_text())[f"vit_{size}"]["keys"]
        return {key: shape for key, shape, *_ in listed}

    return read


def of_golden(name: str, entry: str = "") -> Read:
    def read(goldens: Path) -> Shapes:
        golden = Golden(goldens / f"{name}.npz")
        if entry:
            return {key: shape for key, shape, *_ in golden.meta[entry]}
        return {key: shape for key, (shape, _) in golden.keys.items()}

    return read


def of_volumes(name: str) -> Read:
    def read(goldens: Path) -> Shapes:
        file = np.load(goldens / f"{name}.npz", allow_pickle=False)
        return dict(zip(file["state_keys"].tolist(), map(json.loads, file["state_shapes"].tolist()), strict=True))

    return read


OFFICIAL: dict[str, tuple[Read, str, tuple[str, ...], dict[str, object]]] = {
    "sam_state_keys-vit_b": (of_sam("b"), "SAM ViT-B or MedSAM", ("sam-vit-b", "medsam"), {"image_size": 1024}),
    "sam_state_keys-vit_l": (of_sam("l"), "SAM ViT-L", ("sam-vit-l",), {"vit": "ViT-L"}),
    "sam_state_keys-vit_h": (of_sam("h"), "SAM ViT-H", ("sam-vit-h",), {"vit": "ViT-H"}),
    "lite_medsam": (of_golden("lite_medsam"), "LiteMedSAM (TinyViT)", ("litemedsam",), {"image_size": 256}),
    "sam_med2d_vit_b": (of_golden("sam_med2d_vit_b"), "SAM-Med2D with adapters", ("sam-med2d",), {"adapters": True}),
    "samed_vit_b-lora": (
        of_golden("samed_vit_b", "lora_file_keys"),
        "a LoRA file of SAMed",
        ("samed",),
        {"variant": "SAMed", "rank": 4, "classes": 8, "base": "sam-vit-b"},
    ),
    "samed_vit_b-base": (of_golden("samed_vit_b", "base_keys"), "SAM ViT-B or MedSAM", ("sam-vit-b", "medsam"), {}),
    "samed_tiny-samed_s": (
        of_golden("samed_tiny", "samed_s_lora_file_keys"),
        "a LoRA file of SAMed_s",
        ("samed",),
        {"variant": "SAMed_s", "rank": 4, "classes": 5, "base": ""},
    ),
    "sam_med3d_vit_b_ori": (of_volumes("sam_med3d_vit_b_ori"), "SAM-Med3D", ("sam-med3d",), {}),
    "segvol_full": (of_volumes("segvol_full"), "SegVol", ("segvol",), {"text": True}),
}


@pytest.mark.parametrize("file", OFFICIAL)
def test_names_official_files(file: str, shared: Path) -> None:
    read, system, models, details = OFFICIAL[file]
    found = identify(read(shared / "goldens"))
    assert found is not None
    assert (found.system, found.models) == (system, models)
    assert details.items() <= found.details.items()


FILLED = {
    "litemedsam": "LiteMedSAM (TinyViT)",
    "sam-vit-b": "SAM ViT-B or MedSAM",
    "medsam": "SAM ViT-B or MedSAM",
    "sam-med2d": "SAM-Med2D with adapters",
    "sam-med2d-plain": "SAM-Med2D without adapters (ViT-B for 256 pixels)",
    "samed": "a LoRA file of SAMed",
    "samed_s": "a LoRA file of SAMed_s",
    "sam-vit-l": "SAM ViT-L",
    "sam-vit-h": "SAM ViT-H",
    "samed_h": "a LoRA file of SAMed_h",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_what_the_networks_here_are_filled_from(name: str) -> None:
    found = identify(golden_shapes(name))
    assert found is not None
    assert found.system == FILLED[name]
    if name.startswith("samed"):
        assert found.details["base"] == ("sam-vit-h" if name == "samed_h" else "sam-vit-b")
        assert (found.details["rank"], found.details["classes"]) == (4, 8)


PATCH = "image_encoder.patch_embed.proj.weight"
OTHERS: dict[str, tuple[dict[str, tuple[int, ...]], str, tuple[str, ...]]] = {
    "mobile": ({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)}, "MobileSAM (strided patch kernels)", ()),
    "vit_h_encoder_alone": ({PATCH: (1280, 3, 16, 16)}, "SAM ViT-H", ("sam-vit-h",)),
    "another_width": ({PATCH: (384, 3, 16, 16)}, "SAM a ViT of width 384", ()),
    "sam_for_512": (
        {PATCH: (768, 3, 16, 16), "image_encoder.pos_embed": (1, 32, 32, 768)},
        "SAM ViT-B for 512 pixels",
        (),
    ),
    "sam_with_nine_tokens": (
        {PATCH: (768, 3, 16, 16), "mask_decoder.mask_tokens.weight": (9, 256)},
        "SAM ViT-B with 9 mask tokens",
        (),
    ),
    "half_of_a_lora_file": ({"w_b_000": (768, 4)}, "a LoRA file of SAMed", ("samed",)),
    "samed_network": (
        {"image_encoder.blocks.0.attn.qkv.linear_a_q.weight": (4, 768)},
        "SAMed as its network is built",
        (),
    ),
    "sam2": ({"image_encoder.trunk.pos_embed": (1, 3, 3, 3)}, "SAM 2 or MedSAM 2", ()),
    "transformers": ({"vision_encoder.pos_embed": (1, 3, 3, 3)}, "SAM in the layout of the transformers library", ()),
    "odd_shapes": ({PATCH: (), "image_encoder.pos_embed": (3,)}, "SAM a ViT of width 0", ()),
}


@pytest.mark.parametrize("file", OTHERS)
def test_names_what_people_mix_up(file: str) -> None:
    shapes, system, models = OTHERS[file]
    found = identify(shapes)
    assert found is not None
    assert (found.system, found.models) == (system, models)


@pytest.mark.parametrize("shapes", [{}, {"backbone.weight": (3, 3)}, {"image_encoder.neck.weight": (60, 100)}])
def test_does_not_guess(shapes: Shapes) -> None:
    assert identify(shapes) is None


def test_difference_counts_and_names() -> None:
    found = {"a": (1, 2), "b": (3,), **{f"extra.{i}": (1,) for i in range(5)}}
    text = fingerprint.difference(found, {"a": (1, 3), "b": (3,), "c": ()})
    assert text == (
        "1 missing (c); 5 unexpected (extra.0, extra.1, extra.2, ...); 1 of another shape (a (1, 2) instead of (1, 3))"
    )
    assert fingerprint.difference(found, found) is None
