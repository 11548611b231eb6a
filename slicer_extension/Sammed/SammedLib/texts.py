"""Slicer's translation of texts, where there is one."""

from __future__ import annotations


def tr(text: str) -> str:
    """The text in the language of the application; as it is where Slicer's translations are not there."""
    try:
        from slicer.i18n import tr as translate
    except ImportError:
        return text
    return translate(text)
