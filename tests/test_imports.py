"""The import rule: floors import downwards only, napari and Qt stay in the plugin, light parts do without torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "napari_sammed"
EXTENSION = PACKAGE.parent / "slicer_extension"

FLOORS = {  # higher may import lower (and its own); the ground floor is open to everybody
    "plugin": 6,
    "server": 6,
    "cli": 6,
    "commands": 6,
    "doctor": 6,
    "training": 6,
    "evaluation": 5,
    "messages": 5,
    "session": 4,
    "samples": 4,
    "series": 5,
    "backend": 3,
    "models": 2,
    "networks": 1,
    "geometry": 0,
    "volume": 0,
    "lazy": 0,
    "segments": 0,
    "formats": 0,
    "intensity": 0,
    "prompts": 0,
    "strokes": 0,
    "errors": 0,
    "measures": 0,
    "overlay": 0,
    "torso": 0,
    "cluster": 0,
    "tasks": 0,
}
SAME_FLOOR = {
    ("cli", "commands"),
    ("commands", "doctor"),
    ("commands", "plugin"),
    ("commands", "server"),
    ("commands", "training"),
    ("plugin", "training"),
    ("training", "evaluation"),
}
IN_SLICER = {"slicer", "vtk", "numpy", *sys.stdlib_module_names}
"""What Slicer has whether or not anything was installed into it."""
SLICER_WIDGETS = {
    *("Sammed.py", "install_section.py", "place_section.py", "report_section.py", "shortcuts.py"),
    *("SegmentEditorSammed.py", "SegmentEditorEffect.py"),
}
"""The extension's files with windows."""
OTHER_FACES = {"plugin", "cli", "commands", "server"}
NAPARI_AND_QT = {"napari", "qtpy", "magicgui", "PyQt5", "PyQt6", "PySide6"}
TORCH_FREE = [
    "napari_sammed",
    "napari_sammed.geometry",
    "napari_sammed.volume",
    "napari_sammed.lazy",
    "napari_sammed.intensity",
    "napari_sammed.prompts",
    "napari_sammed.measures",
    "napari_sammed.session",
    "napari_sammed.session.records",
    "napari_sammed.models.base",
    "napari_sammed.models.registry",
    "napari_sammed.models.random_walker",
    "napari_sammed.backend.base",
    "napari_sammed.backend.local",
    "napari_sammed.backend.protocol.events",
    "napari_sammed.backend.protocol.images",
    "napari_sammed.backend.protocol.questions",
    "napari_sammed.backend.remote",
    "napari_sammed.backend.remote_choice",
    "napari_sammed.cli",
]


def imports(path: Path):
    """Modules that a file imports, wherever in the file, but not for type checkers only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "napari_sammed" and len(names) > 1 and names[1] in FLOORS else None


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in FLOORS, f"say on which floor {own} lives"
    for module in imports(path):
        other = part(module)
        if other is None or other == own or FLOORS[other] == 0 == FLOORS[own]:
            continue
        assert FLOORS[other] < FLOORS[own] or (own, other) in SAME_FLOOR, f"{own} must not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_napari_and_qt_stay_in_the_plugin(path):
    if path.relative_to(PACKAGE).parts[0] == "plugin":
        return
    found = {m.split(".")[0] for m in imports(path)} & NAPARI_AND_QT
    assert not found, f"{path} imports {found}"


def imports_at_file_scope(path: Path):
    """Modules that are imported when a file is, relative imports left out."""
    waiting = list(ast.parse(path.read_text()).body)
    for node in waiting:  # grows meanwhile
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            waiting += [
                inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt | ast.ExceptHandler)
            ]


EXTENSION_FILES = sorted(EXTENSION.rglob("*.py"))


@pytest.mark.parametrize("path", EXTENSION_FILES, ids=lambda p: str(p.relative_to(EXTENSION)))
def test_slicer_loads_the_extension_before_anything_is_installed(path):
    own = {file.stem for file in EXTENSION_FILES} | {file.parent.name for file in EXTENSION_FILES}
    widgets = {"qt", "ctk", "SegmentEditorEffects"} if path.name in SLICER_WIDGETS else set()
    found = {module.split(".")[0] for module in imports_at_file_scope(path)} - IN_SLICER - own - widgets
    assert not found, f"{path} imports {found} at file scope"


@pytest.mark.parametrize("path", EXTENSION_FILES, ids=lambda p: str(p.relative_to(EXTENSION)))
def test_the_extension_is_a_face_of_its_own(path):
    modules = set(imports(path))
    assert not {module.split(".")[0] for module in modules} & NAPARI_AND_QT
    assert not {part(module) for module in modules} & OTHER_FACES


def test_what_the_extension_takes_from_the_package_needs_neither_napari_nor_qt():
    named = sorted({m for path in EXTENSION_FILES for m in imports(path) if m.startswith("napari_sammed")})
    code = f"""
import pkgutil, sys
sys.modules.update(dict.fromkeys({NAPARI_AND_QT}))  # as if they were not installed
for name in {named}:
    pkgutil.resolve_name(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_light_parts_import_without_torch():
    code = f"""
import importlib, sys
for name in {TORCH_FREE}:
    for known in [known for known in sys.modules if known.partition(".")[0] == "napari_sammed"]:
        del sys.modules[known]  # so that each is imported by itself
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("before", "after"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")], ids=["unset", "own"])
def test_threads_wait_politely_unless_the_user_says_otherwise(before, after):
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | before
    code = "import napari_sammed, os; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after
