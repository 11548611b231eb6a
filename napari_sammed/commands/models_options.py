"""The commands ``napari-sammed models ...``: declarations only; what they do is in `napari_sammed.commands.models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sammed.commands.options import Json, Weights

models_app = typer.Typer(help="The models and their weights.", invoke_without_command=True)


@models_app.callback()
def _models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _models_list()


@models_app.command("list")
def _models_list(as_json: Json = False) -> None:
    """All models, and which weights are on this machine."""
    from napari_sammed.commands.models import list_models

    list_models(as_json)


@models_app.command("pull")
def _models_pull(
    name: str,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept a licence that limits the use of the weights.")
    ] = False,
) -> None:
    """Fetch the weights of a model into the user's cache."""
    from napari_sammed.commands.models import pull

    pull(name, accept_licence)


@models_app.command("verify")
def _models_verify(
    name: Annotated[str | None, typer.Argument()] = None, weights: Weights = None, as_json: Json = False
) -> None:
    """Check the weights of a model, or of all that are on this machine; with --weights, whether your file fits."""
    from napari_sammed.commands.models import verify

    verify(name, weights, as_json)


@models_app.command("show")
def _models_show(name: str, as_json: Json = False) -> None:
    """What a model is for, where its weights come from, licences, citation."""
    from napari_sammed.commands.models import show

    show(name, as_json)


@models_app.command("add")
def _models_add(
    file: Annotated[Path, typer.Argument(help="A tuned file, as `finetune` writes them.", metavar="FILE")],
    name: Annotated[str | None, typer.Option(help="Other than the one in the file.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Take a tuned model in: a copy of its file, which every command, napari and 3D Slicer then know by its name."""
    from napari_sammed.commands.models import add

    add(file, name, as_json)


@models_app.command("remove")
def _models_remove(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the copy of a tuned model's file that `models add` made; other models stay."""
    from napari_sammed.commands.models import remove

    remove(name, yes, as_json)


@models_app.command("identify")
def _models_identify(
    file: Annotated[Path, typer.Argument(help="Weight file of any origin.", metavar="FILE")], as_json: Json = False
) -> None:
    """Say which system, size and variant a weight file is."""
    from napari_sammed.commands.models import identify

    identify(file, as_json)


@models_app.command("path")
def _models_path(name: str) -> None:
    """Where the weights of a model lie."""
    from napari_sammed.commands.models import path

    path(name)
