"""The declaration of ``napari-sammed evaluate``; importing it imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sammed.commands.options import (
    Cluster,
    Device,
    GpusPerWorker,
    Insecure,
    Json,
    ServerCertificate,
    ServerUrl,
    Texts,
    YesUpload,
    crew_of,
    server_at,
)


def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder of images with labels: nnU-Net's layout, or a plain one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results and report.", metavar="DIR")],
    model: Annotated[
        Texts,
        typer.Option(help="Model, also with +propagation, or confidence-connected; may be repeated.", metavar="NAME"),
    ] = None,
    protocol: Annotated[str, typer.Option(help="What the simulated user does; see docs/evaluation.md.")] = "clicks",
    weights: Annotated[Texts, typer.Option(help="Weight file of your own for a model.", metavar="NAME=FILE")] = None,
    device: Device = "auto",
    case: Annotated[Texts, typer.Option(help="Only this case; may be repeated.", metavar="NAME")] = None,
    label: Annotated[list[int] | None, typer.Option(help="Only this label; may be repeated.", metavar="N")] = None,
    least_voxels: Annotated[int, typer.Option(help="Leave smaller structures out.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of what is drawn by lot.", min=0)] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes, each with models of its own: 1; on a cluster, as many as it can take.", min=1),
    ] = None,
    pictures: Annotated[bool, typer.Option(help="Show the worst cases in the report.")] = True,
    tolerance: Annotated[float | None, typer.Option(help="Of the surface Dice, in mm.", metavar="MM")] = None,
    remark: Annotated[str, typer.Option(help="A sentence for the report.", metavar="TEXT")] = "",
    server: ServerUrl = None,
    yes_upload: YesUpload = False,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    cluster: Cluster = None,
    gpus_per_worker: GpusPerWorker = None,
    as_json: Json = False,
) -> None:
    """Let simulated users measure models on a folder of images with labels; goes on where it was stopped."""
    from napari_sammed.commands.evaluate import Request, run

    run(
        Request(
            data=data,
            output=output,
            models=tuple(model or ()),
            protocol=protocol,
            weights=tuple(weights or ()),
            device=device,
            cases=tuple(case or ()),
            labels=tuple(label or ()),
            least_voxels=least_voxels,
            seed=seed,
            jobs=jobs,
            pictures=pictures,
            tolerance=tolerance,
            remark=remark,
            server=server_at(server, yes_upload, server_certificate, insecure),
            cluster=crew_of(cluster, gpus_per_worker, jobs, device),
            as_json=as_json,
        )
    )
