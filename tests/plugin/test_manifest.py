"""The manifest is valid, and everything that it names is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

import napari_sammed

MANIFEST = Path(napari_sammed.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    return manifest


def test_the_manifest_is_the_installed_plugins(manifest):
    installed = PluginManifest.from_distribution("napari-sammed")
    assert installed.name == manifest.name == "napari-sammed"
    assert installed.contributions == manifest.contributions
    top = Path(napari_sammed.__file__).parents[1] / "napari.yaml"
    assert not top.exists() or top.read_text() == MANIFEST.read_text()


def test_every_command_has_a_function(manifest):
    for command in manifest.contributions.commands:
        module, name = str(command.python_name).split(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name)), command.id


def test_menu_and_samples_name_commands(manifest):
    known = {command.id for command in manifest.contributions.commands}
    menus = manifest.contributions.menus
    assert set(menus) == {"napari/layers/segment", "napari/layers/annotate"}
    named = [item.command for menu in menus.values() for item in menu]
    named += [item.command for item in manifest.contributions.widgets]
    named += [item.command for item in manifest.contributions.sample_data]
    named += [item.command for item in manifest.contributions.readers]
    named += [item.command for item in manifest.contributions.writers]
    assert set(named) == known


def test_npe2_finds_nothing_wrong():
    command = [sys.executable, "-m", "npe2", "validate", "--imports", str(MANIFEST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_widget_opens_from_the_plugin_menu(make_napari_viewer, manifest):
    if "napari-sammed" not in PluginManager.instance():  # napari's fixture hides installed plugins
        PluginManager.instance().register(manifest)
    viewer = make_napari_viewer()
    viewer.add_image(np.random.default_rng(0).random((20, 30)))
    _, widget = viewer.window.add_plugin_dock_widget("napari-sammed")
    assert widget.panel.image_section.model.box.count() > 2
    widget.coordinator.close(wait=True)
