"""200 hostile names, wherever a name becomes a file: no file is touched outside the folder, as an audit sees it."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.formats import ome_zarr_labels  # noqa: F401  before the audit begins, like all that is imported late
from napari_sammed.geometry import Grid
from napari_sammed.models import registry
from napari_sammed.models import weights as store
from napari_sammed.prompts import MaskPrompt
from napari_sammed.series.state import Series
from napari_sammed.server.keys import add_key
from napari_sammed.server.settings import Settings
from napari_sammed.session import Session
from napari_sammed.session.separate_files import object_files, save_each
from napari_sammed.volume import Volume, write_volume
from tests.server.serving import Client, in_thread
from tests.thresholder import Thresholder

STARTS = [
    "../",
    "../../",
    "..\\",
    "%2e%2e/",
    "%2e%2e%2f",
    "/",
    "//server/share/",
    "\\\\server\\share\\",
    "C:\\",
    "~/",
    "./",
]
MIDDLES = ["etc/passwd", "outside", "a\x00b", "CON", "NUL.txt", "aux", "a" * 4096, "\u202egnp.exe", "sp ace ", "\n"]
MIDDLES += ["x/../../y"]
ODD = [
    "..",
    ".",
    "...",
    "-rf",
    "|sh",
    "$(sh)",
    "`sh`",
    "*",
    "?",
    "link/inside",
    "\ud800",
    "COM1",
    "LPT1.nii",
    "\r\nX: y",
]
NAMES = [
    *(start + middle for start, middle in itertools.product(STARTS, MIDDLES)),
    *(middle + end for middle, end in itertools.product(MIDDLES, ["", "/", "/..", ".jsonl", ":stream", "::$DATA"])),
    *ODD,
]
WRITING = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
}


class Audit:
    """What files were touched while it was on; hooks cannot be taken away, so there is one for all tests."""

    def __init__(self) -> None:
        self.on = False
        self.touched: list[tuple[str, str]] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple) -> None:
        if not self.on or (event != "open" and event not in WRITING):
            return
        for argument in arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]:
            if isinstance(argument, str | bytes | os.PathLike):
                self.touched.append((event, os.fsdecode(argument)))

    @contextlib.contextmanager
    def of(self) -> Iterator[list[tuple[str, str]]]:
        self.touched, self.on = [], True
        try:
            yield self.touched
        finally:
            self.on = False


AUDIT = Audit()
HARMLESS = tuple(Path(os.path.realpath(p)) for p in (sys.prefix, sys.base_prefix, "/proc", "/dev", "/sys", "/usr"))
"""Where Python itself, its modules and the machine are read."""
CODE = Path(__file__).resolve().parents[1] / "napari_sammed"


def outside(touched: list[tuple[str, str]], root: Path) -> list[tuple[str, Path]]:
    """What was touched that lies neither under the root nor where only code is read."""
    root = Path(os.path.realpath(root))
    seen = {(event, Path(os.path.realpath(name))) for event, name in set(touched)}
    return [
        (event, path)
        for event, path in seen
        if not path.is_relative_to(root)
        and not (event == "open" and (path.is_relative_to(CODE) or any(path.is_relative_to(h) for h in HARMLESS)))
    ]


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder with a link in it that leads outside, where something lies."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "inside").write_text("secret")
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "outside")
    return root


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def try_all(use: Callable[[str], object], root: Path) -> int:
    """Use each name; how many were refused."""
    above = root.parents[1]
    before = {path: data for path, data in everything(above).items() if not path.is_relative_to(root)}
    refused = 0
    with AUDIT.of() as touched:
        for name in NAMES:
            try:
                use(name)
            except InputError as error:
                assert "\n" not in str(error)
                refused += 1
    assert outside(touched, root) == []
    after = {path: data for path, data in everything(above).items() if not path.is_relative_to(root)}
    assert after == before
    return refused


def test_there_are_two_hundred_names_and_the_audit_sees_files(root):
    assert len(set(NAMES)) >= 200
    with AUDIT.of() as touched:
        (root / "link" / "inside").read_text()
        (root.parent / "made").mkdir()
    assert {event for event, _ in outside(touched, root)} == {"open", "os.mkdir"}


def test_names_of_objects(root):
    image = Volume(np.random.default_rng(0).integers(0, 99, (3, 6, 7)).astype(np.uint8), Grid.plain((3, 6, 7)))
    backend = LocalBackend("cpu", models={})
    files: set[Path] = set()
    with Session(image, backend) as session:
        label = session.take(MaskPrompt(np.ones((1, 2, 2), bool), (1, 2, 3)), "first")

        def use(name: str) -> None:
            session.rename(label, name)
            for number, ending in enumerate((".nii.gz", ".ome.zarr")):
                made = object_files({1: name}, root / f"scan{ending}")
                assert all(path.parent == root and len(os.fsencode(path.name)) <= 255 for path in made.values())
                if number == 0 and len(files) < 40:
                    files.update(save_each(session, root / f"scan{ending}"))

        try_all(use, root)
    backend.shutdown()
    assert files and all(path.parent == root and path.is_file() for path in files)


def test_names_of_models_and_weights(root, monkeypatch):
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(root / "cache"))
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(root))
    assert try_all(registry.card, root) == len(NAMES)
    assert try_all(lambda name: store.obtain(registry.card(name)), root) == len(NAMES)


def test_names_of_keys(root):
    assert try_all(lambda name: add_key(root / "keys", name), root) >= 180
    assert {path.name for path in root.iterdir()} <= {"keys", "link"}


def test_results_of_a_series(root):
    """Images whose names are as bad as file systems let them be, and a state file that names others."""
    image = Volume(np.random.default_rng(0).integers(0, 99, (3, 6, 7)).astype(np.uint8), Grid.plain((3, 6, 7)))
    write_volume(image, root / "good.nii.gz")
    odd = {name.replace("/", "_").replace("\x00", "_")[:100] for name in NAMES}
    for name in odd - {"", ".", ".."}:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            (root / f"{name}.nii.gz").write_bytes((root / "good.nii.gz").read_bytes())
    series = Series(root)
    assert len(series.entries) > 50
    for entry in series.entries:
        for path in (series.session_file(entry), series.label_file(entry, ".nii.gz")):
            assert path.parent == series.results and len(os.fsencode(path.name)) <= 255


def test_ids_at_a_server(root):
    """As they are, and percent-encoded, in addresses and in what is sent."""
    backend = LocalBackend("cpu", models={"thresholder": Thresholder()})
    with in_thread(Settings(root / "data"), backend) as url:
        client = Client(url)
        client.http.get("/v1/info")
        routes = ("/v1/sessions/{}", "/v1/sessions/{}/journal", "/v1/jobs/{}/events", "/v1/images/{}")
        paths = itertools.cycle(routes)

        def use(name: str) -> None:
            quoted = urllib.parse.quote(name, safe="", errors="surrogatepass")[:6000]
            path = next(paths).format(quoted)
            assert 400 <= client.http.get(path).status_code < 500
            if name in NAMES[::20]:
                assert client.http.put(f"/v1/images/{quoted}", content=b"x").status_code in range(400, 500)
            with contextlib.suppress(UnicodeEncodeError):
                reply = client.http.post("/v1/sessions", json={"image": name})
                assert 400 <= reply.status_code < 500, reply.text

        assert try_all(use, root) == 0
        assert client.http.get("/v1/health").status_code == 200
