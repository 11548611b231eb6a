"""``napari-sammed replay``: everything in a session file is asked again."""

from __future__ import annotations

from pathlib import Path

from napari_sammed.commands.common import amount, check_output, check_source
from napari_sammed.commands.servers import Server, backend_for, told
from napari_sammed.commands.terminal import bar, say, say_json
from napari_sammed.errors import InputError
from napari_sammed.models import registry
from napari_sammed.session.history import History, ObjectState
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import overlap_of, refill, replay
from napari_sammed.session.saving import prepared
from napari_sammed.volume import read_volume


def replay_session(
    path: Path,
    output: Path,
    image: Path | None,
    device: str,
    weights: Path | None,
    as_json: bool,
    server: Server | None = None,
) -> None:
    """Ask everything in a session file again, write the labels, and say whether they equal the stored answers.

    Raises
    ------
    InputError
    """
    check_output(output)
    header, entries = read_journal(path)
    source = header.get("source") or {}
    if image is None:
        if not source.get("path"):
            raise InputError(f"The session {path} does not say where its image is: name it with --image.")
        image = Path(source["path"])
    volume = read_volume(image, frame=source.get("frame"), series=source.get("series"))
    check_source(output, volume)
    used = dict.fromkeys(entry["model"] for entry in entries if entry.get("model") and "do" in entry)
    own = {} if weights is None else {name: weights for name in used if registry.card(name).weights is not None}
    with backend_for(told(volume), server, device, own) as backend, bar() as progress:
        history = replay(path, volume, backend, progress=progress)
    stored = History(volume.grid.box, overlap_of(header))
    refill(stored, entries)
    masks = {label: state.mask for label, state in history.objects.items()}
    identical = masks == {label: state.mask for label, state in stored.objects.items()}
    prepared(history, volume, output)()
    objects = [
        {"label": state.label, "name": state.name, **amount(_voxels(history, state), volume.grid)}
        for state in history.objects.values()
    ]
    if as_json:
        say_json({"output": str(output), "identical": identical, "objects": objects})
        return
    for entry in objects:
        say(f"{entry['label']} {entry['name']}: {entry['voxels']:,} voxels")
    agree = "identical to the stored answers" if identical else "NOT identical to the stored answers"
    say(f"{output}: {len(objects)} objects, {agree}")


def _voxels(history: History, state: ObjectState) -> int:
    """Voxels that an object has where others overlap it."""
    return 0 if state.mask is None else int((history.labels(state.mask.extent) == state.label).sum())
