"""What each action of the user did to the segments, to take it back exactly, and to see whether others have."""

from __future__ import annotations

import numpy as np

from .segments import Edit, SegmentWriter


class Edits:
    """By the numbers of the session's actions.

    Parameters
    ----------
    writer : SegmentWriter
    """

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self._edits: dict[int, list[Edit]] = {}

    def add(self, action: int, edit: Edit | None) -> None:
        """Note what an action has done, if it did anything."""
        self._edits.setdefault(action, []).extend([] if edit is None else [edit])

    def put(self, action: int, when: str) -> bool:
        """Have the segments look as "before" an action, or "after" it; whether it ever did anything to them."""
        edits = self._edits.get(action, [])
        for edit in reversed(edits) if when == "before" else edits:
            self._writer.put(edit.box, getattr(edit, when))
        return bool(edits)

    def only(self, action: int, now: str, then: str) -> bool:
        """Whether the segments look as at one end of an action ("before", "after"), and not as at the other one."""
        edits = self._edits.get(action, [])
        return bool(edits) and self._looks(edits, now) and not self._looks(edits, then)

    def _looks(self, edits: list[Edit], when: str) -> bool:
        """Whether all segments look as before the first one of some edits, or after the last one."""
        edit = edits[0] if when == "before" else edits[-1]
        ids = self._writer.ids
        return all(
            segment_id in ids and np.array_equal(self._writer.read(segment_id, edit.box), voxels)
            for segment_id, voxels in getattr(edit, when).items()
        )
