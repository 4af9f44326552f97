"""GeoTIFFs: masks and alpha bands, scale factors, and from where wavelengths are read."""

import numpy as np
import pytest
import rasterio

from common.scenes.array_file import measured, open_array
from common.system.errors import InputError
from tests.scenes.products import dlr
from tests.scenes.test_array_file import CUBE, WAVELENGTHS, save_geotiff

BANDS = CUBE.shape[2]
DATA = np.ones(CUBE.shape[:2], bool)
DATA[1, 2:], DATA[5] = False, False


def save_masked(path, cube: np.ndarray, data: np.ndarray, mask: str) -> None:
    """Save a cube with a mask: inside the file, in one beside it, or as an alpha band."""
    if mask in ("inside", "beside"):
        save_geotiff(path, cube)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=mask == "inside"), rasterio.open(path, "r+") as i:
            i.write_mask(data)
        return
    largest = np.iinfo(cube.dtype).max if cube.dtype.kind == "u" else 255
    alpha = np.where(data, largest, 0).astype(cube.dtype)[..., None]
    save_geotiff(path, np.concatenate([cube, alpha], axis=2))
    if mask == "alpha":
        with rasterio.open(path, "r+") as image:
            interpretations = list(image.colorinterp)
            image.colorinterp = [*interpretations[:-1], rasterio.enums.ColorInterp.alpha]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("mask", ["inside", "beside", "alpha", "unmarked alpha"])
def test_masks_say_what_is_no_data(tmp_path, mask, dtype):
    cube = np.where(DATA[..., None], CUBE, 0).astype(dtype)
    save_masked(tmp_path / "cube.tif", cube, DATA, mask)
    file = open_array(tmp_path / "cube.tif")
    assert file.shape == CUBE.shape
    assert file.notes == (
        ("cube.tif: its band 8 is an alpha band: no data where it is 0",) if "alpha" in mask else ()
    )
    scaled, nodata = measured(file, None)
    assert np.isnan(nodata)
    expected = np.where(DATA[..., None], CUBE, np.nan).astype(np.float32)
    np.testing.assert_array_equal(scaled.read(), expected)
    np.testing.assert_array_equal(scaled.read_rows(1, 3), expected[1:3])


def test_gdals_mark_on_the_second_of_many_bands_is_not_believed(tmp_path):
    """As it marks the first extra band when a file is made with ALPHA=YES."""
    save_geotiff(tmp_path / "cube.tif", CUBE, alpha="yes")
    with rasterio.open(tmp_path / "cube.tif") as image:
        assert image.colorinterp[1] == rasterio.enums.ColorInterp.alpha
    file = open_array(tmp_path / "cube.tif")
    assert (file.shape, file.mask) == (CUBE.shape, None)
    alpha = np.where(DATA, 255, 0)[..., None]
    save_geotiff(tmp_path / "cube.tif", np.dstack([CUBE, alpha]).astype(np.uint16), alpha="yes")
    file = open_array(tmp_path / "cube.tif")
    assert file.shape == CUBE.shape
    np.testing.assert_array_equal(file.mask(0, 6), DATA)


def test_an_alpha_band_and_a_mask_both_hide(tmp_path):
    save_masked(tmp_path / "cube.tif", CUBE, DATA, "alpha")
    inside = np.ones_like(DATA)
    inside[:, 0] = False
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        image.write_mask(inside)
    np.testing.assert_array_equal(open_array(tmp_path / "cube.tif").mask(0, 6), DATA & inside)


LAST = {
    "as the others": CUBE[..., 7],
    "never 0": np.full(DATA.shape, 65_535),
    "always 0": np.zeros(DATA.shape),
    "of three values": np.where(DATA, 65_535, 0) - np.eye(6, 5, dtype=int),
    "where others hold data": np.where(np.arange(30).reshape(6, 5) % 2, 65_535, 0),
}


@pytest.mark.parametrize("name", LAST)
def test_a_last_band_that_is_no_alpha_band(tmp_path, name):
    cube = np.where(DATA[..., None], CUBE, 0)
    cube[..., 7] = LAST[name].astype(np.uint16)
    save_geotiff(tmp_path / "cube.tif", cube)
    file = open_array(tmp_path / "cube.tif")
    assert (file.shape, file.mask, file.notes) == (CUBE.shape, None, ())


def test_a_map_with_an_alpha_band_is_a_map(tmp_path):
    labels = np.where(DATA, 3, 0).astype(np.uint8)
    save_masked(tmp_path / "labels.tif", labels[..., None], DATA, "alpha")
    np.testing.assert_array_equal(open_array(tmp_path / "labels.tif").read(), labels)


def test_scale_and_offset_of_each_band(tmp_path):
    save_geotiff(tmp_path / "cube.tif", CUBE, nodata=7)
    scale, offset = np.linspace(1, 2, BANDS), np.arange(BANDS) - 3.0
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        image.scales, image.offsets = scale, offset
    file = open_array(tmp_path / "cube.tif")
    file, nodata = measured(file, file.nodata)
    expected = CUBE * scale + offset
    expected[CUBE == 7] = np.nan
    assert (file.dtype, np.isnan(nodata)) == (np.float32, True)
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_a_scale_that_is_none(tmp_path, scale):
    save_geotiff(tmp_path / "cube.tif", CUBE)
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        image.scales = [scale] * BANDS
    with pytest.raises(InputError, match=r"cube\.tif: states (the scale factor 0|a scale factor)"):
        open_array(tmp_path / "cube.tif")


DESCRIPTIONS = {
    "{0:g} nm": True,
    "band (418; {0:g} Nanometers)": True,
    "{1:g} µm": True,
    "Center {1:g} micrometers": True,
    "Band {0:g}": False,
    "{0:g} nmi": False,
}


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_wavelengths_in_descriptions(tmp_path, text):
    save_geotiff(tmp_path / "cube.tif", CUBE)
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        image.descriptions = [text.format(w, w / 1000) for w in WAVELENGTHS]
    expected = WAVELENGTHS if DESCRIPTIONS[text] else None
    assert open_array(tmp_path / "cube.tif").wavelengths == expected


def test_wavelengths_in_tags_of_any_spelling(tmp_path):
    save_geotiff(tmp_path / "cube.tif", CUBE)
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        for band, centre in enumerate(WAVELENGTHS, 1):
            image.update_tags(band, Wavelength=str(centre / 1000), wavelength_unit="micron")
    assert open_array(tmp_path / "cube.tif").wavelengths == WAVELENGTHS


def test_the_lists_of_an_envi_header_kept_whole(tmp_path):
    save_geotiff(tmp_path / "cube.tif", CUBE)
    with rasterio.open(tmp_path / "cube.tif", "r+") as image:
        centres = "{" + ", ".join(map(str, WAVELENGTHS)) + "}"
        image.update_tags(ns="ENVI", wavelength=centres, wavelength_units="nanometers")
        image.update_tags(ns="ENVI", bbl="{1, 1, 0, 1, 1, 1, 1, 0}")
    file = open_array(tmp_path / "cube.tif")
    assert (file.wavelengths, file.bad_bands) == (WAVELENGTHS, (2, 7))


def dlr_file(tmp_path):
    dlr(tmp_path, CUBE.astype(float) / 9999, "X", "bandID", "GainOfBand", "OffsetOfBand")
    return tmp_path / "X-SPECTRAL_IMAGE.tif", tmp_path / "X-METADATA.xml"


def test_a_scale_that_tags_and_metadata_state_counts_once(tmp_path):
    image, _ = dlr_file(tmp_path)
    with rasterio.open(image, "r+") as file:
        file.scales = [0.0001] * BANDS
    np.testing.assert_array_equal(open_array(image).scale, [0.0001] * BANDS)


ENTITIES = (
    '<!DOCTYPE x [<!ENTITY a "1111111111"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("</x>", "", "not a readable metadata file"),
        ("<x>", f"{ENTITIES}<x>", "not a readable metadata file of a product (it has a document"),
        ("<x>", '<!DOCTYPE x SYSTEM "/etc/passwd"><x>', "it has a document type"),
        (">0.0001<", ">much<", "much"),
        (">0.0001<", ">nan<", "scale factor that is no usable number"),
        ("<bandID>", "<other>", "not a readable metadata file"),
    ],
)
def test_metadata_files_that_are_wrong(tmp_path, old, new, said):
    image, metadata = dlr_file(tmp_path)
    text = metadata.read_text("utf-8")
    assert old in text
    metadata.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError) as caught:
        open_array(image)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_metadata_file_of_another_image(tmp_path):
    image, _ = dlr_file(tmp_path)
    save_geotiff(image, CUBE[:, :, 1:])
    with pytest.raises(InputError, match=r"X-METADATA\.xml: describes 8 bands, but X-SPECTRAL_"):
        open_array(image)
