"""Images that are not plain: channels, colours, stacks of flat images, odd numbers, odd places."""

from __future__ import annotations

import itertools

import dask.array
import napari
import numpy as np
import pytest

from napari_sammed.geometry import Box
from napari_sammed.plugin.features import frames
from napari_sammed.plugin.image.axes import CHANNEL_NAMES_KEY, COLOUR, SLIDER, choices
from napari_sammed.plugin.image.coordinates import displayed_axes, matrix_of, rectangle_of
from napari_sammed.volume import Volume
from tests.parameters import few
from tests.phantoms import ball, two_balls
from tests.plugin.test_frames import blobs, click, go, middle

SHAPE = (24, 30)


def channels(count: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    """A flat image whose channels show discs at different places."""
    array, masks = blobs(count, SHAPE)
    return array, masks


def choose(hands, chooser, key: str) -> None:
    """What a user picks in a combo box."""
    row = chooser.findData(key)
    assert row >= 0, f"{key} is not offered"
    chooser.setCurrentIndex(row)
    chooser.activated.emit(row)
    hands.settle()


def offered(hands) -> list[str]:
    return [axes.label for axes in choices(hands.segmentation.image)]


@pytest.mark.parametrize(
    ("shape", "labels", "first", "count"),
    [
        ((24, 30), None, "ss", 1),
        ((9, 24, 30), None, "sss", 3),
        ((9, 24, 30), ("t", "y", "x"), "tss", 3),
        ((3, 24, 30), ("Channel", "y", "x"), "css", 3),
        ((1, 24, 30), None, "sss", 2),
        ((4, 9, 24, 30), None, "tsss", 5),
        ((4, 9, 24, 30), ("c", "z", "y", "x"), "csss", 5),
        ((4, 3, 24, 30), ("t", "c", "y", "x"), "tcss", 5),
        ((1, 1, 9, 24, 30), None, "11sss", 3),
        ((4, 1, 24, 30), None, "t1ss", 4),
        ((4, 3, 9, 24, 30), ("t", "c", "z", "y", "x"), "tcsss", 7),
    ],
    ids=str,
)
def test_the_likeliest_meaning_of_the_axes_comes_first(open_plugin, shape, labels, first, count) -> None:
    viewer = open_plugin().viewer
    layer = viewer.add_image(np.zeros(shape, np.uint8), axis_labels=labels)
    found = choices(layer)
    assert found[0].key == first and len(found) == len({axes.label for axes in found}) == count
    assert all(len(axes.key) == len(shape) for axes in found)


def test_axes_are_said_in_words(open_plugin) -> None:
    hands = open_plugin(blobs(4, (10, 24, 30))[0])
    x = "\N{MULTIPLICATION SIGN}"
    assert offered(hands)[:3] == [
        "4 frames, 3D",
        "4 channels, 3D",
        f"4 frames {x} 10 frames, flat",
    ]


def test_a_stack_can_be_flat_images(open_plugin) -> None:
    array, masks = blobs(5, SHAPE)
    hands = open_plugin(array)
    assert hands.session.image.grid.ndim == 3 and hands.panel.actions_["propagate"].isEnabled()
    choose(hands, hands.panel.frames.axes, "tss")
    assert hands.session.image.grid.ndim == 2 and not hands.panel.actions_["propagate"].isEnabled()
    assert hands.segmentation.view.frame == "frame 2"
    hands.mode("positive")
    click(hands, middle(masks[2]))
    np.testing.assert_array_equal(hands.labels > 0, masks[2])
    choose(hands, hands.panel.frames.axes, "sss")
    assert hands.session.image.grid.ndim == 3 and not hands.session.objects
    hands.viewer.add_image(array, name="other")
    choose(hands, hands.panel.frames.axes, "tss")
    hands.widget.coordinator.choose_image(hands.viewer.layers["other"])
    hands.settle()
    assert hands.session.image.grid.ndim == 3
    first = next(layer for layer in hands.viewer.layers if layer.name == "array")
    hands.widget.coordinator.choose_image(first)
    hands.settle()
    assert hands.session.image.grid.ndim == 2, "what was chosen for a layer is remembered"
    np.testing.assert_array_equal(hands.labels > 0, masks[2])


def test_the_channel_follows_the_slider_or_stays(open_plugin) -> None:
    array, masks = channels()
    names = ["DAPI", "actin", "tubulin"]
    hands = open_plugin(array, axis_labels=("c", "y", "x"), metadata={CHANNEL_NAMES_KEY: names})
    assert hands.segmentation.view.frame == "actin" and hands.panel.frames.where.text() == "Actin"
    go(hands, 0, 2)
    assert hands.segmentation.view.frame == "tubulin"
    choose(hands, hands.panel.frames.channel, "0")
    assert hands.segmentation.view.at == (0,) and hands.panel.frames.channel.currentText() == "DAPI"
    hands.mode("positive")
    click(hands, middle(masks[0]))
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    go(hands, 0, 1)
    assert hands.segmentation.view.at == (0,)
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    choose(hands, hands.panel.frames.channel, SLIDER)
    assert hands.segmentation.view.at == (1,) and not hands.session.objects and not hands.labels.any()
    choose(hands, hands.panel.frames.channel, "0")
    np.testing.assert_array_equal(hands.labels > 0, masks[0])


def test_three_channels_can_be_colours(open_plugin) -> None:
    array, masks = channels()
    hands = open_plugin(array.astype(np.uint8), axis_labels=("c", "y", "x"))
    choose(hands, hands.panel.frames.channel, COLOUR)
    assert hands.segmentation.view.rgb and hands.session.image.array.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(hands.session.image.array, np.moveaxis(array.astype(np.uint8), 0, -1))
    assert not hands.panel.image_section.window_.isEnabled()
    hands.mode("positive")
    click(hands, middle(masks[0] & ~masks[1]))
    assert hands.session.objects[1].mask is not None
    go(hands, 0, 0)
    assert hands.session.objects and hands.segmentation.view.at == (None,)
    choose(hands, hands.panel.frames.channel, "1")
    assert hands.panel.image_section.window_.isEnabled() and not hands.session.objects


def test_time_points_with_channels(open_plugin) -> None:
    frames = np.stack([np.stack([blobs(3, (6, *SHAPE))[0][t] + c for c in range(2)]) for t in range(3)])
    _, masks = blobs(3, (6, *SHAPE))
    hands = open_plugin(frames, axis_labels=("t", "c", "z", "y", "x"), scale=(2, 1, 3, 1, 1))
    choose(hands, hands.panel.frames.channel, "1")
    for step in (0, 2):
        go(hands, 0, step)
        assert hands.segmentation.view.frame == f"frame {step}, channel 1"
        hands.mode("positive")
        click(hands, middle(masks[step]))
        np.testing.assert_array_equal(hands.labels > 0, masks[step])
    go(hands, 0, 0)
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    np.testing.assert_allclose(hands.session.image.grid.spacing, (3, 1, 1))


def test_objects_are_copied_to_the_next_frame(open_plugin) -> None:
    array, masks = blobs(3, SHAPE)
    hands = open_plugin(array, axis_labels=("t", "y", "x"))
    go(hands, 0, 1)
    hands.mode("positive")
    hands.press(hands.panel.frames.copy_button)
    hands.settle()
    assert "nothing to copy yet on frame 1" in hands.message and hands.segmentation.view.at == (2,)
    assert not hands.panel.frames.copy_button.isEnabled(), "there is none after it"
    go(hands, 0, 1)
    click(hands, (1, 1))
    hands.act("undo")
    click(hands, middle(masks[1]))
    hands.session.rename(hands.session.current, "cell")
    hands.session.recolour(hands.session.current, "#123456")
    label = hands.session.current
    hands.press(hands.panel.frames.copy_button)
    hands.settle()
    assert "Copied 1 object from frame 1" in hands.message
    copied = hands.session.objects[label]
    assert (copied.name, copied.colour) == ("cell", "#123456")
    np.testing.assert_array_equal(hands.labels == label, masks[1])
    click(hands, middle(masks[2]))
    assert (hands.labels[masks[2]] == label).all(), "a click corrects it"
    go(hands, 0, 1)
    hands.press(hands.panel.frames.copy_button)
    hands.settle()
    assert "here already" in hands.message and len(hands.session.objects) == 1


def test_a_colour_stack_is_a_volume(open_plugin) -> None:
    volume, first, _ = two_balls()
    colour = np.repeat(volume.array.astype(np.uint8)[..., None], 3, axis=-1)
    hands = open_plugin(colour, rgb=True, scale=(3, 1, 1))
    assert hands.session.image.grid.shape == volume.grid.shape and hands.session.image.channels == 3
    assert not hands.panel.image_section.window_.isEnabled()
    hands.mode("positive")
    click(hands, middle(first))
    np.testing.assert_array_equal(hands.labels > 0, first)
    choose(hands, hands.panel.frames.axes, "tss")
    assert hands.session.image.channels == 3 and hands.session.image.grid.ndim == 2


@pytest.mark.parametrize("model", ["random-walker", "litemedsam"])
def test_the_models_take_colour_stacks(open_plugin, model) -> None:
    volume, first, _ = two_balls()
    colour = np.repeat(volume.array.astype(np.uint8)[..., None], 4, axis=-1)
    colour[..., 3] = 255
    hands = open_plugin(colour, rgb=True, scale=(3, 1, 1))
    if model == "litemedsam":
        from napari_sammed.models import registry

        if registry.row(model).status == "absent":
            pytest.skip("needs the weights of LiteMedSAM")
    prompt = Box((10, 10, 3), (11, 30, 22)) if model == "litemedsam" else None
    from napari_sammed.prompts import Point

    answer = hands.session.add(prompt or Point(middle(first)), model=model).result(120)
    found = np.zeros(first.shape, bool)
    found[answer.box.slices] = answer.mask
    part = found[answer.scope.slices], first[answer.scope.slices]
    dice = 2 * (part[0] & part[1]).sum() / (part[0].sum() + part[1].sum())
    assert dice > 0.8
    assert any("sees no colours" in text for text in answer.reductions) == (model == "random-walker")


swapped = pytest.param(
    ">f4", marks=pytest.mark.skipif(napari.__version__.startswith("0.7"), reason="napari 0.7 cannot show such an image")
)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int64", "uint64", "float16", "float64", swapped, ">u2"]
)
def test_any_kind_of_number(open_plugin, dtype) -> None:
    mask = ball((40, 50), (20, 20), 9)
    array = (mask * 100).astype(dtype)
    hands = open_plugin(array)
    hands.mode("positive")
    if dtype == "bool":  # two grey levels that lie nearer to each other than the model's tolerance
        draw = rectangle_of(Box((5, 5), (35, 35)), None)
        hands.mode("box")
        hands.writer.boxes.add_rectangles([draw])
        hands.settle()
        assert hands.session.objects[1].prompts
        return
    click(hands, (20, 20))
    np.testing.assert_array_equal(hands.labels > 0, mask)


def test_inverted_contrast_and_odd_limits(open_plugin) -> None:
    mask = ball((40, 50), (20, 20), 9)
    hands = open_plugin((200 - 100 * mask).astype(np.float32), contrast_limits=(250, 251), colormap="gray_r")
    hands.panel.image_section.window_.box.set_key("displayed")
    hands.mode("positive")
    click(hands, (20, 20))
    np.testing.assert_array_equal(hands.labels > 0, mask)


@pytest.mark.parametrize("shape", [(1, 24, 30), (1, 1, 24, 30), (1, 1, 6, 24, 30), (6, 1, 30), (6, 24, 1)], ids=str)
def test_axes_of_one_entry(open_plugin, shape) -> None:
    array = np.random.default_rng(0).uniform(0, 5, shape).astype(np.float32)
    array[..., shape[-2] // 3 : shape[-2] // 2 + 1, shape[-1] // 3 : shape[-1] // 2 + 1] += 100
    hands = open_plugin(array)
    assert hands.session.image.grid.shape in (shape[-3:], shape[-2:])
    assert hands.segmentation.view.frame == ""
    hands.mode("positive")
    bright = array.reshape(hands.session.image.grid.shape) > 50
    click(hands, np.argwhere(bright)[0])
    np.testing.assert_array_equal(hands.labels > 0, bright)


def test_a_long_series_is_read_frame_by_frame(open_plugin) -> None:
    frame, masks = blobs(1, SHAPE)
    read: list[int] = []

    def make(block_id):
        read.append(block_id[0])
        return frame + np.float32(block_id[0])

    array = dask.array.map_blocks(make, chunks=((1,) * 20_000, (24,), (30,)), dtype=np.float32)
    hands = open_plugin(array, axis_labels=("t", "y", "x"), contrast_limits=(0, 120))
    go(hands, 0, 12_345)
    assert hands.segmentation.view.at == (12_345,)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    np.testing.assert_array_equal(hands.labels > 0, masks[0])
    assert len(set(read)) < 10, "napari reads some for itself"


ANGLE = 0.4
TURN = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])
OBLIQUE = np.array([[np.cos(ANGLE), 0, -np.sin(ANGLE)], [0, 1, 0], [np.sin(ANGLE), 0, np.cos(ANGLE)]])


def placed(inner: np.ndarray, more: int) -> np.ndarray:
    matrix = np.eye(len(inner) + more + 1)
    matrix[more:-1, more:-1] = inner
    matrix[:-1, -1] = np.arange(3, 3 + len(matrix) - 1)
    return matrix


PLACES = {
    "anisotropic": lambda n: placed(np.diag([3, 0.8, 0.7][-n:]), 2),
    "flipped": lambda n: placed(np.diag([-3, 0.8, -0.7][-n:]), 2),
    "turned": lambda n: placed((TURN @ np.diag([3, 1, 1]))[-n:, -n:], 2),
    "oblique": lambda n: placed((OBLIQUE @ np.diag([3, 1, 1]))[-n:, -n:], 2),
    "sheared": lambda n: placed(np.array([[1, 0, 0], [0, 1, 0.4], [0, 0, 1]])[-n:, -n:], 2),
}
ORDERS = [(0, 1, 2, 3, 4), (0, 1, 3, 2, 4), (0, 1, 4, 2, 3), (0, 1, 4, 3, 2), (1, 0, 3, 4, 2)]


def point_at(hands, layer, index, leading: tuple[int, ...]) -> np.ndarray:
    """Show the slice of a voxel, and say where napari puts a click on it: slices are drawn flat, see `seen_index`."""
    view, dims = hands.segmentation.view, hands.viewer.dims
    matrix = matrix_of(view)
    inverse = np.linalg.inv(matrix)
    shown = list(displayed_axes(dims, view.ndim))
    world = np.array(view.data_to_world(index))
    for axis in set(range(view.ndim)) - set(shown):
        world[axis] = (index[axis] - inverse[axis, -1]) / inverse[axis, axis]
    before = hands.segmentation.image.data_to_world((*leading, *index))[: len(leading)]
    dims.set_point(range(dims.ndim), (*before, *world))
    world[shown] = matrix[np.ix_(shown, shown)] @ np.array(index)[shown] + matrix[shown, -1]
    return np.array(world if layer is None else layer.world_to_data(world))


@pytest.mark.parametrize(("place", "order"), few(itertools.product(PLACES, ORDERS), tried=range(0, 25, 6)), ids=str)
def test_frames_of_volumes_may_lie_anywhere(open_plugin, place, order) -> None:
    volume, first, _ = two_balls()
    array = np.stack([np.stack([volume.array * 0.5, volume.array])] * 2)
    hands = open_plugin(array, affine=PLACES[place](3), axis_labels=("t", "c", "z", "y", "x"))
    hands.viewer.dims.order = order
    image = hands.segmentation.image
    point_at(hands, None, middle(first), (1, 1))
    hands.qtbot.wait(frames._REST + 30)
    hands.settle()
    assert hands.segmentation.view.at == (1, 1)
    hands.mode("positive")
    hands.writer.points.add(point_at(hands, hands.writer.points, middle(first), (1, 1)))
    hands.settle()
    np.testing.assert_array_equal(hands.labels > 0, first)
    np.testing.assert_allclose(hands.session.objects[1].prompts.items[0].index, middle(first), atol=0.6)
    axis = order[2] - 2
    box = Box(*(tuple(v) for v in ([8, 10, 3], [12, 30, 22])))
    low, high = list(box.low), list(box.high)
    low[axis], high[axis] = middle(first)[axis], middle(first)[axis] + 1
    hands.panel.objects.new_button.click()
    hands.mode("box")
    corners = rectangle_of(Box(tuple(low), tuple(high)), axis, low[axis])
    hands.writer.boxes.add_rectangles([[point_at(hands, hands.writer.boxes, corner, (1, 1)) for corner in corners]])
    hands.settle()
    (drawn,) = hands.session.objects[2].prompts.items
    assert (drawn.low, drawn.high) == (tuple(low), tuple(high))
    hands.panel.closer.part.set_key("around")
    hands.press(hands.panel.closer.button)
    hands.settle()
    for layer in (hands.writer.labels, hands.writer.points, hands.writer.boxes):
        np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 1, 1, 2, 3))[2:])
    hands.viewer.dims.ndisplay = 3
    hands.settle()
    hands.viewer.dims.ndisplay = 2
    hands.viewer.dims.order = (0, 1, 2, 3, 4)
    hands.settle()
    np.testing.assert_allclose(hands.writer.points.data, np.zeros((0, 3)))


@pytest.mark.parametrize("place", few(["anisotropic", "flipped", "turned", "sheared"], tried=(1, 2)))
def test_flat_frames_may_lie_anywhere(open_plugin, place) -> None:
    array, masks = channels()
    array = np.stack([array, array])
    hands = open_plugin(array, affine=PLACES[place](2), axis_labels=("t", "c", "y", "x"))
    for order in ((0, 1, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2)):
        hands.viewer.dims.order = order
        hands.viewer.dims.set_point(range(4), hands.segmentation.image.data_to_world((1, 2, *middle(masks[2]))))
        hands.qtbot.wait(frames._REST + 30)
        hands.settle()
        assert hands.segmentation.view.at == (1, 2)
        hands.mode("positive")
        click(hands, middle(masks[2]))
        np.testing.assert_array_equal(hands.labels > 0, masks[2])
        hands.act("clear")
    world = hands.writer.labels.data_to_world((3, 4))
    np.testing.assert_allclose(world, hands.segmentation.image.data_to_world((1, 2, 3, 4))[2:])


def test_a_canvas_that_runs_through_the_frames_takes_no_prompts(open_plugin) -> None:
    array, masks = blobs(4, (10, *SHAPE))
    hands = open_plugin(array)
    go(hands, 0, 0)
    hands.mode("positive")
    click(hands, middle(masks[0]))
    hands.viewer.dims.order = (1, 2, 0, 3)
    hands.settle()
    assert "runs through the frames" in hands.message and hands.panel.modes.buttons["navigate"].isChecked()
    hands.mode("box")
    assert hands.panel.modes.buttons["navigate"].isChecked()
    hands.writer.points.add((1, 2, 3))
    hands.settle()
    assert len(hands.writer.points.data) == 1 and len(hands.session.objects[1].prompts) == 1
    hands.panel.closer.part.set_key("view")
    hands.press(hands.panel.closer.button)
    hands.settle()
    assert "order of the axes" in hands.message
    hands.viewer.dims.order = (0, 1, 2, 3)
    hands.mode("positive")
    hands.qtbot.wait(frames._REST + 30)
    hands.settle()
    np.testing.assert_array_equal(hands.labels > 0, masks[0])


def test_volume_keeps_what_frames_are_made_of() -> None:
    with pytest.raises(ValueError, match="does not lie on a grid"):
        Volume(np.zeros((3, 4, 5, 2)), Volume.from_array(np.zeros((3, 4, 5))).grid)
