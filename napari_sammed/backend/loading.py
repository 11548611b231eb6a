"""The models of a backend on this machine: loaded once, on first use, by the inference thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from napari_sammed.backend.base import Cancel, Progress
from napari_sammed.errors import InputError
from napari_sammed.models import registry
from napari_sammed.models.base import AutomaticModel, ModelCard, PromptableModel

Model: TypeAlias = PromptableModel | AutomaticModel
Files: TypeAlias = Path | Sequence[Path]
"""A weight file, or the files of a model whose weights come in several."""


class Models:
    """Models by registry name. All methods but `card` and `installed` belong to the inference thread.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "mps".
    precision : str
        "auto", "float32", "bfloat16" or "float16".
    weights : mapping of str to Path or sequence of Path
        Weight files of the user's own, by model name.
    loaded : mapping of str to model
        Models that are loaded already; they go before the registry's.
    """

    def __init__(self, device: str, precision: str, weights: Mapping[str, Files], loaded: Mapping[str, Model]) -> None:
        self._device = device
        self._precision = precision
        self._weights = dict(weights)
        self._loaded: dict[str, Model] = dict(loaded)

    def __getitem__(self, name: str) -> Model | None:
        """A model if it is loaded."""
        return self._loaded.get(name)

    def use(self, name: str, files: Files) -> None:
        """Load a model from the user's own weight files when it is next needed; from the official ones for none."""
        self._weights[name] = files
        if isinstance(files, Sequence) and not files:
            del self._weights[name]
        self._loaded.pop(name, None)

    def card(self, name: str) -> ModelCard:
        """What is known of a model; InputError if there is none of this name."""
        return self._loaded[name].card if name in self._loaded else registry.card(name)

    def installed(self, *, automatic: bool = False) -> tuple[str, ...]:
        """Models of prompts, or with `automatic` also others, whose weights are here or that need none; reads the disk.

        On any thread.
        """
        here = dict.fromkeys((*self._loaded, *self._weights))
        here |= {name: None for name in registry.names() if name not in here and registry.row(name).status != "absent"}
        known = [name for name in registry.names() if name in here]
        found = (*known, *(name for name in here if name not in known))
        return tuple(name for name in found if automatic or self.card(name).prompts)

    def promptable(self, name: str, cancel: Cancel | None, progress: Progress | None) -> PromptableModel:
        """A model that answers prompts, loaded now if need be.

        Raises
        ------
        InputError
            For a model that takes no prompts.
        WeightsError
        Cancelled
        """
        card = self.card(name)
        if not card.prompts:
            raise InputError(f"{card.title} takes no prompts, it labels a whole image at once: choose another model.")
        return self._get(name, cancel, progress)  # type: ignore[return-value]

    def automatic(self, name: str, cancel: Cancel | None, progress: Progress | None) -> AutomaticModel:
        """A model that needs no prompts, loaded now if need be; errors as of `promptable`."""
        card = self.card(name)
        if card.prompts:
            raise InputError(f"{card.title} needs prompts and names no classes: give it a click or a box instead.")
        return self._get(name, cancel, progress)  # type: ignore[return-value]

    def _get(self, name: str, cancel: Cancel | None, progress: Progress | None) -> Model:
        if name not in self._loaded:
            if progress is not None:
                progress(f"loading {name}", 0.0)

            def fetched(done: int, total: int | None) -> None:
                if progress is not None:
                    progress(f"fetching the weights of {name}", done / total if total else 0.0)

            device, precision = self._device_and_precision(name)
            self._loaded[name] = registry.load(name, self._weights.get(name), device, fetched, cancel, precision)
        return self._loaded[name]

    def _device_and_precision(self, name: str) -> tuple[str, str]:
        """By torch's names; models without weights need none, and so no torch."""
        if registry.card(name).weights is None:
            return "cpu", "float32"
        from napari_sammed.backend.devices import choose, choose_precision

        device = choose(self._device)
        return device, choose_precision(self._precision, device)


def notes_of(model: Model) -> tuple[str, ...]:
    """What the user of a loaded model should know of it, a sentence each."""
    return tuple(getattr(model, "notes", ()))
