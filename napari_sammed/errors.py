"""The errors that a user may see, and the one that tells a worker to stop.

Everything here carries one plain sentence: what was wrong with which value, and what to do about it.
The faces (command line, napari, server) show that sentence; every other exception is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "Cancelled",
    "ChoiceError",
    "FetchError",
    "InputError",
    "NotReady",
    "OtherImageError",
    "ProtocolError",
    "ServerError",
    "SessionDamagedError",
    "SessionInUseError",
    "SessionUnwritableError",
    "WeightsError",
]


class InputError(ValueError):
    """Something the user gave cannot be used; the command line turns it into exit status 2 and one line."""


class ChoiceError(InputError):
    """A file or folder holds several images, of which one has to be chosen.

    Parameters
    ----------
    message : str
    option : str
        What chooses: "frame" or "series" of `napari_sammed.volume.read_volume`.
    choices : sequence of int or str
        Its possible values.
    """

    def __init__(self, message: str, option: str, choices: Sequence[int] | Sequence[str]) -> None:
        super().__init__(message)
        self.option = option
        self.choices = tuple(choices)


class SessionDamagedError(InputError):
    """A session file has lines that nobody can read; what stands before them can be rescued."""


class SessionInUseError(InputError):
    """Another window, or another program, works on a session file.

    Parameters
    ----------
    message : str
    path : Path
        The file.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class SessionUnwritableError(InputError):
    """A session file cannot be written: a full disk, a folder without the right to write."""


class OtherImageError(InputError):
    """A session file belongs to another image."""


class FetchError(InputError):
    """A file cannot be downloaded or stored: no network, full disk, damaged or unexpected content."""


class ProtocolError(InputError):
    """What came over the network is not what was agreed on: damaged, cut off, too large, or of another version."""


class ServerError(InputError):
    """A server cannot be reached, turns us away, or failed at its work; the sentence says what to do."""


class WeightsError(InputError):
    """Weights are missing, cannot be fetched, are damaged, or belong to another network."""


class NotReady(Exception):
    """What nobody waits for would take a long computation first (weights to load, a part to encode): so it is left."""


class Cancelled(Exception):
    """The user asked a running computation or download to stop; not an error to report."""
