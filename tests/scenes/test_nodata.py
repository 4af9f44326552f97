"""Values that are no data: several of them, wild ones, and bands that hold nothing else."""

import h5py
import numpy as np
import pytest

from common.scenes.bands import bands_with_data
from common.scenes.nodata import has_data, in_words
from common.scenes.scene import load_scene
from common.system.errors import InputError

ROWS, COLS, BANDS = 12, 10, 9
LABELS = np.indices((ROWS, COLS))[0] // 4 + 1
GENERATOR = np.random.default_rng(0)
CUBE = (1500 + 300 * GENERATOR.normal(size=(ROWS, COLS, BANDS)) + 100 * LABELS[..., None]).round()
BORDER = np.s_[:2]


def loaded(folder, cube: np.ndarray, more: str = "", labels: np.ndarray = LABELS, **options):
    np.save(folder / "cube.npy", cube)
    np.save(folder / "labels.npy", labels)
    text = f"name: Scene\ncube: cube.npy\nground_truth: labels.npy\n{more}"
    (folder / "scene.yaml").write_text(text, "utf-8")
    return load_scene(str(folder / "scene.yaml"), **options)


def refused(folder, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        loaded(folder, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def filled(value: float, where, dtype=np.float32) -> np.ndarray:
    cube = CUBE.astype(dtype)
    cube[where] = value
    return cube


FILLS = [1e20, 9.96921e36, -1e30, 3.4028235e38, -3.4028235e38, 1e15, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize("value", FILLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("where", [BORDER, np.s_[:, 2:], np.s_[3, 4], np.s_[3, 4, 5]])
def test_fill_values_that_are_not_stated(tmp_path, value, dtype, where):
    cube = filled(value, where, dtype)
    message = refused(tmp_path, cube)
    if "same negative number" in message:  # which is no spectrum, however large
        assert value < 0
    else:
        pixels = (cube == dtype(value)).any(axis=2)
        row, col = np.argwhere(pixels)[0]
        assert f" values in {pixels.sum()} pixels are more than 100,000 times as " in message
        assert f"at row {row}, column {col}, band {5 if where == np.s_[3, 4, 5] else 0};" in message
    advice = message.split("write '")[1].split("'")[0]
    scene = loaded(tmp_path, cube, advice)
    np.testing.assert_array_equal(scene.labels == 0, (cube == dtype(value)).any(axis=2))


def test_whole_numbers(tmp_path):
    assert "first 2147483647 at row 0" in refused(tmp_path, filled(2**31 - 1, BORDER, np.int32))


def test_advice_keeps_what_is_stated_already(tmp_path):
    cube = filled(-9999, BORDER)
    cube[5, 5] = 1e20
    assert "write 'nodata: [-9999, 1e+20]'" in refused(tmp_path, cube, "nodata: -9999")
    scene = loaded(tmp_path, cube, "nodata: [-9999, 1e+20]")
    assert np.count_nonzero(scene.labels) == LABELS.size - 21
    assert scene.notes == ("cube.npy: 21 of 120 labelled pixels are without data and left out",)


@pytest.mark.parametrize("fill", [-9999, 1e20, np.inf])
@pytest.mark.parametrize("stated", [None, 7777])
def test_advice_speaks_of_values_as_they_are_stored(tmp_path, fill, stated):
    """Of a file with scale factors it is not what the cube holds."""
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"] = filled(fill, BORDER)
        file["cube"].attrs["scale_factor"] = 0.0003
        if stated:
            file["cube"].attrs["_FillValue"] = np.float32(stated)
    np.save(tmp_path / "labels.npy", LABELS)
    text = "name: Scene\ncube: cube.h5\nground_truth: labels.npy\n"
    (tmp_path / "scene.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        load_scene(str(tmp_path / "scene.yaml"))
    advice = str(caught.value).split("write '")[1].split("'")[0]
    assert ("7777" in advice) == (stated is not None)
    (tmp_path / "scene.yaml").write_text(f"{text}{advice}\n", "utf-8")
    scene = load_scene(str(tmp_path / "scene.yaml"))
    assert np.count_nonzero(scene.labels) == LABELS.size - 2 * COLS


def test_many_wild_values_in_a_band(tmp_path):
    cube = CUBE.copy()
    cube[:, :, 4] = np.where(LABELS == 1, 1e12 * (1 + GENERATOR.random(LABELS.shape)), CUBE[..., 4])
    message = refused(tmp_path, cube)
    assert "replace them, or leave these bands out with 'ignored_bands: [4]'" in message
    assert loaded(tmp_path, cube, "ignored_bands: [4]").bands.left_out == (4,)


def test_the_user_may_insist(tmp_path):
    assert loaded(tmp_path, filled(1e20, BORDER), "nodata: null").cube.max() > 1e19


SATURATED = filled(65_535, BORDER, np.uint16)
SPARSE = np.where(np.indices(CUBE.shape)[1] == 4, CUBE, 0)
HONEST = {
    "saturated": SATURATED,
    "saturated, as floats": SATURATED.astype(np.float32),
    "negative reflectances": (CUBE - 1500) / 1e4,
    "a bright pixel": filled(3e5, np.s_[3, 4]),
    "huge units": CUBE * 1e20,
    "small units": CUBE * 1e-20,
    "mostly zero": SPARSE,
    "bands of unlike units": CUBE * np.logspace(-6, 6, BANDS),
    "water and land": np.where((LABELS < 3)[..., None], CUBE * 1e-4, CUBE),
    "dark bands": np.where(np.arange(BANDS) < 3, CUBE * 1e-7, CUBE),
    "probabilities": (p := np.exp(GENERATOR.normal(0, 6, CUBE.shape))) / p.sum(2, keepdims=True),
    "a long tail": np.exp(GENERATOR.normal(0, 5, CUBE.shape)),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("more", ["", "nodata: -9999"])
def test_honest_values_are_never_wild(tmp_path, name, more):
    loaded(tmp_path, HONEST[name], more)


def nothing_in(value: float, *bands: int, dtype=np.float32) -> np.ndarray:
    return filled(value, np.s_[:, :, list(bands)], dtype)


EMPTY = {
    "fill value, stated": (nothing_in(-32_768, 2, 3, dtype=np.int16), "nodata: -32768"),
    "fill value, not stated": (nothing_in(-32_768, 2, 3, dtype=np.int16), ""),
    "CF's fill value": (nothing_in(1e20, 2, 3), ""),
    "NaN, stated": (nothing_in(np.nan, 2, 3), "nodata: nan"),
    "NaN, not stated": (nothing_in(np.nan, 2, 3), ""),
    "infinite": (nothing_in(np.inf, 2, 3), ""),
    "zero": (nothing_in(0, 2, 3), ""),
    "zero, stated": (nothing_in(0, 2, 3), "nodata: 0"),
    "one value": (nothing_in(7, 2, 3), ""),
    "NaN and a fill value": (
        np.where(np.arange(BANDS) == 2, np.nan, nothing_in(-9, 3)),
        "nodata: -9",
    ),
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("with_border", [False, True])
def test_bands_without_data_are_left_out(tmp_path, name, with_border):
    cube, more = EMPTY[name]
    lost = 0
    if with_border:  # of pixels without data in all bands
        value = float(more.removeprefix("nodata: ") or -1)
        cube, lost = cube.copy(), 2 * COLS
        cube[BORDER] = value
        more = f"nodata: {value}"
    scene = loaded(tmp_path, cube, more)
    assert scene.bands.left_out == (2, 3)
    assert scene.cube.shape == (ROWS, COLS, BANDS - 2)
    assert scene.notes[0].startswith("cube.npy: left out bands 2-3: without data in every pixel")
    assert np.count_nonzero(scene.labels) == LABELS.size - lost


def test_without_any_data_it_is_the_pixels_that_have_none():
    assert bands_with_data(CUBE * np.nan, np.nan).all()
    assert bands_with_data(np.full_like(CUBE, 7), None).all()


def test_too_few_bands_are_left(tmp_path):
    message = refused(tmp_path, nothing_in(0, 2, 5, 8))
    assert "cube.npy: 6 bands without 2, 5, 8; the networks need at least 7" in message
    message = refused(tmp_path, CUBE, "ignored_bands: [0-2]")
    assert "cube.npy: 6 bands without 0-2; the networks need at least 7" in message


def test_bands_that_take_the_data_from_most_pixels_are_named(tmp_path):
    cube = nothing_in(-9, 2)
    cube[0, :, 2] = CUBE[0, :, 2]
    message = refused(tmp_path, cube, "nodata: -9")
    assert "or leave out bands that have none: 'ignored_bands: [2]'" in message
    cube[:5, :, 2] = CUBE[:5, :, 2]
    (note,) = loaded(tmp_path, cube, "nodata: -9").notes
    assert note == (
        "cube.npy: 70 of 120 labelled pixels are without data and left out, or leave out bands "
        "that have none: 'ignored_bands: [2]'"
    )
    assert loaded(tmp_path, cube, "nodata: -9\nignored_bands: 2").notes == ()


def test_nan_in_some_bands_names_them(tmp_path):
    message = refused(tmp_path, filled(np.nan, np.s_[3:, :, 4:6]), "ignored_bands: 0")
    assert "first nan at row 3, column 0, band 4" in message
    assert "or 'ignored_bands: [4-5]' for there are none in other bands" in message


def test_several_values_of_no_data():
    cube = np.array([[[1, 2], [0, 0], [0, 2], [-9, 2], [1, np.nan]]])
    assert has_data(cube, (0.0, -9.0, np.nan)).tolist() == [[True, False, True, False, False]]
    assert has_data(cube, 0.0).tolist() == [[True, False, True, True, True]]


def test_bands_in_words():
    assert in_words([220, 3, 104, 105, 106]) == "3, 104-106, 220"
