"""What installing calls, recorded; Slicer's own pip is not here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

from SammedLib.installing import KEPT, Installer, InstallError

REQUIREMENTS = Path(__file__).resolve().parents[2] / "slicer_extension" / "Sammed" / "Resources" / "requirements.txt"


class Recorder:
    """Tools that note what is called, and whose pip installs by a word."""

    def __init__(self, *, new: bool = True, torch: bool = False, extension: bool = True, works: bool = True) -> None:
        self.versions = {"numpy": "2.0.2", "SimpleITK": "2.5.0", "vtk": "9.4.2"}
        if torch:
            self.versions["torch"] = "2.8.0"
        self.calls: list[tuple] = []
        self._new, self._extension, self._works = new, extension, works

    def version(self, package: str) -> str | None:
        return self.versions.get(package)

    def requires(self, package: str) -> list[str]:
        assert package == "napari-sammed"
        return ["numpy>=1.26", "SimpleITK>=2.3", "torch>=2.6", "scipy>=1.11", 'napari>=0.7; extra == "napari"', "typer"]

    def torch_extension(self):
        if not self._extension:
            return None

        def install(**how):
            self.calls.append(("torch", how))
            self.versions["torch"] = "2.8.0"
            return object()

        return SimpleNamespace(installTorch=install)

    def packaging(self):
        return SimpleNamespace(pip_ensure=self._ensure) if self._new else None

    def pip_install(self, arguments: list[str]) -> None:
        self.calls.append(("pip", [self._content(a) for a in arguments]))
        if self._works:
            self.versions["napari-sammed"] = "0.1.0"

    def _ensure(self, requirements, *, constraints, **how):
        self.calls.append(("ensure", requirements, self._content(constraints), how))
        if not self._works:
            raise RuntimeError("no network")
        self.versions["napari-sammed"] = "0.1.0"

    @staticmethod
    def _content(argument):
        path = Path(argument)
        return path.read_text().split() if path.is_file() else argument


def test_on_a_new_slicer():
    tools = Recorder()
    Installer(REQUIREMENTS, tools).install()
    torch, ensure = tools.calls
    assert torch == ("torch", {"askConfirmation": False, "torchVersionRequirement": ">=2.6"})
    assert ensure[1] == ["napari-sammed>=0.1.0.dev0"]
    assert ensure[2] == ["numpy==2.0.2", "SimpleITK==2.5.0", "vtk==9.4.2", "torch==2.8.0"]
    assert ensure[3] == {"skip_packages": [*KEPT, "torch"], "prompt_install": False, "requester": "SAMMed"}


def test_on_slicer_5_10():
    """The package alone first, then what it needs without Slicer's own, which are pinned besides."""
    tools = Recorder(new=False, torch=True)
    Installer(REQUIREMENTS, tools).install()
    assert tools.calls == [
        ("pip", ["--no-deps", "napari-sammed>=0.1.0.dev0"]),
        ("pip", ["-c", ["numpy==2.0.2", "SimpleITK==2.5.0", "vtk==9.4.2", "torch==2.8.0"], "scipy>=1.11", "typer"]),
    ]


@pytest.mark.parametrize("new", [True, False])
def test_torch_is_never_asked_of_pip(new):
    tools = Recorder(new=new)
    Installer(REQUIREMENTS, tools).install()
    for call in tools.calls[1:]:
        for requirement in call[1]:
            assert not str(requirement).startswith(("torch", "numpy", "SimpleITK", "vtk"))


def test_nothing_is_done_where_all_is_there():
    tools = Recorder(torch=True)
    tools.versions["napari-sammed"] = "0.1.0"
    installer = Installer(REQUIREMENTS, tools)
    assert installer.explain() == ""
    installer.install()
    assert tools.calls == []


def test_it_says_first_what_would_be_installed():
    tools = Recorder()
    text = Installer(REQUIREMENTS, tools).explain()
    assert "PyTorch extension" in text and "napari-sammed" in text and "numpy, SimpleITK, vtk stay as they are" in text
    assert tools.calls == []
    tools.versions["torch"] = "2.8.0"
    assert "PyTorch" not in Installer(REQUIREMENTS, tools).explain()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"extension": False}, "get it in the Extensions Manager"),
        ({"works": False}, "napari-sammed could not be installed"),
        ({"works": False, "new": False}, "Still missing: napari-sammed"),
    ],
)
def test_failures_are_said(how, said):
    with pytest.raises(InstallError, match=said):
        Installer(REQUIREMENTS, Recorder(**how)).install()
