"""HDF5 and NetCDF 4: arrays by their paths, what attributes state, and what is refused."""

import h5py
import numpy as np
import pytest

from common.scenes.array_file import measured, open_array
from common.system.errors import InputError
from tests.scenes.test_array_file import CUBE, MAP, WAVELENGTHS


def saved(path, **attributes):
    """Write a cube in a group, a map, a vector and a text; return the path."""
    with h5py.File(path, "w") as file:
        file["data/cube"] = CUBE
        file["data/cube"].attrs.update(attributes)
        file["data/truth"] = MAP
        file["row"], file["text"], file["one"] = np.arange(4), "abc", 3.0
    return path


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5", "a.HE5", "a.nc", "a.nc4"])
@pytest.mark.parametrize("variable", ["data/cube", "/data/cube", "/data/cube/"])
def test_an_array_by_its_path(tmp_path, name, variable):
    file = open_array(saved(tmp_path / name), variable)
    assert (file.shape, file.dtype) == (CUBE.shape, CUBE.dtype)
    np.testing.assert_array_equal(file.read(), CUBE)
    np.testing.assert_array_equal(file.read_rows(2, 5), CUBE[2:5])


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (None, "say which variable to read; this file holds: data/cube (6×5×8), data/truth (6×5)"),
        ("cube", "no variable 'cube' in this file, which holds: data/cube (6×5×8)"),
        ("data", "variable 'data' is not an array but holds some; name one of: data/cube (6×5×8)"),
        ("text", "variable 'text' is not an array of numbers"),
        ("one", "variable 'one' is not an array of numbers"),
        ("row", "the array is 4, neither rows × cols × bands nor a map"),
    ],
)
def test_variables_that_do_not_fit(tmp_path, variable, said):
    path = saved(tmp_path / "a.h5")
    with pytest.raises(InputError) as caught:
        open_array(path, variable)
    assert str(caught.value).startswith(f"{path}: {said}")


def test_the_only_array_outside_of_groups_is_meant(tmp_path):
    saved(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc", "a") as file:
        file["reflectance"] = CUBE
    np.testing.assert_array_equal(open_array(tmp_path / "a.nc").read(), CUBE)


def test_axes_of_one_are_no_axes(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["cube"] = CUBE[None, ..., None]
    file = open_array(tmp_path / "a.nc")
    np.testing.assert_array_equal(file.read_rows(1, 4), CUBE[1:4])


def test_netcdf_3_names_what_converts_it(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(99))
    with pytest.raises(InputError, match=r"a\.nc: NetCDF 3, .*: nccopy -k nc4 a\.nc a_4\.nc$"):
        open_array(tmp_path / "a.nc")


FILL = {
    "_FillValue": ({"_FillValue": np.array([7], np.uint16)}, 7),
    "missing_value": ({"missing_value": 7}, 7),
    "both": ({"_FillValue": 7, "missing_value": np.array([9, 11])}, (7, 9, 11)),
    "of NEON": ({"Data_Ignore_Value": 7.0}, 7),
    "text": ({"_FillValue": "none"}, None),
}


@pytest.mark.parametrize("name", FILL)
def test_fill_values(tmp_path, name):
    attributes, nodata = FILL[name]
    assert open_array(saved(tmp_path / "a.h5", **attributes), "data/cube").nodata == nodata


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("f4", 9.969209968386869e36), ("i2", -32_767), ("u2", None), ("u1", None)]
)
def test_the_default_fill_values_of_netcdf(tmp_path, dtype, nodata):
    for name in ("a.nc", "a.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["cube"] = CUBE.astype(dtype)
    assert open_array(tmp_path / "a.nc").nodata == nodata
    assert open_array(tmp_path / "a.h5").nodata is None


SCALES = {
    "CF": ({"scale_factor": 0.5, "add_offset": np.array([3.0])}, 0.5, 3),
    "scale alone": ({"scale_factor": np.float32(0.25)}, 0.25, 0),
    "offset alone": ({"add_offset": -1}, 1, -1),
    "NEON's divisor": ({"Scale_Factor": 100.0}, 0.01, 0),
}


@pytest.mark.parametrize("name", SCALES)
def test_scales(tmp_path, name):
    attributes, scale, offset = SCALES[name]
    path = saved(tmp_path / "a.h5", _FillValue=7, **attributes)
    file = open_array(path, "data/cube")
    file, nodata = measured(file, file.nodata)
    expected = np.where(CUBE == 7, np.nan, CUBE.astype(float) * scale + offset)
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)
    assert np.isnan(nodata)


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf, 1e300])
def test_scales_that_are_none(tmp_path, scale):
    path = saved(tmp_path / "a.h5", scale_factor=scale)
    with pytest.raises(InputError, match=r"states (the scale factor 0|a scale factor that is no)"):
        open_array(path, "data/cube")


RANGES = {
    "both ends": ({"valid_range": np.array([5, 100], np.uint16)}, (5, 100)),
    "the smallest": ({"valid_min": 5}, (5, np.inf)),
    "the largest": ({"valid_max": np.array([100])}, (-np.inf, 100)),
    "as measured": ({"valid_range": [0.5, 10.0], "scale_factor": 0.1}, (5, 100)),
    "as stored": ({"valid_range": [5, 100], "scale_factor": 0.1, "add_offset": 3.0}, (5, 100)),
    "with other fill values": ({"valid_min": 5, "_FillValue": 7, "missing_value": 9}, (5, np.inf)),
    "nonsense": ({"valid_range": [100, 5]}, None),
    "text": ({"valid_range": "5, 100", "valid_min": np.nan}, None),
}


@pytest.mark.parametrize("name", RANGES)
def test_valid_ranges(tmp_path, name):
    attributes, expected = RANGES[name]
    file = open_array(saved(tmp_path / "a.nc", **attributes), "data/cube")
    assert file.valid_range == (expected and pytest.approx(expected))
    assert file.notes[:1] == () or "beyond its valid range" in file.notes[0]
    low, high = expected or (-np.inf, np.inf)
    without = (low > CUBE) | (high < CUBE) | np.isin(CUBE, [7, 9] if "other" in name else [])
    cube, _ = measured(file, file.nodata)
    scale, offset = attributes.get("scale_factor", 1), attributes.get("add_offset", 0)
    expected = np.where(without, np.nan, CUBE * scale + offset)
    np.testing.assert_allclose(cube.read(), expected, rtol=1e-6)


@pytest.mark.parametrize(("said", "dtype"), [("true", "u1"), ("false", "i1"), ("", "i1")])
def test_numbers_whose_sign_an_attribute_states(tmp_path, said, dtype):
    """NetCDF keeps 200 as -56 in bytes, and -1 as what stands for 255."""
    stored = CUBE.astype(np.uint8).view("i1")
    with h5py.File(tmp_path / "a.nc", "w") as file:
        item = file.create_dataset("cube", data=stored)
        item.attrs.update({"_Unsigned": said, "_FillValue": np.int8(-1)} if said else {})
    file = open_array(tmp_path / "a.nc")
    np.testing.assert_array_equal(file.read(), stored.view(dtype))
    assert file.nodata == {"true": 255, "false": -1, "": None}[said]


def with_lists(path, place: str, unit: str | None = "nm", good=None, name: str = "good_bands"):
    saved(path)
    with h5py.File(path, "a") as file:
        file[place] = np.array(WAVELENGTHS)
        if unit:
            file[place].attrs["units"] = unit
        if good is not None:
            file[f"{place.rpartition('/')[0]}/{name}"] = np.array(good)
    return path


@pytest.mark.parametrize(
    "place", ["data/wavelength", "wavelengths", "sensor_band_parameters/wavelengths"]
)
def test_wavelengths_where_they_usually_are(tmp_path, place):
    path = with_lists(tmp_path / "a.nc", place, good=[1, 1, 0, 1, 1, 1, 1, 0])
    file = open_array(path, "data/cube")
    assert (file.wavelengths, file.bad_bands) == (WAVELENGTHS, (2, 7))


@pytest.mark.parametrize("name", ["good_wavelengths", "bbl"])
def test_wavelengths_that_are_named(tmp_path, name):
    path = with_lists(tmp_path / "a.nc", "a/b/c", good=[0.0] + [1.0] * 7, name=name)
    file = open_array(path, "data/cube")
    assert (file.wavelengths, file.bad_bands) == (None, ())
    file = open_array(path, "data/cube", wavelengths="/a/b/c")
    assert (file.wavelengths, file.bad_bands) == (WAVELENGTHS, (0,))


def test_wavelengths_in_an_attribute(tmp_path):
    path = saved(tmp_path / "a.h5", centres=np.array(WAVELENGTHS), wavelengths=WAVELENGTHS)
    assert open_array(path, "data/cube").wavelengths == WAVELENGTHS
    named = open_array(path, "data/cube", wavelengths="data/cube/centres")
    assert named.wavelengths == WAVELENGTHS


@pytest.mark.parametrize("name", ["nowhere", "data", "data/truth", "text", "data/cube/units"])
def test_named_wavelengths_that_are_none(tmp_path, name):
    path = saved(tmp_path / "a.h5", units="nm")
    with pytest.raises(InputError, match=rf"no list of numbers '{name}' in this file"):
        open_array(path, "data/cube", wavelengths=name)


def test_a_missing_filter_is_named(tmp_path):
    """A chunk that is compressed with a filter that this HDF5 does not have, or no one."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((6, 5, 8))
        created.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(CUBE.shape)
        h5py.h5d.create(file.id, b"cube", h5py.h5t.STD_U16LE, space, created)
    with pytest.raises(InputError, match=r"HDF5 filter 32015\), which is not there; write it with"):
        open_array(tmp_path / "a.h5")


def refused(path, change) -> str:
    saved(path)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError) as caught:
        open_array(path, "x").read()
    return str(caught.value)


def soft(file):
    file["x"] = h5py.SoftLink("/data/cube")


def through_a_group(file):
    file["x"] = h5py.ExternalLink("other.h5", "/")


def virtual(file):
    layout = h5py.VirtualLayout(CUBE.shape, "u2")
    layout[:] = h5py.VirtualSource("other.h5", "cube", CUBE.shape)
    file.create_virtual_dataset("x", layout)


def external(file):
    file.create_dataset("x", CUBE.shape, "u2", external=[("other", 0, CUBE.nbytes)])


def wide_chunks(file):
    file.create_dataset("x", (6, 5, 8), "f8", chunks=(500, 500, 80), maxshape=(None,) * 3)


REFUSED = {
    soft: "variable 'x' is not an array of numbers",
    through_a_group: "variable 'x' is not an array of numbers",
    virtual: "lies in other files, which are not opened",
    external: "lies in other files, which are not opened",
    wide_chunks: "is stored in chunks larger than itself",
    lambda file: file.create_dataset("x", (2**30,) * 3, "u2", chunks=(64,) * 3): "takes",
    lambda file: file.__setitem__("x", CUBE.astype(complex)): "not an array of numbers",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_refused(tmp_path, change):
    assert REFUSED[change] in refused(tmp_path / "a.h5", change)


def test_groups_in_circles_end(tmp_path):
    saved(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["data/again"] = file["/"]
        file["data/again2"] = file["data"]
    with pytest.raises(InputError, match=r"this file holds: data/again/.*, …$"):
        open_array(tmp_path / "a.h5")
    assert open_array(tmp_path / "a.h5", "data/cube").shape == CUBE.shape
