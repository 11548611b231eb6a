"""What is to be learnt, as the dock asks for it: the options of ``napari-sammed finetune``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_sammed.errors import InputError


@dataclass(frozen=True)
class Wish:
    """One run.

    Parameters
    ----------
    data, out : str
        Folder that is learnt from, and that of the run.
    recipe, base, name : str
    structures : tuple of str
        Empty for all.
    steps : int
        0 for what the recipe says.
    rate : float
        Learning rate; 0 for what the recipe says.
    held_out : float
        Share of the patients that is kept to measure with.
    seed : int
    device : str
    patients : str
        Regular expression whose group says whose image it is; may be empty.
    """

    data: str
    out: str
    recipe: str
    base: str
    name: str
    structures: tuple[str, ...] = ()
    steps: int = 0
    rate: float = 0.0
    held_out: float = 0.2
    seed: int = 0
    device: str = "auto"
    patients: str = ""

    def arguments(self, *, check_only: bool = False) -> list[str]:
        """Of ``napari-sammed``; each value is an argument of its own, whatever is in it."""
        given: list[str] = ["finetune", "--json"]
        given += [f"--recipe={self.recipe}", f"--output={self.out}", f"--base={self.base}", f"--name={self.name}"]
        given += [f"--structures={name}" for name in self.structures]
        given += [f"--held-out={self.held_out:g}", f"--seed={self.seed}", f"--device={self.device}"]
        given += [f"--steps={self.steps}"] if self.steps else []
        given += [f"--rate={self.rate:g}"] if self.rate else []
        given += [f"--patients={self.patients}"] if self.patients else []
        given += ["--check-only"] if check_only else []
        return [*given, "--", self.data]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Wish:
        """What `to_json` has written.

        Raises
        ------
        InputError
            If it makes no sense.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            known = {field.name for field in fields(cls)}
            values = {key: value for key, value in content.items() if key in known}
            return cls(**{**values, "structures": tuple(values.get("structures", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"What was asked for cannot be read ({error}).") from None
