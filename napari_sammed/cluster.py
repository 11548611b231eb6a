"""Ray, started or joined so that nobody else gets in: for whatever runs on several GPUs or machines.

Whoever reaches an open Ray cluster can run programs in it. One that is started here therefore asks for a token, listens
at this machine's loopback address only, keeps its files where nobody else can read them, and reports to nobody.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from napari_sammed.errors import InputError

_LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # on Linux, too: every port of Ray's is at loopback then
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_MODE, _TOKENS = "RAY_AUTH_MODE", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_JOINING = (
    "The program has to run on a machine of the cluster, and to have the cluster's token in ~/.ray/auth_token, or "
    "where RAY_AUTH_TOKEN_PATH says."
)
_ANSWERS = 5.0  # seconds within which a cluster takes a connection


@contextlib.contextmanager
def joined(address: str | None, cpus: int | None = None, *, logs: bool = True) -> Iterator[None]:
    """Be part of a Ray cluster, which ends with the block if it was started here.

    Import nothing of Ray before: it reads its environment then.

    Parameters
    ----------
    address : str or None
        ``HOST:PORT`` of a cluster that this machine is part of, or ``auto`` to have it found; its token lies in
        ``~/.ray/auth_token``, or where Ray's environment variables say. None starts one here.
    cpus : int, optional
        That Ray may give away on a cluster that is started here. Default: all.
    logs : bool
        Whether what the cluster's processes print comes out here.

    Raises
    ------
    InputError
        Without Ray; for a cluster that cannot be reached, or does not accept the token; where Ray's authentication is
        switched off for a cluster that is to be started.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError('Work on a cluster needs Ray: pip install "napari-sammed[cluster]".')
    os.environ.update(_QUIET)
    if address is None:
        with _started(cpus, logs):
            yield
        return
    os.environ.setdefault(_MODE, "token")
    if address != "auto":
        _check_answers(address)
        if _is_at_loopback_only(address):
            os.environ.update(_LOOPBACK_ONLY)
    _connect(f"The Ray cluster at {address} cannot be joined", _JOINING, address=address, log_to_driver=logs)
    try:
        yield
    finally:
        _end()


@contextlib.contextmanager
def _started(cpus: int | None, logs: bool) -> Iterator[None]:
    if os.environ.setdefault(_MODE, "token") != "token":
        raise InputError(
            f"{_MODE} is {os.environ[_MODE]!r}, so that everybody who reaches a Ray cluster here could run programs in "
            "it: unset it."
        )
    _need_token()
    before = {name: os.environ.get(name) for name in _LOOPBACK_ONLY}
    os.environ.update(_LOOPBACK_ONLY)
    # Ray's own default can be read by all users: its logs, and the sockets through which images go. Not in TMPDIR,
    # whose path may be too long for the name of a socket.
    folder = Path(tempfile.mkdtemp(prefix="sammed-ray-", dir="/tmp" if os.name == "posix" else None))
    try:
        # Ray opens the folder that it is given to everybody, but nobody gets through the one around it.
        inner = str(folder / "ray")
        start = {"num_cpus": cpus, "include_dashboard": False, "_temp_dir": inner, "log_to_driver": logs}
        _connect("No Ray cluster can be started here", "See docs/cluster.md.", **start)
        try:
            _check_loopback()
            yield
        finally:
            _end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _connect(what: str, advice: str, **how: object) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(logging_level=logging.WARNING, **how)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        _end()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise InputError(f"{what}: {reason}. {advice}") from None


def _check_answers(address: str) -> None:
    """Refuse where nothing listens, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise InputError(f"The address of a Ray cluster looks like 192.0.2.7:6379, or is auto, not {address!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"There is no Ray cluster at {address}: {reason}. `ray start` begins one.") from None


def _is_at_loopback_only(address: str) -> bool:
    """Whether a cluster is for this machine only, so that Ray has to be told not to look for it at another address."""
    host, _, port = address.rpartition(":")
    if host.strip("[]") not in ("localhost", "127.0.0.1", "::1"):
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outwards:
            outwards.connect(("192.0.2.1", 9))  # sends nothing
            own = outwards.getsockname()[0]
        socket.create_connection((own, int(port)), _ANSWERS).close()
    except OSError:
        return True
    return False


def _end() -> None:
    import ray

    ray.shutdown()


def _check_loopback() -> None:
    import ray

    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if not addresses <= {"127.0.0.1", "::1"}:
        raise InputError(
            f"Ray would listen at {', '.join(sorted(addresses))}, where others can reach it, because it was imported "
            "before it was told not to: start the cluster from a new process."
        )


def _need_token() -> None:
    """Have a token where all programs of this user find it, and nobody else does."""
    if any(os.environ.get(name) for name in _TOKENS):
        return
    path = Path.home() / ".ray" / "auth_token"
    if path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:  # another program of this user was faster
        pass
    except OSError as error:
        raise InputError(f"The token for Ray cannot be written to {path}: {error.strerror}.") from None
