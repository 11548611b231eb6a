"""What is to be tuned, on what and how: plain values, which other processes and a later day understand as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sammed.errors import InputError
from napari_sammed.models import sums
from napari_sammed.models.storage import put_in_place
from napari_sammed.training import recipes
from napari_sammed.training.preparing import Options, Prepared, prepare
from napari_sammed.training.runs import Run

if TYPE_CHECKING:
    from napari_sammed.backend.base import Cancel, Progress
    from napari_sammed.training.fitting import Task

FILE = "order.json"
"""In the folder of a run: what it is about."""

PARTS = "parts.json"
"""And which cases are learnt from, and which are kept to measure with."""


@dataclass(frozen=True)
class Order:
    """A tuning.

    Parameters
    ----------
    data : Path
        Folder of images and labels.
    recipe, base : str
        Names.
    weights : Path
        Of the base.
    name : str
        Of what comes out.
    options : Options
        Of the data.
    settings : Any
        The recipe's dataclass.
    run : Run
        Its `out` is the folder of the tuning.
    config : mapping, optional
        Values of the network that differ from the published size; for tests.
    """

    data: Path
    recipe: str
    base: str
    weights: Path
    name: str
    options: Options
    settings: Any
    run: Run
    config: Mapping[str, Any] | None = None

    @property
    def out(self) -> Path:
        return self.run.out

    def describe(self) -> dict[str, Any]:
        """What decides the outcome, ready for JSON."""
        run = {name: getattr(self.run, name) for name in ("seed", "accumulate", "clip", "average", "precision")}
        said = {
            "data": str(self.data.absolute()),
            "recipe": self.recipe,
            "base": self.base,
            "sha256 of its weights": sums.sha256_of(self.weights),
            "options of the data": asdict(self.options),
            "settings": asdict(self.settings),
            **run,
        }
        return json.loads(json.dumps(said, default=str))


def begin(order: Order) -> None:
    """Note in the folder what it is about; InputError if it is about something else."""
    path, said = order.out / FILE, order.describe()
    if path.exists():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): choose another folder.") from None
        for key in said:
            if _lasting(before.get(key)) != _lasting(said[key]):
                raise InputError(
                    f"{order.out} holds a run with other {_words(key)} ({_difference(before.get(key), said[key])}): "
                    "give the same to go on with it, or choose another folder."
                )
        return
    write_whole(path, json.dumps(said, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Have a file in the folder of a run say something, wholly or not at all; InputError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        put_in_place(part, path)
    except OSError as error:
        raise InputError(f"The folder {path.parent} cannot be used: {error.strerror}.") from None


def keep_parts(order: Order, found: Prepared) -> None:
    """Note what is learnt from; InputError if a case that was would be measured with now, since data have changed."""
    path = order.out / PARTS
    now = {
        "train": sorted(example.name for example in found.material.train),
        "held_out": sorted(example.name for example in found.material.held_out),
    }
    try:
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else now
        seen = {*before["train"], *now["train"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}): choose another folder.") from None
    moved = sorted(seen & set(now["held_out"]))
    if moved:
        raise InputError(
            f"The data have changed since {order.out} was begun: {moved[0]} was learnt from, and would now be measured "
            "with, which would be too good. Put the data back, or choose another folder."
        )
    write_whole(path, json.dumps({"train": sorted(seen), "held_out": now["held_out"]}, indent=1) + "\n")


def prepared(order: Order, *, progress: Progress | None = None, cancel: Cancel | None = None) -> Prepared:
    """The data, decoded once and then kept in the folder of the run."""
    return prepare(order.data, order.options, order.out / "data", progress=progress, cancel=cancel)


def make_task(order: Order, found: Prepared | None = None) -> Task:
    """What is learnt, with the weights of the base; the same in every process."""
    import torch

    chosen = recipes.recipe(order.recipe)
    found = found or prepared(order)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(order.run.seed)  # of tensors that the base does not have
        network = recipes.make_network(
            chosen,
            order.base,
            order.weights,
            len(set(found.material.names.values())),
            getattr(order.settings, "rank", 0),
            order.config,
        )
        return chosen.make(network, found.material, order.settings)


def _lasting(value: Any) -> Any:
    """But for the length, which may be another when a run is gone on with."""
    return {key: each for key, each in value.items() if key != "steps"} if isinstance(value, dict) else value


def _words(key: str) -> str:
    if key in ("base", "sha256 of its weights"):
        return "weights to begin with"
    return key if key.endswith(("s", "data")) else f"{key}s"


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        key = next((key for key in {**now, **before} if before.get(key) != now.get(key) and key != "steps"), "")
        return f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
    return f"{before} there, {now} now"
