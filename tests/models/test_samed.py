"""SAMed: the official numbers through the model, volumes of every orientation, what it refuses."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models.base import AutomaticModel
from napari_sammed.models.samed import TRAINED_WINDOW, SAMed, scaled, to_frame, zoom
from napari_sammed.networks.official_files import from_lora_file, from_sam_file
from napari_sammed.volume import Volume
from tests.golden import Golden, ct_like, golden_value
from tests.orientations import ALL_48, reorient

AS_GIVEN = Window.displayed(0, 1)


def las(array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Volume:
    """A volume stored as those of the training: rows to the front, columns to the left."""
    return Volume(array, Grid(array.shape, spacing, (0, 0, 0), ((0, 0, 1), (0, -1, 0), (1, 0, 0)), mirrored=True))


def loaded(name: str, config: dict | None, golden: Golden, lora_keys: str = "lora_file_keys"):
    """A network with the golden SAM file and LoRA file."""
    base, lora = (
        {key: torch.from_numpy(golden_value(key, tuple(shape))) for key, shape, *_ in golden.meta[keys]}
        for keys in ("base_keys", lora_keys)
    )
    network = networks.create(name, config)
    network.load_state_dict(from_sam_file(base, network.state_dict()).tensors | from_lora_file(lora), strict=True)
    return network


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "samed_tiny.npz")


@pytest.fixture(scope="module")
def network(golden):
    return loaded("samed", golden.meta["config"], golden)


@pytest.fixture(scope="module")
def model(golden, network) -> SAMed:
    return SAMed(network, sampled_size=int(golden["in.vol_input_size"]))


@pytest.fixture(scope="module")
def volume(golden) -> Volume:
    return las(golden["in.vol"])


class TestGolden:
    @pytest.mark.parametrize(
        ("case", "size", "order"), [("image", 128, 3), ("label", 128, 0)], ids=["zoom.image_128", "zoom.label_128"]
    )
    def test_samed_train(self, shared, case, size, order):
        file = Golden(shared / "goldens" / "samed_train.npz")
        zoomed = zoom(file[f"in.zoom.{case}"], (size, size), order)
        assert np.array_equal(zoomed, file[f"out.zoom.{case}_{size}"])

    def test_samed_train_zoom_label_32(self, shared):
        """The label of a quarter's size is that of the zoomed label, not of the label."""
        file = Golden(shared / "goldens" / "samed_train.npz")
        zoomed = zoom(zoom(file["in.zoom.label"], (128, 128), 0), (32, 32), 0)
        assert np.array_equal(zoomed, file["out.zoom.label_32"])

    def test_samed_tiny_network_input(self, golden, model):
        inputs = np.stack([to_frame(pixels, model.sampled_size, model.side) for pixels in golden["in.vol"]])
        assert np.array_equal(inputs[:, None], golden["out.vol.net_input"])

    def test_samed_tiny_argmax(self, golden, network):
        """Slices that have the network's size already are not zoomed."""
        model = SAMed(network, sampled_size=96)
        labels = model.label(list(golden["in.image"][:, 0]))
        assert np.array_equal(np.stack(labels), golden["out.argmax"])

    def test_samed_tiny_volume(self, golden, model, volume):
        found = model.segment(volume, window=AS_GIVEN)
        assert np.array_equal(found.labels, golden["out.vol.pred"])
        assert len(np.unique(found.labels)) > 1

    def test_samed_s_loads_and_labels(self, golden, volume):
        network = loaded("samed_s", golden.meta["config"], golden, "samed_s_lora_file_keys")
        found = SAMed(network, sampled_size=64).segment(volume, window=AS_GIVEN)
        assert found.labels.shape == volume.grid.shape

    @pytest.mark.full
    def test_samed_vit_b_argmax(self, shared):
        file = Golden(shared / "goldens" / "samed_vit_b.npz")
        model = SAMed(loaded("samed", None, file), sampled_size=512)
        image = Volume.from_array(ct_like(512, 512, 0)[::-1])  # upside down, as viewers show it
        found = model.segment(image, window=AS_GIVEN)
        assert np.array_equal(found.labels[::-1], file["out.argmax"][0])
        assert found.classes[0] == "spleen"


class TestSegment:
    def test_is_an_automatic_model(self, model):
        assert isinstance(model, AutomaticModel)
        assert model.card.name == "samed"
        assert not model.card.prompts

    @pytest.mark.parametrize(("permutation", "flips"), ALL_48[::5])
    def test_every_orientation_gives_the_same_labels(self, golden, model, volume, permutation, flips):
        """Coronal acquisitions, flipped axes: the network sees the slices of its training, labels lie on the image."""
        turned = reorient(volume, permutation, flips)
        expected = reorient(las(golden["out.vol.pred"]), permutation, flips).array
        assert np.array_equal(model.segment(turned, window=AS_GIVEN).labels, expected)

    @pytest.mark.parametrize(
        "within",
        [Box((1, 0, 0), (2, 70, 84)), Box((0, 10, 20), (2, 60, 80)), Box((0, 33, 0), (2, 34, 84))],
        ids=["a slice", "a part", "a coronal slice"],
    )
    def test_a_part_is_cut_out_of_the_whole(self, golden, model, volume, within):
        found = model.segment(volume, within, AS_GIVEN)
        assert found.box == within
        assert np.array_equal(found.labels, golden["out.vol.pred"][within.slices])

    def test_a_flat_image_is_one_slice(self, golden, model):
        image = Volume.from_array(golden["in.vol"][0][::-1])
        assert np.array_equal(model.segment(image, window=AS_GIVEN).labels[::-1], golden["out.vol.pred"][0])

    def test_hounsfield_units_are_windowed_as_in_training(self, golden, model, volume):
        hounsfield = las(volume.array * np.float32(400) - np.float32(125))
        labels = model.segment(hounsfield).labels
        assert (labels == golden["out.vol.pred"]).mean() > 0.999  # there and back through float32
        assert TRAINED_WINDOW.limits(hounsfield) == (-125, 275)

    def test_grey_levels_keep_their_fractions(self):
        values = scaled(np.array([[-200, -125, 75, 76, 275, 900]], np.int16), TRAINED_WINDOW, (-125, 275))
        assert values.dtype == np.float32
        assert values[0] == pytest.approx([0, 0, 0.5, 0.5025, 1, 1])

    def test_eight_bit_images_are_taken_as_they_are(self, model, volume):
        grey = las((volume.array * 255).astype(np.uint8))
        colour = Volume(np.repeat(grey.array[..., None], 3, axis=3), grey.grid)
        expected = model.segment(grey, window=Window.displayed(0, 255)).labels
        assert np.array_equal(model.segment(grey).labels, expected)
        assert np.array_equal(model.segment(colour).labels, expected)

    def test_tells_progress_and_can_be_cancelled(self, model):
        volume = las(np.random.default_rng(0).random((9, 20, 20), np.float32))
        told: list[tuple[str, float]] = []
        model.segment(volume, window=AS_GIVEN, progress=lambda what, share: told.append((what, share)))
        assert [what for what, _ in told] == [f"labelling slice {k} of 9" for k in (1, 5, 9)]
        assert [share for _, share in told] == sorted(share for _, share in told)
        cancel = threading.Event()
        with pytest.raises(Cancelled):
            model.segment(volume, window=AS_GIVEN, progress=lambda *_: cancel.set(), cancel=cancel)


class TestClasses:
    def test_numbered_without_names(self, model):
        assert model.classes == ("class 1", "class 2", "class 3", "class 4", "class 5")

    def test_names_are_those_given(self, network, volume):
        model = SAMed(network, classes=["a", "b", "c", "d", "e"], sampled_size=64)
        assert model.segment(volume, window=AS_GIVEN).classes == ("a", "b", "c", "d", "e")

    @pytest.mark.parametrize("names", [["a"], list("abcdef")], ids=["too few", "background counted"])
    def test_a_wrong_number_of_names_is_refused(self, network, names):
        with pytest.raises(InputError, match="5 classes beside the background"):
            SAMed(network, classes=names)


class TestBadImages:
    def test_nan_in_the_part_is_refused(self, model):
        array = np.random.default_rng(0).random((3, 20, 20), np.float32)
        array[1, 3, 4] = np.nan
        with pytest.raises(InputError, match="NaN"):
            model.segment(las(array), window=AS_GIVEN)
        assert model.segment(las(array), Box((2, 0, 0), (3, 20, 20)), AS_GIVEN).labels.shape == (1, 20, 20)

    def test_colours_are_refused(self, model):
        colour = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
        with pytest.raises(InputError, match="in colour"):
            model.segment(Volume.from_array(colour))

    def test_a_part_outside_is_refused(self, model, volume):
        with pytest.raises(InputError, match="outside"):
            model.segment(volume, Box((5, 0, 0), (6, 9, 9)))
