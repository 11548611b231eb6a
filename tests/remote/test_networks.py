"""Real networks at a server, asked through a session: the masks of this machine, also after the server was killed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from napari_sammed import samples
from napari_sammed.backend.local import LocalBackend
from napari_sammed.backend.remote import RemoteBackend
from napari_sammed.geometry import Box
from napari_sammed.models import registry
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.volume import Volume
from tests.remote.lines import line
from tests.server.serving import process


def liver() -> Volume:
    """Six slices of the synthetic torso."""
    image = samples.torso().image
    part = Box((44, 0, 0), (50, *image.grid.shape[1:]))
    return Volume(image.array[part.slices], image.grid.crop(part))


def conversation(image, backend, model, half_way=lambda: None):
    """A box, clicks that correct it, the slices beside it, a closer look, and one step back."""
    with Session(image, backend) as session:
        session.model = model
        session.add(Box((3, 30, 30), (4, 90, 90))).result(200)
        masks = [session.labels()]
        session.add(Point((3, 40, 80), positive=False)).result(200)
        masks.append(session.labels())
        half_way()
        session.add(Point((3, 54, 59))).result(200)
        masks.append(session.labels())
        session.propagate(axis=0).result(200)
        masks.append(session.labels())
        session.refine(Box((3, 40, 40), (4, 70, 70))).result(200)
        masks.append(session.labels())
        session.undo()
        return [*masks, session.labels()]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["litemedsam", "click"])
def test_networks_give_the_masks_of_this_machine(tmp_path, model):
    if registry.row(model).status == "absent":
        pytest.skip(f"no weights of {model} here")
    options = ("--device", "cpu", "--precision", "float32")
    with contextlib.ExitStack() as stack:
        here = LocalBackend("cpu", precision="float32")
        stack.callback(here.shutdown)
        expected = conversation(liver(), here, model)
        server = stack.enter_context(process(tmp_path / "data", *options))
        relay = stack.enter_context(line(server.url))
        there = RemoteBackend(relay.url, consent=True)
        stack.callback(there.shutdown)

        def restart():
            server.kill()
            relay.server = stack.enter_context(process(tmp_path / "data", *options)).url

        found = conversation(liver(), there, model, restart)
    assert len({int(mask.sum()) for mask in expected}) > 2
    for mask, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask, other)
