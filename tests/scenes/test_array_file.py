"""Users' own files: every format read whole and by rows, and all that can be wrong with them."""

import sys

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
from rasterio.errors import NotGeoreferencedWarning
from spectral.io import envi

from common.scenes.array_file import open_array
from common.system.errors import InputError

CUBE = np.arange(6 * 5 * 8, dtype=np.uint16).reshape(6, 5, 8)
MAP = np.arange(6 * 5, dtype=np.uint8).reshape(6, 5)
HUGE = (200_000, 10_000, 10)  # 20 GB as bytes, sparse on disk


def save_v5(path, array):
    scipy.io.savemat(path, {"array": array, "scalar": 3.0, "row": np.arange(4), "text": "abc"})


def save_v73(path, array):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["array"] = array.transpose()
        file["row"] = np.arange(4)[:, None]
        file["text"] = np.array([[97, 98], [99, 100]], np.uint16)
        file["text"].attrs["MATLAB_class"] = np.bytes_("char")
        file["empty"] = np.array([[3, 0], [3, 0]], np.uint64)
        file["empty"].attrs["MATLAB_empty"] = 1
        file.create_group("#refs#")


def save_geotiff(path, array, **profile):
    bands = array if array.ndim == 3 else array[:, :, None]
    rows, cols, count = bands.shape
    profile = {"compress": "deflate", "crs": "EPSG:32633"} | profile
    profile.setdefault("transform", rasterio.Affine(10, 0, 500000, 0, -10, 5000000))
    with rasterio.open(
        path, "w", "GTiff", cols, rows, count, dtype=bands.dtype, **profile
    ) as image:
        image.write(np.moveaxis(bands, 2, 0))


def save_envi(path, array, **options):
    envi.save_image(str(path.with_suffix(".hdr")), array, ext=path.suffix, **options)


SAVE = {
    "v5.mat": save_v5,
    "v73.mat": save_v73,
    "array.npy": np.save,
    "fortran.npy": lambda path, array: np.save(path, np.asfortranarray(array)),
    "big.npy": lambda path, array: np.save(path, array.astype(array.dtype.newbyteorder(">"))),
    "array.tif": save_geotiff,
    "ARRAY.TIFF": lambda path, array: save_geotiff(path, array, interleave="pixel"),
    "bil.img": lambda path, array: save_envi(path, array, interleave="bil"),
    "bip.dat": lambda path, array: save_envi(path, array, interleave="bip", byteorder=1),
    "bsq.raw": lambda path, array: save_envi(path, array, interleave="bsq"),
    "bil.hdr": lambda path, array: save_envi(path.with_suffix(".bil"), array, interleave="bil"),
    "bip.hdr": lambda path, array: save_envi(path.with_suffix(""), array, interleave="bip"),
    "bsq.hdr": lambda path, array: save_envi(path.with_suffix(".img"), array, interleave="bsq"),
}


@pytest.mark.parametrize("array", [CUBE, MAP, CUBE.astype(np.float32), CUBE.astype(np.int64)])
@pytest.mark.parametrize("name", SAVE)
def test_rows_are_those_of_the_whole(tmp_path, name, array):
    SAVE[name](tmp_path / name, array)
    file = open_array(tmp_path / name)
    assert file.shape == array.shape
    assert file.dtype == array.dtype
    whole = file.read()
    assert whole.dtype == array.dtype
    assert whole.flags.c_contiguous
    assert whole.flags.writeable
    np.testing.assert_array_equal(whole, array)
    for start, stop in [(0, 1), (2, 5), (5, 6), (4, 99)]:
        np.testing.assert_array_equal(file.read_rows(start, stop), array[start:stop])


@pytest.mark.parametrize("name", ["array.npy", "array.tif", "bsq.img", "v73.mat"])
def test_a_single_band_is_a_map(tmp_path, name):
    (SAVE | {"bsq.img": save_envi})[name](tmp_path / name, MAP[:, :, None])
    file = open_array(tmp_path / name)
    assert file.shape == MAP.shape
    np.testing.assert_array_equal(file.read_rows(1, 3), MAP[1:3])


def test_header_may_carry_the_whole_name_of_the_data_file(tmp_path):
    save_envi(tmp_path / "scene.bsq", CUBE, interleave="bsq")
    (tmp_path / "scene.hdr").rename(tmp_path / "scene.bsq.hdr")
    for name in ("scene.bsq.hdr", "scene.bsq"):
        np.testing.assert_array_equal(open_array(tmp_path / name).read(), CUBE)


@pytest.mark.parametrize("save", [save_v5, save_v73])
def test_variable_of_a_mat_file(tmp_path, save):
    save(tmp_path / "scene.mat", CUBE)
    np.testing.assert_array_equal(open_array(tmp_path / "scene.mat", "array").read(), CUBE)


def huge_npy(path):
    np.lib.format.open_memmap(path, "w+", np.uint8, HUGE)


def huge_v73(path):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cube", HUGE[::-1], np.uint8, chunks=(10, 1000, 1))


def huge_envi(path):
    envi.create_image(str(path), shape=HUGE, dtype=np.uint8, interleave=path.stem)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("huge.npy", huge_npy),
        ("huge.mat", huge_v73),
        ("bil.hdr", huge_envi),
        ("bip.hdr", huge_envi),
        ("bsq.hdr", huge_envi),
    ],
)
def test_a_file_larger_than_memory_is_read_by_rows(tmp_path, name, make):
    make(tmp_path / name)
    file = open_array(tmp_path / name)
    assert file.shape == HUGE
    assert file.read_rows(199_998, 200_000).shape == (2, *HUGE[1:])


WAVELENGTHS = tuple(400.0 + 50 * i for i in range(8))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Micrometers", 1000), ("um", 1000), ("Nanometers", 1), ("Unknown", 1000), (None, 1)],
)
def test_envi_header_states_wavelengths_and_nodata(tmp_path, unit, factor):
    metadata = {"wavelength": [w / factor for w in WAVELENGTHS], "data ignore value": -9999}
    if unit:
        metadata["wavelength units"] = unit
    save_envi(tmp_path / "scene.img", CUBE, metadata=metadata)
    file = open_array(tmp_path / "scene.hdr")
    assert file.wavelengths == WAVELENGTHS
    assert file.nodata == -9999
    assert file.georeference is None


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"wavelength": WAVELENGTHS[:5]},
        {"wavelength": WAVELENGTHS, "wavelength units": "Index"},
        {"wavelength": ["a"] * 8},
    ],
)
def test_wavelengths_that_are_none(tmp_path, capfd, metadata):
    save_envi(tmp_path / "scene.img", CUBE, metadata=metadata)
    assert open_array(tmp_path / "scene.hdr").wavelengths is None
    assert capfd.readouterr() == ("", "")


def test_geotiff_states_wavelengths_and_nodata(tmp_path):
    save_geotiff(tmp_path / "scene.tif", CUBE, nodata=7)
    with rasterio.open(tmp_path / "scene.tif", "r+") as image:
        for band in image.indexes:
            image.update_tags(
                band, "IMAGERY", CENTRAL_WAVELENGTH_UM=str(WAVELENGTHS[band - 1] / 1000)
            )
    file = open_array(tmp_path / "scene.tif")
    assert file.wavelengths == WAVELENGTHS
    assert file.nodata == 7


def test_geotiff_made_of_an_envi_file_keeps_its_wavelengths(tmp_path):
    metadata = {"wavelength": [w / 1000 for w in WAVELENGTHS], "wavelength units": "Micrometers"}
    save_envi(tmp_path / "scene.img", CUBE, metadata=metadata)
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(tmp_path / "scene.img") as image:
        rasterio.shutil.copy(image, tmp_path / "copy.tif", driver="GTiff")
    for file in tmp_path.glob("*.xml"):
        file.unlink()
    assert open_array(tmp_path / "copy.tif").wavelengths == WAVELENGTHS


def test_a_geotiff_without_position_is_read_in_silence(tmp_path, capfd, recwarn):
    save_geotiff(tmp_path / "scene.tif", CUBE, crs=None, transform=rasterio.Affine.identity())
    recwarn.clear()
    file = open_array(tmp_path / "scene.tif")
    assert file.georeference is None
    assert file.nodata is None
    assert file.wavelengths is None
    np.testing.assert_array_equal(file.read(), CUBE)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def refused(path, variable=None) -> str:
    """The one line in which opening and reading the file is refused."""
    with pytest.raises(InputError) as caught:
        open_array(path, variable).read()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["a.mat", "a.npy", "a.hdr", "a.tif", "a.xyz"])
def test_an_absent_file(tmp_path, name):
    assert refused(tmp_path / name) == "no such file"


@pytest.mark.parametrize("name", ["a.mat", "a.npy", "a.hdr", "a.tif"])
@pytest.mark.parametrize(
    "content", [b"", b"text\nof two lines", b"\x89HDF\r\n\x1a\n broken", b"II*\0\xff\xff\xff\xff"]
)
def test_a_foreign_file(tmp_path, capfd, name, content):
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).startswith("not a readable ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in SAVE if not name.endswith(".hdr")])
def test_a_truncated_file(tmp_path, capfd, name):
    array = np.random.default_rng(0).integers(0, 9999, (60, 50, 8))
    SAVE[name](tmp_path / name, array)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    refused(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    (tmp_path / "scene.img").write_bytes(b"1234")
    message = refused(tmp_path / "scene.img")
    for known in ("unknown format", ".mat", ".npy", ".tif", ".hdr"):
        assert known in message


def test_envi_data_shorter_than_its_header_says(tmp_path):
    save_envi(tmp_path / "scene.img", CUBE)
    (tmp_path / "scene.img").write_bytes(b"1" * 479)
    for name in ("scene.img", "scene.hdr"):
        assert "has 479 bytes, its header announces 480" in refused(tmp_path / name)


def test_envi_header_without_data(tmp_path):
    save_envi(tmp_path / "scene.img", CUBE)
    (tmp_path / "scene.img").unlink()
    assert "no data file found beside this header" in refused(tmp_path / "scene.hdr")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("bands = 8", "", 'parameter "bands" missing'),
        ("bands = 8", "bands = many", "'many'"),
        ("bands = 8", "bands = 0", "the array is empty (6×5×0)"),
        ("bands = 8", "bands = -8", "negative"),
        ("data type = 12", "data type = 7", "'data type = 7'"),
        ("interleave = bip", "interleave = bib", "'interleave = bib'"),
        ("byte order = 0", "byte order = 0\nfile compression = 1", "'file compression = 1'"),
        ("byte order = 0", "byte order = 0\ndata ignore value = none", "none"),
        ("ENVI Standard", "ENVI Spectral Library", "a spectral library, not an image"),
    ],
)
def test_envi_headers_that_are_wrong(tmp_path, capfd, old, new, said):
    save_envi(tmp_path / "scene.img", CUBE)
    header = (tmp_path / "scene.hdr").read_text("utf-8")
    assert old in header
    (tmp_path / "scene.hdr").write_text(header.replace(old, new), "utf-8")
    assert said in refused(tmp_path / "scene.hdr")
    assert capfd.readouterr() == ("", "")


def test_envi_header_in_another_encoding(tmp_path):
    save_envi(tmp_path / "scene.img", CUBE, metadata={"sensor type": "Spektrometer für Äcker"})
    header = (tmp_path / "scene.hdr").read_bytes().decode()
    (tmp_path / "scene.hdr").write_bytes(header.encode("latin-1"))
    np.testing.assert_array_equal(open_array(tmp_path / "scene.img").read(), CUBE)


@pytest.mark.parametrize("name", ["v5.mat", "array.npy", "array.tif", "bil.img"])
def test_complex_numbers(tmp_path, name):
    SAVE[name](tmp_path / name, CUBE.astype(np.complex64))
    assert "complex" in refused(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[None, 1]]), "Python objects"),
        (np.array([["a", "b"]]), "not real numbers"),
        (np.arange(5), "the array is 5, neither rows × cols × bands nor a map"),
        (np.zeros((2, 2, 2, 2)), "the array is 2×2×2×2, neither"),
        (np.zeros((0, 3, 60)), "empty"),
    ],
)
def test_npy_files_without_an_array_to_use(tmp_path, array, said):
    np.save(tmp_path / "array.npy", array, allow_pickle=True)
    assert said in refused(tmp_path / "array.npy")


@pytest.mark.parametrize("v73", [False, True])
def test_mat_file_that_leaves_the_variable_open(tmp_path, v73):
    path = tmp_path / "scene.mat"
    if v73:
        with h5py.File(path, "w", userblock_size=512) as file:
            file["cube"], file["gt"], file["n"] = CUBE.transpose(), MAP.transpose(), 3.0
    else:
        scipy.io.savemat(path, {"cube": CUBE, "gt": MAP, "n": "abc"})
    held = "cube (6×5×8), gt (6×5), n"
    assert refused(path) == f"say which variable to read; this file holds: {held}"
    absent = f"no variable 'labels' in this file, which holds: {held}"
    assert refused(path, "labels") == absent
    assert refused(path, "n") == "variable 'n' is not an array of numbers"


@pytest.mark.parametrize("name", ["a.npy", "a.hdr", "a.tif"])
def test_a_variable_of_a_file_without_variables(tmp_path, name):
    (tmp_path / name).touch()
    assert refused(tmp_path / name, "cube") == (
        "only .mat, HDF5 and NetCDF files have variables; leave out 'cube'"
    )


def test_geotiff_without_rasterio_says_what_to_install(tmp_path, monkeypatch):
    save_geotiff(tmp_path / "scene.tif", CUBE)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    message = refused(tmp_path / "scene.tif")
    assert message == "a GeoTIFF needs rasterio: pip install rasterio==1.4.4"
