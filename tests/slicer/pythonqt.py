"""What lets the module's file be imported and its panel be used outside of Slicer: stand-ins for what only the
application has, on a real Qt binding and real MRML nodes.

PythonQt, Slicer's binding, differs from PyQt in little that the module uses: properties are attributes
(``box.currentIndex``), and all of Qt is in one module ``qt``. Widgets of Slicer are replaced by plain ones with the
few methods that are called.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest import mock

import slicer
from PyQt6 import QtCore, QtGui, QtWidgets, uic
from PyQt6.QtCore import pyqtSignal

ROOT = Path(__file__).resolve().parents[2] / "slicer_extension"


class AsPythonQt:
    """A widget whose properties are attributes."""

    def __init__(self, widget: QtWidgets.QWidget) -> None:
        object.__setattr__(self, "widget", widget)

    def __getattr__(self, name: str) -> Any:
        if self.widget.metaObject().indexOfProperty(name) >= 0:
            return self.widget.property(name)
        return getattr(self.widget, name)


class SceneSignal:
    """A signal with a type of Slicer's, which PyQt has no signals for."""

    def __init__(self) -> None:
        self._slots: list[Callable[..., None]] = []

    def __getitem__(self, _: str) -> SceneSignal:
        return self

    def connect(self, slot: Callable[..., None]) -> None:
        self._slots.append(slot)

    def emit(self, value: Any) -> None:
        for slot in self._slots:
            slot(value)


class qMRMLWidget(QtWidgets.QWidget):
    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.mrmlSceneChanged = SceneSignal()

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        self.mrmlSceneChanged.emit(scene)


class ctkCollapsibleButton(QtWidgets.QGroupBox):
    """A frame with a title; opens and closes like the real one."""

    def setText(self, text: str) -> None:
        self.setTitle(text)

    def setCollapsed(self, collapsed: bool) -> None:
        self.setProperty("collapsed", collapsed)
        self._fold()

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        self._fold()
        super().showEvent(event)

    def _fold(self) -> None:
        """Hide children, or show again what was hidden by that."""
        direct = QtCore.Qt.FindChildOption.FindDirectChildrenOnly
        for child in self.findChildren(QtWidgets.QWidget, options=direct):
            if self.property("collapsed") and not child.isHidden():
                child.setProperty("folded", True)
                child.hide()
            elif not self.property("collapsed") and child.property("folded"):
                child.setProperty("folded", False)
                child.show()


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """Nodes of some classes in the scene."""

    currentNodeChanged = pyqtSignal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._none = ""
        self.activated.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def setNodeTypes(self, types_: list[str]) -> None:
        self._types = types_

    def setNoneDisplay(self, text: str) -> None:
        self._none = text

    def setShowChildNodeTypes(self, _: bool) -> None: ...
    def setNoneEnabled(self, _: bool) -> None: ...
    def setAddEnabled(self, _: bool) -> None: ...
    def setRemoveEnabled(self, _: bool) -> None: ...
    def setRenameEnabled(self, _: bool) -> None: ...

    def setMRMLScene(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        self._fill()

    def showPopup(self) -> None:
        self._fill()
        super().showPopup()

    def _fill(self) -> None:
        current = self.currentData()
        self.clear()
        self.addItem(self._none, "")
        for kind in self._types:
            nodes = [node for node in self._scene.GetNodesByClass(kind) if node.GetClassName() == kind]
            for node in nodes:
                self.addItem(node.GetName(), node.GetID())
        self.setCurrentIndex(max(self.findData(current), 0))

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self.currentData()) if self.currentData() else None

    def setCurrentNode(self, node: Any) -> None:
        self._fill()
        self.setCurrentIndex(max(self.findData("" if node is None else node.GetID()), 0))

    def pick(self, node: Any) -> None:
        """As the user does."""
        self.setCurrentNode(node)
        self.currentNodeChanged.emit(node)


class qMRMLSegmentsTableView(QtWidgets.QWidget):
    """Names and colours of segments."""

    selectionChanged = pyqtSignal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = QtWidgets.QTableWidget(0, 1, self)
        self.table.setHorizontalHeaderLabels(["Name"])
        self.table.horizontalHeader().setSectionResizeMode(0, QtWidgets.QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.itemSelectionChanged.connect(self.selectionChanged)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self._node: Any = None

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        self._fill()

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(item.data(QtCore.Qt.ItemDataRole.UserRole) for item in self.table.selectedItems())

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        self._fill()
        self.table.clearSelection()
        for row in range(self.table.rowCount()):
            if self.table.item(row, 0).data(QtCore.Qt.ItemDataRole.UserRole) in ids:
                self.table.selectRow(row)

    def _fill(self) -> None:
        """Slicer's own table follows the node by itself; here it is enough to do so when it is used."""
        self.table.blockSignals(True)
        core = None if self._node is None else self._node.GetSegmentation()
        ids = [] if core is None else list(core.GetSegmentIDs())
        self.table.setRowCount(len(ids))
        for row, segment_id in enumerate(ids):
            segment = core.GetSegment(segment_id)
            item = QtWidgets.QTableWidgetItem(segment.GetName())
            colour = QtGui.QPixmap(14, 14)
            colour.fill(QtGui.QColor.fromRgbF(*segment.GetColor()))
            item.setIcon(QtGui.QIcon(colour))
            item.setData(QtCore.Qt.ItemDataRole.UserRole, segment_id)
            self.table.setItem(row, 0, item)
        self.table.blockSignals(False)


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleLogic:
    def getParameterNode(self) -> Any:
        name = type(self).__name__.removesuffix("Logic")
        node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(name)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: QtWidgets.QWidget) -> None:
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return str(ROOT / "Sammed" / "Resources" / name)


class ScriptedLoadableModuleTest:
    def delayDisplay(self, _: str) -> None: ...

    def assertTrue(self, value: Any) -> None:
        assert value


def parameterNodeWrapper(cls: type) -> type:
    """A class whose typed fields live in a script node, and can be tied to widgets."""
    fields = get_type_hints(cls)
    defaults = {name: getattr(cls, name, None) for name in fields}

    class Wrapped:
        def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
            self.node = node
            self._ties: list[Callable[[], None]] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self.node, name)  # observers

        def connectGui(self, ui: Any) -> int:
            for widget in vars(ui).values():
                name = widget.widget.property("SlicerParameterName")
                if name:
                    self._tie(widget.widget, name)
            self._tag = self.node.AddObserver("ModifiedEvent", lambda *_: [tie() for tie in self._ties])
            return 1

        def disconnectGui(self, _: int) -> None:
            self._ties = []
            self.node.RemoveObserver(self._tag)

        def _tie(self, widget: QtWidgets.QWidget, name: str) -> None:
            match widget:
                case qMRMLNodeComboBox():
                    signal, write = widget.currentNodeChanged, widget.setCurrentNode
                case QtWidgets.QCheckBox():
                    signal, write = widget.toggled, widget.setChecked
                case QtWidgets.QDoubleSpinBox():
                    signal, write = widget.valueChanged, widget.setValue
            ties = self._ties

            def show() -> None:
                widget.blockSignals(True)
                write(getattr(self, name))
                widget.blockSignals(False)

            signal.connect(lambda value: setattr(self, name, value) if ties is self._ties else None)
            ties.append(show)
            show()

    for name, kind in fields.items():
        setattr(Wrapped, name, _field(name, kind, defaults[name]))
    return Wrapped


def _field(name: str, kind: type, default: Any) -> property:
    if any(isinstance(one, type) and issubclass(one, slicer.vtkMRMLNode) for one in get_args(kind) or (kind,)):

        def set_reference(self: Any, node: Any) -> None:
            self.node.SetNodeReferenceID(name, None if node is None else node.GetID())

        return property(lambda self: self.node.GetNodeReference(name), set_reference)
    read = (lambda text: text == "True") if kind is bool else kind

    def get(self: Any) -> Any:
        text = self.node.GetParameter(name)
        return read(text) if text else default

    return property(get, lambda self, value: self.node.SetParameter(name, str(value)))


@contextmanager
def known_as(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Modules that can be imported meanwhile.

    Not `mock.patch.dict`, which would make Python forget whatever else is imported meanwhile: torch cannot be imported
    a second time.
    """
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


@contextmanager
def stand_ins(answers: dict[str, bool], window: QtWidgets.QWidget) -> Iterator[types.ModuleType]:
    """The module ``Sammed``, imported as in Slicer.

    Parameters
    ----------
    answers : dict of str to bool
        What the user says to a question whose title contains a text; what was asked is added to it under ``asked``.
    window : QWidget
        The main window.
    """
    qt = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        vars(qt).update({name: value for name, value in vars(source).items() if name.startswith("Q")})
    qt.Qt = types.SimpleNamespace(ToolTipRole=QtCore.Qt.ItemDataRole.ToolTipRole)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = (lambda text: text), (lambda _, text: text)
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper, wrapper.WithinRange = parameterNodeWrapper, lambda low, high: (low, high)
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    ):
        setattr(scripted, cls.__name__, cls)
    modules = {"qt": qt, "slicer.i18n": i18n, "slicer.parameterNodeWrapper": wrapper}
    modules["slicer.ScriptedLoadableModule"] = scripted
    for cls in (qMRMLWidget, ctkCollapsibleButton, qMRMLNodeComboBox, qMRMLSegmentsTableView):
        modules[cls.__name__] = types.ModuleType(cls.__name__)  # as the headers in the .ui file are called
        setattr(modules[cls.__name__], cls.__name__, cls)

    def children(panel: QtWidgets.QWidget) -> types.SimpleNamespace:
        found = panel.findChildren(QtWidgets.QWidget)
        return types.SimpleNamespace(**{w.objectName(): AsPythonQt(w) for w in found if w.objectName()})

    def confirm(text: str, title: str) -> bool:
        answers.setdefault("asked", []).append((title, text))
        return next((yes for part, yes in answers.items() if part in title and part != "asked"), False)

    with (
        known_as(modules),
        mock.patch.object(slicer.util, "loadUI", uic.loadUi),
        mock.patch.object(slicer.util, "childWidgetVariables", children),
        mock.patch.object(slicer.util, "confirmOkCancelDisplay", confirm, create=True),
        mock.patch.object(slicer.util, "mainWindow", lambda: window),
    ):
        sys.modules.pop("Sammed", None)
        yield importlib.import_module("Sammed")
        sys.modules.pop("Sammed", None)
