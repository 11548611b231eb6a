"""What a user can do in a session, what an object looks like after it, and what listeners hear of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window

Deed: TypeAlias = Literal[
    "object",
    "prompt",
    "remove",
    "replace",
    "choose",
    "adopt",
    "propagate",
    "refine",
    "take",
    "edit",
    "clear",
    "rename",
    "classify",
    "recolour",
    "show",
    "lock",
    "move",
    "duplicate",
    "merge",
    "overlap",
    "settle",
    "delete",
]


@dataclass(frozen=True)
class Action:
    """One thing that the user did.

    Parameters
    ----------
    id : int
        Number in the session, rising from 0.
    do : str
        "object" starts one, "prompt", "remove" and "replace" (an earlier prompt), "choose" (another reading of an
        answer), "adopt" (another model's answer to the standing prompts), "propagate" (through the stack), "refine" (a
        part, by looking closer), "take" (a mask over from elsewhere), "edit" (by hand), "clear" (its prompts and mask),
        "rename", "classify", "recolour", "show" (or hide), "lock" (or unlock), "move" (in the list), "duplicate"
        (another object), "merge" (others into this one), "overlap" (another rule), "settle" (voxels that two
        objects claim), "delete".
    label : int
        The object's value in label images, from 1; 0 for "overlap", which is about all of them.
    name : str
        The new name; for "classify" the class, for "recolour" ``#rrggbb``, for "overlap" the rule.
    prompt : Prompt, optional
        For "prompt" and "replace".
    model : str
        Who is asked; empty if nobody is.
    window : Window, optional
        For questions: how grey values were mapped.
    region : Box, optional
        For questions: the slice or part they are answered in. For "propagate": hard limits. For "edit": its place.
    axis : int, optional
        For "propagate", "refine" and "adopt": across the slices.
    slices : tuple of (int, int)
        For "propagate": ranges of slices that are asked about, each the first and one past the last; empty for all.
    zoom : bool
        For questions: `region` is looked at closer, starting from the mask as it is.
    target : int, optional
        Id of another action: the "prompt" that "remove" and "replace" are about, the question that "choose" is about.
    reading : int, optional
        For "choose": which one of the answer's readings, 0 is the model's own choice.
    on : bool, optional
        For "show" and "lock": or the contrary.
    position : int, optional
        For "move": place in the list without the object itself, from 0.
    sources : tuple of int
        Labels of other objects: which one is duplicated, which ones are merged into this one, which one gets the voxels
        that this one loses by "settle".
    part : MaskPrompt, optional
        For "settle": the voxels. For "edit": those that it changed, if they stay as painted whatever models say.
    beside : tuple of (int, Point)
        For questions: labels of finished neighbours, and negative points in them that go along.
    """

    id: int
    do: Deed
    label: int
    name: str = ""
    prompt: Prompt | None = None
    model: str = ""
    window: Window | None = None
    region: Box | None = None
    axis: int | None = None
    slices: tuple[tuple[int, int], ...] = ()
    zoom: bool = False
    target: int | None = None
    reading: int | None = None
    on: bool | None = None
    position: int | None = None
    sources: tuple[int, ...] = ()
    part: MaskPrompt | None = None
    beside: tuple[tuple[int, Point], ...] = ()

    @property
    def asks(self) -> bool:
        """Whether a backend has to answer."""
        return bool(self.model)

    @property
    def key(self) -> tuple[object, ...]:
        """Questions of one key ask the same about an object, so that the newest makes the others needless."""
        kind = "propagate" if self.do == "propagate" else "zoom" if self.zoom else "prompt"
        return (kind, self.label, self.model, self.region, self.slices)


@dataclass(frozen=True)
class ObjectState:
    """One segmented thing as it stands.

    Parameters
    ----------
    label : int
    name : str
    prompts : Prompts
        Since the object was last cleared.
    mask : MaskPrompt or None
        None while there is none.
    score : float
        Of the latest answer; NaN if none.
    readings : tuple of float
        Scores of all readings of the latest answer, the model's own choice first; one or none if it was not ambiguous.
    reading : int
        Which of them the mask shows.
    kind : str
        Its class in the user's words; empty if none was given.
    colour : str
        ``#rrggbb``.
    visible : bool
        Whether faces show it; it is saved either way.
    locked : bool
        Whether it is protected from every change of its voxels and prompts.
    """

    label: int
    name: str
    prompts: Prompts = field(default_factory=Prompts)
    mask: MaskPrompt | None = None
    score: float = float("nan")
    readings: tuple[float, ...] = ()
    reading: int = 0
    kind: str = ""
    colour: str = ""
    visible: bool = True
    locked: bool = False


@dataclass(frozen=True)
class Change:
    """Something that the listeners may want to show.

    Parameters
    ----------
    labels : tuple of int
        Objects concerned.
    box : Box or None
        Part of the image where masks may have changed; None if only prompts, names or the list of objects did.
    """

    labels: tuple[int, ...]
    box: Box | None
