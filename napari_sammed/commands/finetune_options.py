"""The declaration of ``napari-sammed finetune``; importing it imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sammed.commands.options import Cluster, Device, Texts, Weights

Events = Annotated[bool, typer.Option("--json", help="Print one JSON object a line on stdout, and nothing else.")]


def recipes(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """What models can learn from your own images, and how: the recipes of `finetune`."""
    from napari_sammed.commands.finetune import show_recipes

    show_recipes(as_json)


def finetune(
    data: Annotated[Path, typer.Argument(help="Folder of images with labels; see docs/training.md.")],
    recipe: Annotated[str, typer.Option(help="What learns what, see `napari-sammed recipes`.", metavar="NAME")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; the same one goes on.", metavar="DIR")
    ],
    base: Annotated[str | None, typer.Option(help="Model to begin with.", metavar="MODEL")] = None,
    weights: Weights = None,
    structures: Annotated[
        Texts,
        typer.Option(
            help="Only these: names, patterns such as rib_*, or label values, separated by commas.", metavar="NAMES"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="How often weights are changed.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Examples at a step, on each device.", min=1)] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate, at its highest.")] = None,
    settings: Annotated[
        Texts, typer.Option("--set", help="Another setting of the recipe; may be repeated.", metavar="NAME=VALUE")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="The published constants, made for clusters.")] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn by lot.", min=0)] = 0,
    held_out: Annotated[
        float, typer.Option(help="Share of the patients that is kept to measure with.", metavar="SHARE")
    ] = 0.2,
    patients: Annotated[
        str | None,
        typer.Option(
            help="Regular expression whose group says whose image it is, such as '(p\\d+)_'.", metavar="PATTERN"
        ),
    ] = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="GPUs of this machine or of the cluster, or processes.", min=1)] = 1,
    cluster: Cluster = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16; weights stay in float32.")] = "float32",
    accumulate: Annotated[int | None, typer.Option(help="Batches to a step, one after the other.", min=1)] = None,
    patience: Annotated[
        int | None, typer.Option(help="Measures without a better Dice after which it ends; 0 for never.", min=0)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the tuned model; else that of the folder.", metavar="NAME")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Leave out tiny masks of volumes, and pieces; left and right apart.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End at data that cannot be learnt from.")] = False,
    check_only: Annotated[bool, typer.Option("--check-only", help="Check the data, and end.")] = False,
    as_json: Events = False,
) -> None:
    """Have a model learn from your own images and labels; goes on where it was stopped."""
    from napari_sammed.commands.finetune import Request, run, structures_of

    run(
        Request(
            data=data,
            recipe=recipe,
            output=output,
            base=base,
            weights=weights,
            structures=structures_of(structures or ()),
            steps=steps,
            batch=batch,
            rate=rate,
            settings=tuple(settings or ()),
            published=published,
            seed=seed,
            held_out=held_out,
            patients=patients,
            device=device,
            devices=devices,
            cluster=cluster,
            precision=precision,
            accumulate=accumulate,
            patience=patience,
            name=name,
            clean=clean,
            strict=strict,
            check_only=check_only,
            as_json=as_json,
        )
    )
