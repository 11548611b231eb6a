"""Archives that would write outside, and hostile files given to every loader: nothing appears, nothing runs."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sammed import cli
from napari_sammed.errors import FetchError, InputError
from napari_sammed.models import identify, registry, wheels
from napari_sammed.models.checkpoints import read_tensors
from napari_sammed.segments import read_segments
from napari_sammed.session.journal_files import summary
from napari_sammed.volume import read_volume
from tests.models.cards import PUBLISHED, write_wheel
from tests.models.files import SENTINEL, repacked
from tests.models.test_checkpoints import BAD
from tests.models.test_pickles import HOSTILE

MEMBER = "toy/asset/toy_net.pth"
SLIPS = [
    "../escaped.pth",
    "../../escaped.pth",
    "toy/../../escaped.pth",
    "/tmp/napari-sammed-escaped.pth",
    "..\\escaped.pth",
    "C:\\escaped.pth",
    "//server/share/escaped.pth",
    "toy/..",
    "..",
    "toy/\u202egnp.pth/../../../escaped.pth",
    "./../escaped.pth",
    "toy/link/escaped.pth",
]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder deep enough to be climbed out of; hostile pickles leave their trace in it."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(deep / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    return deep


@pytest.mark.parametrize("name", SLIPS)
def test_members_of_wheels_stay_inside(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the wanted one, and where the hostile one is wanted itself; and a link that the others go through."""
    wheel = write_wheel(folder / "wheels", {MEMBER: PUBLISHED, name: b"hostile"})
    with zipfile.ZipFile(wheel, "a") as archive:
        link = zipfile.ZipInfo("toy/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path))
    monkeypatch.setattr(wheels, "_download_wheel", lambda *_: wheel)
    before = tree(tmp_path)
    found = wheels.fetch_wheel_members("toy-tools", "1.0", {MEMBER: None}, folder / "target")
    assert found[MEMBER].read_bytes() == PUBLISHED
    try:
        got = wheels.fetch_wheel_members("toy-tools", "1.0", {name: None}, folder / "own")[name]
        assert got.parent == folder / "own"
    except FetchError as error:
        assert "\n" not in str(error)
    new = {path for path in tree(tmp_path) - before if not path.startswith(("a/b/c/target", "a/b/c/own"))}
    assert new == set() and not Path("/tmp/napari-sammed-escaped.pth").exists()
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def legacy_tar() -> bytes:
    """What torch before 0.1.10 wrote: a tar of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("sys_info", b"\x80\x02}."), ("pickle", HOSTILE["reduce"]), ("../escaped", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def npz_of_objects() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.npy", BAD["object_array"][0]())
    return buffer.getvalue()


EXECUTING = ("bare_pickle", "code_in_archive", "code_in_old_format", "object_array", "zip_bomb")
FILES: dict[str, Callable[[], bytes]] = {
    **{kind: lambda kind=kind: repacked(data_pkl=HOSTILE[kind]) for kind in list(HOSTILE)[:12]},
    **{f"bare {kind}": lambda kind=kind: HOSTILE[kind] for kind in ("reduce", "instance", "object", "evaluated")},
    **{kind: BAD[kind][0] for kind in EXECUTING},
    "legacy tar": legacy_tar,
    "npz of objects": npz_of_objects,
}
LOADERS: dict[str, Callable[[Path], object]] = {
    "read_tensors": read_tensors,
    "identify": lambda path: identify.identify_file(path),
    **{
        name: lambda path, name=name: registry.load(name, path)
        for name in registry.names()
        if registry.card(name).weights
    },
    "read_volume": read_volume,
    "read_segments": read_segments,
    "summary": summary,
}
ENDINGS = [".pth", ".pt", ".safetensors", ".npy", ".npz", ".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".tif", ".png"]


def test_there_are_twenty_of_them_and_they_would_act(folder: Path) -> None:
    assert len(FILES) >= 20 and len(LOADERS) >= 10
    torch.load(io.BytesIO(FILES["code_in_archive"]()), weights_only=False)
    assert Path(SENTINEL).exists()
    Path(SENTINEL).unlink()
    np.load(io.BytesIO(FILES["object_array"]()), allow_pickle=True)
    assert Path(SENTINEL).exists()


@pytest.mark.parametrize("kind", FILES)
def test_no_loader_runs_anything(kind: str, folder: Path) -> None:
    content = FILES[kind]()
    for number, (name, load) in enumerate(LOADERS.items()):
        endings = ENDINGS if name in ("read_volume", "read_tensors") else [ENDINGS[number % 3]]
        for ending in endings:
            path = folder / f"own{ending}"
            path.write_bytes(content)
            with pytest.raises(InputError) as error:
                load(path)
            assert "\n" not in str(error.value), (name, ending)
            path.unlink()
    assert not Path(SENTINEL).exists() and tree(folder) <= {"cache", "cache/weights"}


def test_the_command_line_runs_nothing_either(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "own.pth").write_bytes(FILES["code_in_archive"]())
    (folder / "own.npy").write_bytes(FILES["object_array"]())
    for command in (
        ["models", "verify", "medsam", "--weights", "own.pth"],
        ["segment", "own.npy", "-o", "m.nii.gz", "--model", "random-walker", "--point", "1,1,1"],
        ["replay", "own.pth", "-o", "m.nii.gz"],
        ["evaluate", "own.npy"],
    ):
        assert cli.main(command) == 2
        capsys.readouterr()
    assert not Path(SENTINEL).exists()
