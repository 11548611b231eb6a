"""An answer that is on its way: its pieces are shown before it is there, and belong to nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.masks import apply, cut
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt
from napari_sammed.session.actions import Action, ObjectState


@dataclass
class Growth:
    """The pieces of the answer to one action.

    Parameters
    ----------
    action : Action
    pieces : list of Prediction
        In the order in which they came; a slice each.
    """

    action: Action
    pieces: list[Prediction] = field(default_factory=list)

    @property
    def box(self) -> Box | None:
        """Where the pieces may have changed something; None if there are none."""
        found = None
        for piece in self.pieces:
            found = piece.scope if found is None else found.union(piece.scope)
        return found

    @property
    def extent(self) -> Box | None:
        """Around the voxels of the pieces; None if there are none."""
        found = None
        for piece in self.pieces:
            if piece.mask.any():
                found = piece.box if found is None else found.union(piece.box)
        return found

    def shown(self, state: ObjectState, box: Box, kept: Sequence[Box]) -> ObjectState:
        """The action's object with the pieces in its mask, inside a box of the image.

        Parameters
        ----------
        state : ObjectState
        box : Box
        kept : sequence of Box
            Parts which the answer will leave as they are.
        """
        near = [piece for piece in self.pieces if piece.scope.intersect(box) is not None]
        if not near:
            return state
        mask = np.zeros(box.shape, bool)
        _put(mask, box, cut(state.mask, box))
        for piece in near:
            mask[piece.scope.intersect(box).shift([-lo for lo in box.low]).slices] = False
            if kept:
                _put(mask, box, cut(apply(cut(state.mask, piece.scope), piece, kept), box))
            elif piece.mask.any():
                _put(mask, box, cut(MaskPrompt(piece.mask, piece.box.low), box))
        return replace(state, mask=MaskPrompt(mask, box.low) if mask.any() else None)


def _put(mask: np.ndarray, box: Box, part: MaskPrompt | None) -> None:
    if part is not None:
        mask[part.extent.shift([-lo for lo in box.low]).slices] |= part.mask
