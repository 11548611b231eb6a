"""Dialogs about weights: agreeing to a licence, picking files."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

_TYPES = "Weights (*.pth *.pt *.safetensors *.bin *.ckpt);;All files (*)"


def agrees(parent: QWidget, title: str, conditions: str) -> bool:
    """Show where weights come from and their licence; whether the user wants them under these conditions."""
    box = QMessageBox(QMessageBox.Icon.Question, f"Weights of {title}", conditions, parent=parent)
    accept = box.addButton("Agree and fetch", QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    return box.clickedButton() is accept


def pick_files(parent: QWidget, title: str, *, pair: bool) -> tuple[Path, ...]:
    """Weight files that the user picks, up to two where weights come as a pair; empty if none."""
    if not pair:
        name, _ = QFileDialog.getOpenFileName(parent, f"Weights of {title}", "", _TYPES)
        return (Path(name),) if name else ()
    wanted = f"Weights of {title}: its LoRA file, and the SAM file that it adds to if that is not here yet"
    names, _ = QFileDialog.getOpenFileNames(parent, wanted, "", _TYPES)
    return tuple(map(Path, names))
