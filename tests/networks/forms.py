"""What the golden tests of the networks share: the forms a network is used in, and how its parts are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from napari_sammed import networks
from napari_sammed.networks import PromptableNetwork
from napari_sammed.networks.official_files import from_lora_file, from_sam_file
from tests.golden import Golden, golden_value

FORMS = {"trainable": lambda network: network, "optimized": networks.optimized}
TINY = 1e-5
FULL = 2e-4
HALF = {torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""Bounds of `relative_error` of an embedding from matrix products in half precision."""


def prompts_in_frame(golden: Golden, case: str) -> dict[str, object]:
    """Arguments of the prompt encoder for a case that is stored in the network's frame."""
    coords = golden.optional(f"in.{case}.point_coords")
    points = None if coords is None else (coords, golden.tensor(f"in.{case}.point_labels"))
    return {
        "points": points,
        "boxes": golden.optional(f"in.{case}.boxes"),
        "masks": golden.optional(f"in.{case}.mask_inputs"),
    }


def prompts_of_user(golden: Golden, case: str, scale: tuple[float, float]) -> dict[str, object]:
    """Arguments of the prompt encoder for a case stored in pixels of the original image; scale is (x, y)."""
    factor = torch.tensor(scale, dtype=torch.float64)
    coords, box = golden.optional(f"in.{case}.point_coords"), golden.optional(f"in.{case}.box")
    points = None
    if coords is not None:
        points = ((coords * factor).float()[None], golden.tensor(f"in.{case}.point_labels")[None])
    boxes = None if box is None else (box.view(2, 2) * factor).float().view(1, 4)
    return {"points": points, "boxes": boxes, "masks": None}


def best(masks: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of highest predicted IoU of one prompt set, and that IoU: what SAM-Med2D's predictor returns."""
    index = iou[0].argmax()
    return masks[0, index][None], iou[0, index][None]


def golden_file(listed: Iterable[Sequence]) -> dict[str, Tensor]:
    """Tensors of a file whose keys and shapes are listed, by the fill rule."""
    return {key: torch.from_numpy(golden_value(key, tuple(shape))) for key, shape, *_ in listed}


def load_pair(network: PromptableNetwork, base: dict[str, Tensor], lora: dict[str, Tensor]) -> PromptableNetwork:
    """Load a SAM file and a LoRA file into a SAMed network; strict."""
    network.load_state_dict(from_sam_file(base, network.state_dict()).tensors | from_lora_file(lora), strict=True)
    return network.eval()


@torch.inference_mode()
def encode_image(form: PromptableNetwork, image: Tensor) -> Tensor:
    return form.image_encoder(image)


@torch.inference_mode()
def decode(
    form: PromptableNetwork, embedding: Tensor, prompts: Mapping[str, object], multimask: bool
) -> tuple[Tensor, Tensor]:
    """Masks and IoU of prompts on an embedding, the parts called as the models call them."""
    sparse, dense = form.prompt_encoder(**prompts)
    return form.mask_decoder(
        image_embeddings=embedding,
        image_pe=form.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


@torch.inference_mode()
def outputs(module: nn.Module, image: Tensor, names: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Outputs of submodules, by the given names, while ``module`` works on ``image``."""
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, part in names.items():
            hook = part.register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out))
            stack.callback(hook.remove)
        found["image_embedding"] = module(image)
    return found


def encoder_stages(encoder: networks.ImageEncoder) -> dict[str, nn.Module]:
    """The encoder's stages by their golden names."""
    stages: dict[str, nn.Module] = {"enc.patch_embed": encoder.patch_embed}
    stages |= {f"enc.block{i}": block for i, block in enumerate(encoder.blocks)}
    return stages | {f"enc.neck{i}": encoder.neck[i] for i in range(3)}


def relative_error(x: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return ((x - reference).norm() / reference.norm()).item()


def strided(x: Tensor, *steps: int) -> Tensor:
    """Every n-th element along each axis."""
    return x[tuple(slice(None, None, step) for step in steps)]
