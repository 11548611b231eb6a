"""What is installed: the manifest comes along in every form, and the base install brings neither napari nor Qt."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with wheel and sdist of a copy of the project."""
    if not (ROOT / "napari.yaml").is_symlink():
        pytest.fail("the top-level napari.yaml is a link to the manifest inside the package")
    copy, target = tmp_path_factory.mktemp("project") / "copy", tmp_path_factory.mktemp("dist")
    left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(target)], cwd=copy, check=True)
    return target


def test_the_wheel_carries_the_manifest_and_nothing_fetched(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "napari-sammed = napari_sammed:napari.yaml" in wheel.read(entry_points).decode()
    assert "napari_sammed/napari.yaml" in names
    heavy = [name for name in names if name.endswith((".pth", ".safetensors", ".nii.gz", ".whl"))]
    assert heavy == ["napari_sammed/models/click.safetensors"], "our own weights, and nobody else's"


def test_the_sdist_carries_the_manifest_and_its_link(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist}
    assert members["napari_sammed/napari.yaml"].isfile()
    assert members["napari.yaml"].issym() and members["napari.yaml"].linkname == "napari_sammed/napari.yaml"


def test_the_base_install_brings_no_viewer_and_leaves_numpy_alone():
    base = [requirement.lower() for requirement in PROJECT["dependencies"]]
    assert not [
        r for r in base if r.startswith(("napari", "pyqt", "pyside", "qtpy", "magicgui", "torchvision", "timm"))
    ]
    assert not [r for r in base if r.startswith("numpy") and "<" in r]
    assert set(PROJECT["optional-dependencies"]) >= {"napari", "server", "cluster", "train", "test", "all"}


def test_ci_runs_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text()
    marked = readme.partition("<!-- test command -->")[2].partition("```bash\n")[2].partition("\n```")[0]
    assert marked.startswith("python3 -m venv .venv") and marked.endswith("-m pytest")
    assert "README.md" in (ROOT / ".ci" / "run").read_text()
