"""Options that several commands have; importing them imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sammed.errors import InputError

if TYPE_CHECKING:
    from napari_sammed.commands.servers import Server
    from napari_sammed.tasks import Crew

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16; auto takes what the device is fastest in.")
]
Weights = Annotated[Path | None, typer.Option(help="Weight file of your own for the model.", metavar="FILE")]
Window = Annotated[
    str | None,
    typer.Option(help="soft-tissue, lung, bone, brain, percentiles, as-is, or level,width.", metavar="WINDOW"),
]
Frame = Annotated[int | None, typer.Option(help="Which frame of a file with several, from 0.")]
Series = Annotated[str | None, typer.Option(help="Which DICOM series: its number or UID.")]
ServerUrl = Annotated[
    str | None, typer.Option(help="Have a server do the work: https://host, or a tunnel's.", metavar="URL")
]
YesUpload = Annotated[bool, typer.Option("--yes-upload", help="Send the image to the server without asking.")]
ServerCertificate = Annotated[
    Path | None, typer.Option(help="Certificate of a server that made its own.", metavar="FILE")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Take http to another machine, on a network that you trust.")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Use a Ray cluster: of this machine, ended with the command, or at HOST:PORT, or auto.",
        metavar="[ADDRESS]",
    ),
]
GpusPerWorker = Annotated[
    float | None, typer.Option(help="GPUs for each worker of a cluster, such as 0.5; default 1 if it has any.")
]
Texts = list[str] | None

NEW_CLUSTER = "here"
"""Stands for the address that --cluster was given without."""


def server_at(url: str | None, agreed: bool, certificate: Path | None, insecure: bool) -> Server | None:
    """The server that the options name; InputError for options of a server that none is named for."""
    from napari_sammed.commands.servers import Server

    if url is not None:
        return Server(url, agreed, certificate, insecure)
    if agreed or certificate is not None or insecure:
        raise InputError("--yes-upload, --server-certificate and --insecure belong to --server.")
    return None


def crew_of(address: str | None, gpus: float | None, workers: int | None, device: str) -> Crew | None:
    """The workers of a cluster that the options name; InputError for options of a cluster that none is named for."""
    from napari_sammed.tasks import Crew

    if address is not None:
        crew = Crew(None if address == NEW_CLUSTER else address, workers, gpus, device)
        crew.check()
        return crew
    if gpus is not None:
        raise InputError("--gpus-per-worker belongs to --cluster.")
    return None
