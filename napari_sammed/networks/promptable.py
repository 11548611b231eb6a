"""The module that joins image encoder, prompt encoder and mask decoder."""

from __future__ import annotations

from torch import Tensor, nn


class PromptableNetwork(nn.Module):
    """A network of the SAM family: a heavy image encoder, a light prompt encoder and a light mask decoder.

    Its parameter names equal those of the official checkpoints, so ``load_state_dict`` (strict) is the
    loader.

    Parameters
    ----------
    image_encoder, prompt_encoder, mask_decoder
        The three parts. Users call the parts; `forward` runs all of them.
    """

    def __init__(self, image_encoder: nn.Module, prompt_encoder: nn.Module, mask_decoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder

    def forward(
        self,
        image: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits and predicted IoU of prompts on preprocessed images.

        Parameters
        ----------
        image
            (B, channels, *input size); one image may be shared by several prompt sets.
        points, boxes, masks
            See `PromptEncoder.forward`.
        multimask_output
            See `MaskDecoder.forward`.

        Returns
        -------
        masks, iou : Tensor
            See `MaskDecoder.forward`.
        """
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        return self.mask_decoder(
            image_embeddings=self.image_encoder(image),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )
