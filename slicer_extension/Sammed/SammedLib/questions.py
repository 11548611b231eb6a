"""Questions that nothing happens without a yes to."""

from __future__ import annotations

import slicer


def agrees(question: str, conditions: str) -> bool:
    """Ask the user; always a no while Slicer tests itself, as it would answer its own questions with a yes then."""
    testing = getattr(slicer.app, "testingEnabled", None)
    if testing is not None and testing():
        return False
    return slicer.util.confirmOkCancelDisplay(conditions, question)
