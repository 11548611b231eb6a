"""The script with the index's checks: it passes the extension as it is, and sees it broken in each way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXTENSION = Path(__file__).resolve().parents[2] / "slicer_extension"
SCRIPT = EXTENSION / "tools" / "check_index.py"


def check(folder: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(EXTENSION, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__", ".*"))


def replaced(file: str, before: str, after: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / file
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after), encoding="utf-8", newline="\n")

    return change


def removed(file: str) -> Callable[[Path], None]:
    return lambda root: (root / file).unlink()


def written(file: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / file).write_text(text, encoding="utf-8", newline="")


def entry(**changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "SammedSegmentation.json"
        fields = json.loads(path.read_text(encoding="utf-8")) | changes
        path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}), encoding="utf-8")

    return change


def heavy(root: Path) -> None:
    with (root / "big.bin").open("wb") as file:
        file.truncate(100_000_001)  # sparse


BROKEN = {
    "no CMakeLists": (removed("CMakeLists.txt"), "no CMakeLists.txt"),
    "no project": (replaced("CMakeLists.txt", "project(SammedSegmentation)", ""), "names no project"),
    "name of Slicer's": (
        replaced("CMakeLists.txt", "project(SammedSegmentation)", "project(SlicerSammed)"),
        "starts with Slicer",
    ),
    "no licence": (removed("LICENSE.txt"), "no licence file"),
    "too large": (heavy, "at most 100"),
    "variable in a field": (
        replaced("CMakeLists.txt", '"https://raw', '"${ROOT}/https://raw'),
        "EXTENSION_ICONURL is not set to a literal",
    ),
    "space before a field's value": (
        replaced("CMakeLists.txt", "set(EXTENSION_DESCRIPTION ", "set( EXTENSION_DESCRIPTION "),
        "EXTENSION_DESCRIPTION is not set",
    ),
    "no icon": (removed("SammedSegmentation.png"), "no file SammedSegmentation.png"),
    "icon of another kind": (written("SammedSegmentation.png", "<svg/>"), "is no PNG file"),
    "no screenshot": (removed("Screenshots/module.png"), "no file Screenshots/module.png"),
    "picture in SVG": (
        replaced("CMakeLists.txt", "SammedSegmentation.png", "SammedSegmentation.svg"),
        "no https address",
    ),
    "no entry": (removed("SammedSegmentation.json"), "no catalogue entry"),
    "entry is no JSON": (written("SammedSegmentation.json", "{"), "not valid JSON"),
    "entry is a list": (written("SammedSegmentation.json", "[]"), "holds no object"),
    "line ends": (replaced("SammedSegmentation.json", ",\n", ",\r\n"), "line ends"),
    "schema missing": (entry(**{"$schema": None}), "lacks $schema"),
    "other schema": (entry(**{"$schema": "https://example.org/schema"}), "$schema is not one of"),
    "unknown field": (entry(homepage="https://example.org"), "knows no homepage"),
    "field of another type": (entry(tier="3"), "tier must be of type int"),
    "tier": (entry(tier=2), "tier must be 1, 3 or 5"),
    "category": (entry(category="Magic"), "category must be one of"),
    "address": (entry(scm_url="git@example.org:SlicerSammedSegmentation.git"), "must start with https"),
    "repository's name": (entry(scm_url="https://example.org/sammed.git"), "must start with Slicer"),
    "dependencies": (entry(build_dependencies=[]), "not those of EXTENSION_DEPENDS (PyTorch)"),
    "script that is not listed": (
        replaced("Sammed/CMakeLists.txt", "  SammedLib/logic.py\n", ""),
        "does not list SammedLib/logic.py",
    ),
    "resource that is not listed": (
        replaced("Sammed/CMakeLists.txt", "  Resources/UI/${MODULE_NAME}.ui\n", ""),
        "does not list Resources/UI/Sammed.ui",
    ),
    "new script": (written("Sammed/SammedLib/more.py", ""), "does not list SammedLib/more.py"),
    "listed and missing": (removed("Sammed/SammedLib/texts.py"), "which is not there"),
    "module without CMake": (removed("SegmentEditorSammed/CMakeLists.txt"), "SegmentEditorSammed has no CMakeLists"),
    "module without a test": (
        replaced("Sammed/Sammed.py", "class SammedTest(", "class Nothing("),
        "no class SammedTest",
    ),
    "import at file scope": (
        replaced("Sammed/SammedLib/installing.py", "import slicer\n", "import slicer\nimport torch\n"),
        "installing.py imports torch at file scope",
    ),
    "import in a class": (
        written(
            "Sammed/SammedLib/texts.py",
            "class A:\n    try:\n        from napari_sammed import Session\n    finally:\n        pass\n",
        ),
        "texts.py imports napari_sammed",
    ),
    "no README": (removed("README.md"), "no README.md"),
    "README's picture": (replaced("README.md", "](Screenshots/module.png)", "](Screenshots/none.png)"), "is not there"),
    "README without a tutorial": (replaced("README.md", "# Tutorial", "# Other"), "no section Tutorial"),
}


def test_the_extension_passes(copy):
    assert check(copy) == (0, "Everything that the index checks is in order.\n")


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_one_is_seen(copy, how):
    change, said = BROKEN[how]
    change(copy)
    status, output = check(copy)
    assert status == 1
    assert re.search(re.escape(said), output), output


def test_imports_in_functions_and_for_type_checkers_are_fine(copy):
    code = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n\ndef f():\n    import napari_sammed\n"
    )
    (copy / "Sammed" / "SammedLib" / "texts.py").write_text(code, encoding="utf-8")
    assert check(copy)[0] == 0
