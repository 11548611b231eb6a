"""The checks that Slicer's Extensions Index runs, and some that its reviewers do by eye; standard library only.

python tools/check_index.py [FOLDER]      prints what is wrong, a line each; exit status 1 if anything is
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 100_000_000
FIELDS = ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS")
CATEGORIES = ("Active Learning", "Segmentation")
"""Of the fixed list of the index, those that suit an extension like this one."""

SCHEMA = re.compile(r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/.*-schema-v1\.0\.\d\.json#")
TYPES = {  # of the catalogue entry; no other field is allowed
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "dicom_support_rule": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}
REQUIRED = ("$schema", "category", "scm_url")
OF_SLICER = {  # may be imported at file scope
    "ctk",
    "numpy",
    "qt",
    "slicer",
    "vtk",
    "SegmentEditorEffects",
    *sys.stdlib_module_names,
}


def problems(root: Path) -> Iterator[str]:
    """Everything that is wrong with an extension, in sentences."""
    cmake = root / "CMakeLists.txt"
    if not cmake.is_file():
        yield "There is no CMakeLists.txt in the root."
        return
    text = cmake.read_text(encoding="utf-8")
    project = re.search(r"^\s*project\((\w+)", text, re.MULTILINE)
    if project is None:
        yield "CMakeLists.txt names no project."
        return
    name = project[1]
    yield from _root(root, name, text)
    yield from _entry(root / f"{name}.json", text)
    for module in re.findall(r"^\s*add_subdirectory\((\w+)\)", text, re.MULTILINE):
        yield from _module(root / module)
    yield from _imports(root)
    yield from _readme(root)


def _root(root: Path, name: str, text: str) -> Iterator[str]:
    if name.lower().startswith("slicer"):
        yield f"The extension's name {name} starts with Slicer."
    if not any((root / file).is_file() for file in ("LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING")):
        yield "There is no licence file in the root."
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        yield f"The extension has {size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} are allowed."
    for field in FIELDS:
        value = _literal(text, field)
        if value is None:
            yield f"EXTENSION_{field} is not set to a literal in double quotes, without variables."
        elif not value:
            yield f"EXTENSION_{field} is empty."
    for field in ("ICONURL", "SCREENSHOTURLS"):
        for url in (_literal(text, field) or "").split():
            yield from _picture(root, field, url)


def _literal(text: str, field: str) -> str | None:
    """The value of ``set(EXTENSION_<field> "...")``, as the index reads it."""
    found = re.search(rf'^set\(EXTENSION_{field} "([^"$]*)"\)', text, re.MULTILINE)
    return None if found is None else found[1]


def _picture(root: Path, field: str, url: str) -> Iterator[str]:
    """The address must be one of a picture in this repository, so that it can be there."""
    if not re.match(r"https://.*\.(png|jpe?g|gif)$", url, re.IGNORECASE):
        yield f"{field}: {url} is no https address of a PNG, JPEG or GIF file."
        return
    where = re.match(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/[^/]+/(.+)", url)
    path = None if where is None else root / where[1]
    if path is not None and not path.is_file():
        yield f"{field}: there is no file {where[1]}."
    elif path is not None and path.suffix == ".png":
        head = path.read_bytes()[:24]
        if head[:8] != b"\x89PNG\r\n\x1a\n":
            yield f"{field}: {where[1]} is no PNG file."
        elif field == "ICONURL" and min(struct.unpack(">II", head[16:24])) < 64:
            yield f"{field}: {where[1]} is smaller than 64 pixels."


def _entry(path: Path, cmake: str) -> Iterator[str]:
    if not path.is_file():
        yield f"There is no catalogue entry {path.name}."
        return
    raw = path.read_bytes()
    if b"\r" in raw:
        yield f"{path.name} has other line ends than LF."
    try:
        entry = json.loads(raw)
    except ValueError as error:
        yield f"{path.name} is not valid JSON: {error}."
        return
    if not isinstance(entry, dict):
        yield f"{path.name} holds no object."
        return
    for field in REQUIRED:
        if field not in entry:
            yield f"{path.name} lacks {field}."
    for field, value in entry.items():
        if field not in TYPES:
            yield f"{path.name}: the schema knows no {field}."
        elif not isinstance(value, TYPES[field]) or (TYPES[field] is int and isinstance(value, bool)):
            yield f"{path.name}: {field} must be of type {TYPES[field].__name__}, not {value!r}."
    if not SCHEMA.fullmatch(str(entry.get("$schema", ""))):
        yield f"{path.name}: $schema is not one of Slicer's."
    if entry.get("category") not in CATEGORIES:
        yield f"{path.name}: the category must be one of {', '.join(CATEGORIES)}, not {entry.get('category')!r}."
    if entry.get("tier", 1) not in (1, 3, 5):
        yield f"{path.name}: tier must be 1, 3 or 5."
    url = str(entry.get("scm_url", ""))
    if not re.match(r"(https|git)://", url):
        yield f"{path.name}: scm_url must start with https:// or git://."
    elif not url.rstrip("/").removesuffix(".git").rpartition("/")[2].startswith("Slicer"):
        yield f"{path.name}: the repository's name must start with Slicer."
    depends = sorted((_literal(cmake, "DEPENDS") or "").split())
    if depends != sorted(entry.get("build_dependencies", [])):
        yield f"{path.name}: build_dependencies are not those of EXTENSION_DEPENDS ({', '.join(depends) or 'none'})."


def _module(folder: Path) -> Iterator[str]:
    """What CMake does not list is missing from the package."""
    name, cmake = folder.name, folder / "CMakeLists.txt"
    if not cmake.is_file():
        yield f"{name} has no CMakeLists.txt."
        return
    text = cmake.read_text(encoding="utf-8").replace("${MODULE_NAME}", name)
    listed = set(re.findall(r"^\s+([\w./-]+\.\w+)\s*$", text, re.MULTILINE))
    for kind in (*folder.glob("*.py"), *folder.glob("*Lib/**/*.py"), *_resources(folder)):
        path = kind.relative_to(folder).as_posix()
        if path not in listed:
            yield f"{name}/CMakeLists.txt does not list {path}."
    for path in sorted(listed):
        if not (folder / path).is_file():
            yield f"{name}/CMakeLists.txt lists {path}, which is not there."
    script = folder / f"{name}.py"
    if not script.is_file():
        yield f"{name} has no {name}.py."
    elif f"class {name}Test(" not in script.read_text(encoding="utf-8"):
        yield f"{name}.py has no class {name}Test."


def _resources(folder: Path) -> Iterator[Path]:
    for path in (*folder.glob("Resources/**/*"), *folder.glob("*Lib/**/*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


def _imports(root: Path) -> Iterator[str]:
    """Other packages may be imported when they are needed, not when Slicer starts."""
    own = {path.stem if path.is_file() else path.name for path in root.glob("*/*")}
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] == "tools":  # for developers, not part of the package
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for module in _at_file_scope(tree):
            if module.split(".")[0] not in OF_SLICER | own:
                yield f"{path.relative_to(root).as_posix()} imports {module} at file scope."


def _at_file_scope(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                continue
            case ast.If() | ast.Try() | ast.With() | ast.ClassDef() | ast.ExceptHandler():
                yield from _at_file_scope(node)


def _readme(root: Path) -> Iterator[str]:
    path = root / "README.md"
    if not path.is_file():
        yield "There is no README.md in the root."
        return
    text = path.read_text(encoding="utf-8")
    if not re.search(r"!\[.*\]\(.*\.(png|jpe?g|gif)\)", text):
        yield "README.md shows no picture."
    for picture in re.findall(r"!\[.*?\]\(([^)]+)\)", text):
        if "://" not in picture and not (root / picture).is_file():
            yield f"README.md shows {picture}, which is not there."
    for heading in ("Modules", "Tutorial", "How to cite", "Privacy"):
        if not re.search(rf"^#+ .*{heading}", text, re.MULTILINE | re.IGNORECASE):
            yield f"README.md has no section {heading}."


def main() -> int:
    """Check the folder that is named, or the one that this file belongs to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    found = list(problems(parser.parse_args().folder))
    sys.stdout.write("\n".join(found or ["Everything that the index checks is in order."]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
