"""The tools of the plugin: what a press on the canvas does."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What a press on the canvas does."""

    NAVIGATE = "navigate"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    BOX = "box"
    BRUSH = "brush"
    ERASER = "eraser"
