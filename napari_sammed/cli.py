"""The command ``napari-sammed``: declarations only; what the commands do is in `napari_sammed.commands`.

Exit status: 0 ok; 2 wrong usage or input, one plain line on stderr; 130 interrupted; 1 a defect. Importing this file
imports neither torch nor napari, so that help and tables come at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_sammed.commands.evaluate_options import evaluate
from napari_sammed.commands.finetune_options import finetune, recipes
from napari_sammed.commands.models_options import models_app
from napari_sammed.commands.options import (
    NEW_CLUSTER,
    Cluster,
    Device,
    Frame,
    GpusPerWorker,
    Insecure,
    Json,
    Precision,
    Series,
    ServerCertificate,
    ServerUrl,
    Texts,
    Weights,
    Window,
    YesUpload,
    crew_of,
    server_at,
)
from napari_sammed.errors import Cancelled, InputError

_USAGE = 2
_INTERRUPTED = 130

app = typer.Typer(
    name="napari-sammed",
    help="Interactive segmentation of medical images in 2D and 3D.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")

_ALL = "mask"  # stands for the box that --refine was given without
_NUMBERS = re.compile(r"[-+.\d][-+.\deE]*(,[-+.\deE]+)+")
_ADDRESS = re.compile(r"auto|[\w.\[\]:-]+:\d+")
_OPTIONAL = {"--refine": (_NUMBERS, _ALL), "--cluster": (_ADDRESS, NEW_CLUSTER)}  # values, and what stands for none


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; default ``sys.argv[1:]``.
    """
    from napari_sammed.commands.terminal import note, talking

    try:
        with talking():
            result = app(args=_with_values(argv), prog_name="napari-sammed", standalone_mode=False)
        status = result if isinstance(result, int) else 0
        if status == _INTERRUPTED:  # newer versions of typer catch Ctrl-C themselves
            note("napari-sammed: interrupted")
        return status
    except InputError as error:
        note(f"napari-sammed: {error}")
        return _USAGE
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        note("napari-sammed: interrupted")
        return _INTERRUPTED
    except Exception as error:
        # typer's usage errors: from its own copy of click or from an installed one, depending on its version
        if hasattr(error, "format_message"):
            note(f"napari-sammed: {error.format_message()} (see napari-sammed --help)")
            return _USAGE
        import traceback

        traceback.print_exc()
        return 1


def _with_values(argv: Sequence[str] | None) -> list[str]:
    """The arguments with values for options that were given without; typer has no optional values."""
    given = list(sys.argv[1:] if argv is None else argv)
    for place, word in enumerate(given):
        value, none = _OPTIONAL.get(word, (None, ""))
        if value is None:
            continue
        if place + 1 == len(given) or not value.fullmatch(given[place + 1]):
            given[place] = f"{word}={none}"
    return given


@app.callback()
def _program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        from napari_sammed import __version__
        from napari_sammed.commands.terminal import say

        say(__version__)
        raise typer.Exit


@app.command("segment")
def _segment(
    image: Annotated[Path, typer.Argument(help="NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF; DICOM file or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Mask to write.", metavar="MASK")],
    model: Annotated[str, typer.Option(help="See `models list`; auto chooses by image and prompt.")] = "auto",
    weights: Weights = None,
    device: Device = "auto",
    precision: Precision = "auto",
    point: Annotated[Texts, typer.Option(help="Voxel in the object; may be repeated.", metavar="I,J,K")] = None,
    negative: Annotated[Texts, typer.Option(help="Voxel outside of the object.", metavar="I,J,K")] = None,
    box: Annotated[
        Texts,
        typer.Option(help="Box around the object; the second corner is one past it.", metavar="I0,J0,K0,I1,J1,K1"),
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Coarse mask of the object, as a prompt.", metavar="FILE")] = None,
    ras: Annotated[bool, typer.Option("--ras", help="Points and boxes are millimetres in RAS.")] = False,
    each: Annotated[bool, typer.Option("--each", help="One object a box, with label values 1, 2, ...")] = False,
    mask_index: Annotated[
        int | None,
        typer.Option(help="Which mask, where the prompt can be read in several ways; 0 is the best.", metavar="N"),
    ] = None,
    propagate: Annotated[bool, typer.Option("--propagate", help="Go on through the stack, both ways.")] = False,
    refine: Annotated[
        str | None,
        typer.Option(
            help="Look closer, in this box or without one around the mask, and change nothing elsewhere.",
            metavar="[I0,J0,K0,I1,J1,K1]",
        ),
    ] = None,
    axis: Annotated[str | None, typer.Option(help="For slices: the axis across them.", metavar="i|j|k")] = None,
    window: Window = None,
    frame: Frame = None,
    series: Series = None,
    session: Annotated[
        Path | None, typer.Option(help="Keep everything in this file; continues it if it is there.", metavar="FILE")
    ] = None,
    server: ServerUrl = None,
    yes_upload: YesUpload = False,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    as_json: Json = False,
) -> None:
    """Segment one object of an image, or one for each box, from points, boxes or a coarse mask.

    IJK is the 0-based voxel index in the file's own axis order, first axis fastest; a flat image takes column,row.
    """
    from napari_sammed.commands.segment import Request, segment

    segment(
        Request(
            image=image,
            output=output,
            model=model,
            weights=weights,
            device=device,
            precision=precision,
            points=point or (),
            negatives=negative or (),
            boxes=box or (),
            mask=mask,
            ras=ras,
            each=each,
            mask_index=mask_index,
            propagate=propagate,
            refine=None if refine is None else "" if refine == _ALL else refine,
            axis=axis,
            window=window,
            frame=frame,
            series=series,
            session=session,
            server=server_at(server, yes_upload, server_certificate, insecure),
            as_json=as_json,
        )
    )


@app.command("auto")
def _auto(
    image: Annotated[Path, typer.Argument(help="As for `segment`; or a folder of images.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Label image to write; a folder for a folder.", metavar="LABELS")
    ],
    model: Annotated[str, typer.Option(help="A model that needs no prompts, see `models list`.")] = "samed",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weight file of your own; for samed also the SAM file it adds to.", metavar="FILE"),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    window: Window = None,
    frame: Frame = None,
    series: Series = None,
    server: ServerUrl = None,
    yes_upload: YesUpload = False,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    cluster: Cluster = None,
    gpus_per_worker: GpusPerWorker = None,
    jobs: Annotated[int | None, typer.Option(help="Workers on a cluster at most.", min=1)] = None,
    as_json: Json = False,
) -> int:
    """Give every voxel of an image a class, without prompts; or of all images of a folder, into another folder."""
    from napari_sammed.commands.auto import Request
    from napari_sammed.commands.auto_folder import run

    at = server_at(server, yes_upload, server_certificate, insecure)
    asked = Request(image, output, model, tuple(weights or ()), device, precision, window, frame, series, at, as_json)
    return run(asked, crew_of(cluster, gpus_per_worker, jobs, device))


@app.command("replay")
def _replay(
    session: Annotated[Path, typer.Argument(help="Session file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Label image to write.", metavar="MASK")],
    image: Annotated[Path | None, typer.Option(help="The image, if it is no longer where it was.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    server: ServerUrl = None,
    yes_upload: YesUpload = False,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    as_json: Json = False,
) -> None:
    """Ask everything in a session file again; gives the same masks with the same weights."""
    from napari_sammed.commands.replay import replay_session

    at = server_at(server, yes_upload, server_certificate, insecure)
    replay_session(session, output, image, device, weights, as_json, at)


app.command("evaluate")(evaluate)
app.command("finetune")(finetune)
app.command("recipes")(recipes)


@app.command("demo")
def _demo(
    headless: Annotated[bool, typer.Option("--headless", help="Write files instead of opening napari.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.", metavar="DIR")] = Path(
        "demo-output"
    ),
    server: ServerUrl = None,
    yes_upload: YesUpload = False,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    as_json: Json = False,
) -> None:
    """Segment a sample image: in napari, or into a mask, a picture and a line of figures."""
    from napari_sammed.commands.demo import demo

    demo(headless, output, as_json, server_at(server, yes_upload, server_certificate, insecure))


@app.command("serve")
def _serve(
    host: Annotated[
        str,
        typer.Option(help="Address to listen at, 0.0.0.0 for all; others than loopback need TLS."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.")] = 8765,
    data: Annotated[Path | None, typer.Option(help="Folder for images and journals.", metavar="DIR")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Hashed keys of clients; made with one key if absent.", metavar="FILE")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option(help="Make a key for somebody, print it, and end.", metavar="NAME")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.", metavar="FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", metavar="FILE")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Go without TLS, in a network that you trust.")] = False,
    name: Annotated[
        Texts, typer.Option(help="Name under which clients know the server; may be repeated.", metavar="NAME")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    model_weights: Annotated[
        Texts, typer.Option(help="Weight file of your own for a model; may be repeated.", metavar="NAME=FILE")
    ] = None,
    max_image: Annotated[float, typer.Option(help="GiB of the largest image.")] = 4,
    max_disk: Annotated[float, typer.Option(help="GiB of all images on disk.")] = 100,
    answers: Annotated[float, typer.Option(help="GiB of memory for answers to go on from.")] = 1,
    embeddings: Annotated[float, typer.Option(help="GiB of memory for encoded images.")] = 2,
    idle: Annotated[float, typer.Option(help="Minutes after which an unused session is put aside.")] = 60,
    keep: Annotated[float, typer.Option(help="Days after which unused images and journals are deleted.")] = 7,
    jobs: Annotated[int, typer.Option(help="Propagations and the like at once.", min=1)] = 4,
    cluster: Cluster = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas of the server; default: one a GPU.", min=1)] = None,
    min_replicas: Annotated[int | None, typer.Option(help="Replicas at rest.", min=1)] = None,
    max_replicas: Annotated[int | None, typer.Option(help="Replicas at most.", min=1)] = None,
    gpus_per_replica: Annotated[
        float | None, typer.Option(help="GPUs of one replica; 0.5 puts two on one GPU.", min=0)
    ] = None,
    sessions_per_replica: Annotated[
        int | None, typer.Option(help="Sessions above which there is to be another replica.", min=1)
    ] = None,
) -> int:
    """Answer the prompts of others with this machine's GPU, or those of a cluster; see docs/server.md."""
    from napari_sammed.commands.serve import Request, run

    return run(
        Request(
            data=data,
            host=host,
            port=port,
            key_file=key_file,
            new_key=new_key,
            tls_cert=tls_cert,
            tls_key=tls_key,
            insecure=insecure,
            names=tuple(name or ()),
            device=device,
            precision=precision,
            weights=tuple(model_weights or ()),
            max_image_gib=max_image,
            max_disk_gib=max_disk,
            answers_gib=answers,
            embeddings_gib=embeddings,
            idle_minutes=idle,
            keep_days=keep,
            jobs=jobs,
            cluster=cluster,
            replicas=replicas,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            gpus_per_replica=gpus_per_replica,
            sessions_per_replica=sessions_per_replica,
        )
    )


@app.command("doctor")
def _doctor(
    network: Annotated[bool, typer.Option("--network", help="Also try whether pip can reach its index.")] = False,
    server: Annotated[str | None, typer.Option(help="Also ask this server what it is.", metavar="URL")] = None,
    server_certificate: ServerCertificate = None,
    insecure: Insecure = False,
    as_json: Json = False,
) -> int:
    """Check that everything needed is here and works; exit status 1 if something essential does not."""
    from napari_sammed.commands.doctor import doctor

    return doctor(network, as_json, server_at(server, False, server_certificate, insecure))


if __name__ == "__main__":
    sys.exit(main())
