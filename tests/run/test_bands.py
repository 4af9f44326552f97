"""Networks remember which bands of a file they were trained on: products trained on and mapped."""

import json

import numpy as np
import pytest
import torch

from common.run.cli import main, run_script
from tests.conftest import original
from tests.run.test_scripts import SCRIPTS
from tests.scenes.products import EMPTY_BANDS, PRODUCTS
from tests.scenes.test_array_file import save_envi
from tests.scenes.test_geotiff_file import save_masked

ROWS, COLS, BANDS = 24, 18, 20
LABELS = np.indices((ROWS, COLS))[0] // 8 + 1
FLAGS = ["-e", "2", "-k", "4", "-p", "2", "-i", "1", "--device", "cpu", "--precision", "fp32"]


def field(seed: int = 0) -> np.ndarray:
    """Reflectances (rows, cols, bands) of three classes; NaN in some pixels."""
    spectra = np.random.default_rng(9).uniform(0.1, 0.6, (4, BANDS))
    cube = spectra[LABELS] + np.random.default_rng(seed).normal(0, 0.02, (ROWS, COLS, BANDS))
    cube[20:, 15:] = np.nan
    return cube.clip(0.01, 1).round(4)


def scene_file(folder, name: str, lines: str) -> str:
    np.save(folder / "labels.npy", LABELS)
    (folder / name).write_text(f"name: Scene\n{lines}", "utf-8")
    return str(folder / name)


def train(folder, lines: str, program: str = "SSRN"):
    path = scene_file(folder, "train.yaml", f"{lines}ground_truth: labels.npy\n")
    assert main(*SCRIPTS[program], ["-d", path, "--out", str(folder / "out"), *FLAGS]) == 0
    return folder / "out" / "run_0" / "weights.pt"


def use(weights, path: str, out) -> int:
    """Map a scene."""
    flags = ["-d", path, "--weights", str(weights), "--out", str(out), "--device", "cpu"]
    return main(*SCRIPTS["SSRN"], [*flags, "--overwrite"])


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_trained_on_and_another_mapped(name, tmp_path, capsys):
    weights = train(tmp_path, PRODUCTS[name](tmp_path, field()))
    content = torch.load(weights, weights_only=True)
    left_out = np.setdiff1d(np.arange(BANDS), content["bands"])
    assert (content["file_bands"], len(left_out)) == (BANDS, len(EMPTY_BANDS))
    (tmp_path / "other").mkdir()
    path = scene_file(tmp_path / "other", "o.yaml", PRODUCTS[name](tmp_path / "other", field(1)))
    capsys.readouterr()
    assert use(weights, path, tmp_path / "mapped") == 0
    report = json.loads((tmp_path / "mapped" / "report.json").read_text("utf-8"))
    assert report["left_out_bands"] == left_out.tolist()
    label_map = np.load(tmp_path / "mapped" / "run_0" / "map.npy")
    np.testing.assert_array_equal(label_map == 0, np.isnan(field(1)[:, :, 0]))
    assert "17 of 20 bands" in capsys.readouterr().err


NM = np.linspace(400, 1000, BANDS)
FILL = np.float32(-9999)


def holes(cube: np.ndarray, *bands: int) -> np.ndarray:
    """A cube with fill values instead of NaN, and in every pixel of some bands."""
    filled = np.where(np.isnan(cube), FILL, cube).astype(np.float32)
    filled[:, :, list(bands)] = FILL
    return filled


def envi(folder, cube: np.ndarray, **fields) -> str:
    metadata = {"wavelength": NM[: cube.shape[2]], "wavelength units": "nm"}
    metadata |= {"data ignore value": -9999} | fields
    save_envi(folder / "cube.img", cube, metadata=metadata, force=True)
    return "cube: cube.hdr\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network trained on a scene whose bands 3 and 12 hold no data, and 7 is marked bad."""
    folder = tmp_path_factory.mktemp("bands")
    bbl = [int(band != 7) for band in range(BANDS)]
    return train(folder, envi(folder, holes(field(), 3, 12), bbl=bbl))


def said(trained, tmp_path, capsys, lines: str, status: int) -> str:
    """What mapping a scene says last on stderr."""
    capsys.readouterr()
    assert use(trained, scene_file(tmp_path, "o.yaml", lines), tmp_path / "mapped") == status
    return capsys.readouterr().err


def test_what_was_left_out_is_said_and_kept(trained, capsys):
    out = trained.parents[1]
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["left_out_bands"] == [3, 7, 12]
    assert report["notes"][:2] == [
        "cube.hdr: left out band 7, which it marks as bad",
        "cube.hdr: left out bands 3, 12: without data in every pixel, or of one value in all",
    ]
    content = torch.load(trained, weights_only=True)
    assert content["wavelengths"] == pytest.approx(np.delete(NM, [3, 7, 12]).tolist())


def test_the_same_bands_are_used_of_a_scene_where_all_hold_data(trained, tmp_path, capsys):
    lines = envi(tmp_path, holes(field(1)))
    assert "note: cube.hdr: left out bands 3, 7, 12, as in training" in said(
        trained, tmp_path, capsys, lines, 0
    )


def test_rgb_bands_and_wavelengths_count_the_files_bands(trained, tmp_path, capsys):
    lines = envi(tmp_path, holes(field(1)), **{"wavelength": ["x"]})
    more = f"wavelengths: {NM.tolist()}\nrgb_bands: [19, 12, 0]\n"
    said(trained, tmp_path, capsys, lines + more, 0)
    shifted = f"wavelengths: {(NM + np.where(np.arange(BANDS) == 10, 9, 0)).tolist()}\n"
    told = said(trained, tmp_path, capsys, lines + shifted, 2)
    assert "weights.pt: band 10 was at 715.789 nm in training, but is at 724.789 nm" in told


def test_a_file_of_the_remaining_bands_is_recognised_by_its_wavelengths(trained, tmp_path, capsys):
    cube, centres = (np.delete(array, [3, 7, 12], axis=-1) for array in (holes(field(1)), NM))
    lines = envi(tmp_path, cube, wavelength=centres)
    said(trained, tmp_path, capsys, lines, 0)
    lines = envi(tmp_path, cube, wavelength=["unknown"])
    told = said(trained, tmp_path, capsys, lines, 2)
    assert "trained on bands 0-2, 4-6, 8-11, 13-19 of 20, but Scene gives bands 0-16 of 17" in told
    assert "only if 'wavelengths' are stated for both" in told


@pytest.mark.parametrize(
    ("key", "fields", "told"),
    [
        ("ignored_bands: [5-6]\n", {}, "uses bands 5-6, left out by 'ignored_bands'"),
        ("", {"bbl": [1] * 5 + [0] + [1] * 14}, "uses band 5, marked bad in its file; to use"),
        ("ignored_bands: 20\n", {}, "'ignored_bands' names band 20, but the cube has 20, counted"),
    ],
)
def test_bands_that_the_network_needs(trained, tmp_path, capsys, key, fields, told):
    lines = envi(tmp_path, holes(field(1)), **fields)
    assert told in said(trained, tmp_path, capsys, lines + key, 2)
    if fields:
        said(trained, tmp_path, capsys, lines + "ignored_bands: null\n", 0)


def test_no_map_without_a_classified_pixel(trained, tmp_path, capsys):
    lines = envi(tmp_path, holes(field(1), 5))
    told = said(trained, tmp_path, capsys, lines, 2)
    assert "no pixel to map: each is without data in some band that the network uses" in told
    assert not (tmp_path / "mapped" / "run_0" / "map.npy").exists()


@pytest.mark.parametrize("program", [*SCRIPTS, "SVM"])
def test_the_real_enmap_tile_trains_as_it_comes(program, tmp_path, capsys):
    cube, labels = (original(f"enmap/{name}.tif") for name in ("tile", "labels"))
    path = tmp_path / "tile.yaml"
    path.write_text(f"name: Tile\ncube: {cube}\nground_truth: {labels}\n", "utf-8")
    arguments = ["-d", str(path), "-i", "1", "--out", str(tmp_path / "out")]
    if program == "SVM":
        from baselines.SVM import DEFAULTS, SVM

        assert run_script(SVM, DEFAULTS, arguments) == 0
    else:
        assert main(*SCRIPTS[program], [*arguments, *FLAGS[:-2], "-k", "8", "-p", "3"]) == 0
    told = capsys.readouterr().err
    assert "218 of 224 bands" in told
    assert "note: tile.tif: left out bands 129-134, which it marks as bad" in told


@pytest.mark.parametrize("mask", ["inside", "beside", "alpha", "unmarked alpha"])
def test_the_mask_of_a_geotiff_is_mapped_around(mask, trained, tmp_path, capsys):
    cube, data = holes(field(1)), ~np.isnan(field(1)[:, :, 0])
    save_masked(tmp_path / "cube.tif", np.where(data[..., None], cube, 0), data, mask)
    lines = f"cube: cube.tif\nwavelengths: {NM.tolist()}\n"
    told = said(trained, tmp_path, capsys, lines, 0)
    assert ("its band 20 is an alpha band" in told) == ("alpha" in mask)
    np.testing.assert_array_equal(np.load(tmp_path / "mapped" / "run_0" / "map.npy") > 0, data)
