"""Satellite and airborne products: the same scene, whatever its file's layout."""

import numpy as np
import pytest

import common.scenes.hdf5_file
from common.scenes.nodata import is_nodata
from common.scenes.scene import load_scene
from tests.scenes.products import EMPTY_BANDS, PRODUCTS, wavelengths

ROWS, COLS, BANDS = 12, 9, 20
CUBE = np.random.default_rng(0).uniform(0.05, 0.6, (ROWS, COLS, BANDS)).round(3)
CUBE[2, 3] = CUBE[7:9, 5:] = np.nan
LABELS = np.indices((ROWS, COLS))[0] // 4 + 1
USED = tuple(band for band in range(BANDS) if band not in EMPTY_BANDS)


@pytest.fixture(params=PRODUCTS)
def product(request, tmp_path):
    """The name of a product, and a scene file about one."""
    lines = PRODUCTS[request.param](tmp_path, CUBE)
    np.save(tmp_path / "labels.npy", LABELS)
    path = tmp_path / "scene.yaml"
    path.write_text(f"name: Scene\n{lines}ground_truth: labels.npy\n", "utf-8")
    return request.param, path


def test_values_bands_and_wavelengths(product):
    name, path = product
    backwards = name == "prisma"  # whose bands go down in wavelength
    scene = load_scene(str(path))
    order = USED[::-1] if backwards else USED
    cube = np.where(is_nodata(scene.cube, scene.nodata), np.nan, scene.cube)
    np.testing.assert_allclose(cube, CUBE[:, :, order], atol=2e-4)
    assert scene.cube.dtype == np.float32
    assert scene.bands.left_out == tuple(
        sorted(BANDS - 1 - band for band in EMPTY_BANDS) if backwards else EMPTY_BANDS
    )
    assert scene.wavelengths == pytest.approx(wavelengths(BANDS)[list(order)].tolist(), abs=1e-2)
    np.testing.assert_array_equal(scene.labels, np.where(np.isnan(CUBE[:, :, 0]), 0, LABELS))


def test_rows_are_those_of_the_whole(product):
    _, path = product
    whole = load_scene(str(path))
    by_rows = load_scene(str(path), to_train=False, trained=whole.bands)
    for start, stop in [(0, 1), (3, 9), (11, 99)]:
        np.testing.assert_array_equal(by_rows.read_rows(start, stop), whole.cube[start:stop])


def test_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    lines = PRODUCTS["netcdf"](tmp_path, CUBE)
    (tmp_path / "scene.yaml").write_text(f"name: Scene\n{lines}", "utf-8")
    scene = load_scene(str(tmp_path / "scene.yaml"), to_train=False)
    asked = []
    read = common.scenes.hdf5_file.read_slab
    monkeypatch.setattr(
        common.scenes.hdf5_file, "read_slab", lambda *args: asked.append(args[-1]) or read(*args)
    )
    assert scene.read_rows(4, 6).shape == (2, COLS, BANDS)
    assert asked == [(slice(None), slice(4, 6), slice(None))]  # of bands, rows and columns
