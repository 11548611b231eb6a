"""Installing what segmenting needs into Slicer's own Python, on the user's click only.

PyTorch comes through the PyTorch extension, which knows the machine's GPU, and only where this computer is to run
networks: whoever segments at a server does without. The rest comes from the Python package index, never with PyTorch.
Slicer's own numpy, SimpleITK and VTK are never replaced: they are left out where that is possible, and pinned to what
is there in any case.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import slicer

from .serving import segments_here
from .texts import tr

KEPT = ("numpy", "SimpleITK", "vtk")
"""Packages that Slicer brings and must keep as they are."""

TORCH = ">=2.6"
"""What PyTorch is asked for; earlier ones can be made to run code even when told to load weights only."""

REQUESTER = "SAMMed"
PACKAGE = "napari-sammed"


class InstallError(RuntimeError):
    """Something cannot be installed; the text is for the user."""


class Tools(Protocol):
    """What Slicer offers for installing; tests record what is called."""

    def version(self, package: str) -> str | None:
        """The installed version of a package; None if it is not there."""

    def requires(self, package: str) -> list[str]:
        """What an installed package requires, as in its metadata."""

    def torch_extension(self) -> Any | None:
        """The logic of the PyTorch extension; None without it."""

    def packaging(self) -> Any | None:
        """The module ``slicer.packaging`` (Slicer 5.12); None without it."""

    def pip_install(self, arguments: list[str]) -> None:
        """Run pip, on the main thread (``slicer.util.pip_install``)."""


class SlicerTools:
    """The tools of the running Slicer."""

    def version(self, package: str) -> str | None:
        importlib.invalidate_caches()
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def requires(self, package: str) -> list[str]:
        return importlib.metadata.requires(package) or []

    def torch_extension(self) -> Any | None:
        try:
            return importlib.import_module("PyTorchUtils").PyTorchUtilsLogic()
        except ImportError:
            return None

    def packaging(self) -> Any | None:
        try:
            module = importlib.import_module("slicer.packaging")
        except ImportError:
            return None
        return module if hasattr(module, "pip_ensure") else None

    def pip_install(self, arguments: list[str]) -> None:
        slicer.util.pip_install(arguments)


class Installer:
    """Says what is missing, and installs it.

    Parameters
    ----------
    requirements : Path
        File of the packages that are needed, a line each.
    tools : Tools, optional
        Default: those of the running Slicer.
    here : callable, optional
        Whether this computer is to run networks.
    """

    def __init__(
        self, requirements: Path, tools: Tools | None = None, here: Callable[[], bool] = segments_here
    ) -> None:
        self._tools = tools or SlicerTools()
        self._here = here
        lines = (line.strip() for line in requirements.read_text(encoding="utf-8").splitlines())
        self._requirements = [line for line in lines if line and not line.startswith("#")]

    @property
    def missing(self) -> list[str]:
        """What is not there: "PyTorch", if it is needed, and `missing_packages`."""
        torch = [] if self._tools.version("torch") or not self._here() else ["PyTorch"]
        return torch + self.missing_packages

    @property
    def missing_packages(self) -> list[str]:
        """Lines of the file of requirements; enough for a server."""
        return [line for line in self._requirements if self._tools.version(_name(line)) is None]

    def explain(self, *, for_server: bool = False) -> str:
        """What would be installed, from where, and what would not; empty if nothing is missing.

        Parameters
        ----------
        for_server : bool
            Of what it takes to segment at a server.
        """
        missing = self.missing_packages if for_server else self.missing
        if not missing:
            return ""
        parts = []
        if "PyTorch" in missing:
            parts.append(tr("PyTorch, through the PyTorch extension (some 200 MB, with a GPU up to 3 GB)"))
        others = [line for line in missing if line != "PyTorch"]
        if others:
            parts.append(
                tr("{packages} and what it needs, from the Python package index (some 150 MB)").format(
                    packages=", ".join(map(_name, others))
                )
            )
        sentences = [
            tr("Needed once: {parts}.").format(parts="; ".join(parts)),
            tr("Slicer's own {kept} stay as they are. Nothing is sent anywhere.").format(kept=", ".join(KEPT)),
        ]
        if "PyTorch" in missing:
            sentences.append(tr("Whoever segments at a server needs no PyTorch."))
        return " ".join(sentences)

    def install(self, *, for_server: bool = False) -> None:
        """Install what is missing; call it on the main thread, after the user has agreed to `explain`.

        Raises
        ------
        InstallError
        """
        if not for_server and "PyTorch" in self.missing:
            self._install_torch()
        if self.missing_packages:
            self._install_packages(self.missing_packages)
        left = self.missing_packages if for_server else self.missing
        if left:
            raise InstallError(
                tr("Still missing: {packages}. The Python console has what pip said.").format(packages=", ".join(left))
            )

    def _install_torch(self) -> None:
        extension = self._tools.torch_extension()
        if extension is None:
            raise InstallError(
                tr(
                    "The PyTorch extension is not there: get it in the Extensions Manager (search for PyTorch), "
                    "restart Slicer, and come back."
                )
            )
        try:
            installed = extension.installTorch(askConfirmation=False, torchVersionRequirement=TORCH)
        except Exception as error:  # whatever goes wrong in pip and in other people's code
            raise InstallError(_failure("PyTorch", error)) from error
        if installed is None:
            raise InstallError(tr("PyTorch was not installed."))

    def _install_packages(self, requirements: list[str]) -> None:
        packaging = self._tools.packaging()
        with tempfile.TemporaryDirectory(prefix="sammed-") as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(self._pins()) + "\n", encoding="utf-8")
            try:
                if packaging is not None:
                    packaging.pip_ensure(
                        requirements,
                        constraints=constraints,
                        skip_packages=[*KEPT, "torch"],
                        prompt_install=False,
                        requester=REQUESTER,
                    )
                else:
                    self._install_one_by_one(requirements, constraints)
            except Exception as error:
                raise InstallError(_failure(", ".join(map(_name, requirements)), error)) from error

    def _install_one_by_one(self, requirements: list[str], constraints: Path) -> None:
        """Slicer 5.10 cannot leave packages out: the package comes alone, then what it needs without those."""
        self._tools.pip_install(["--no-deps", *requirements])
        left_out = {name.lower() for name in (*KEPT, "torch")}
        needed = [
            line
            for requirement in requirements
            for line in self._tools.requires(_name(requirement))
            if "extra ==" not in line and _name(line).lower() not in left_out
        ]
        if needed:
            self._tools.pip_install(["-c", str(constraints), *needed])

    def _pins(self) -> list[str]:
        versions = {name: self._tools.version(name) for name in (*KEPT, "torch")}
        return [f"{name}=={version}" for name, version in versions.items() if version]


def _name(requirement: str) -> str:
    """The package of a line like ``scipy>=1.11; python_version > '3'``."""
    name = requirement.strip()
    for mark in "[<>=!~;( ":
        name = name.split(mark)[0]
    return name


def _failure(what: str, error: BaseException) -> str:
    return tr(
        "{what} could not be installed ({error}). Is there a network? The Python console has what pip said; after a "
        "restart of Slicer you can try again."
    ).format(what=what, error=error)
