"""MATLAB files: structs of both versions, and files that other programs wrote."""

import h5py
import numpy as np
import pytest
import scipy.io

from common.scenes.array_file import open_array
from common.system.errors import InputError
from tests.scenes.test_array_file import CUBE, MAP, WAVELENGTHS

INNER = {"Data": CUBE, "gt": MAP, "info": {"w": np.array(WAVELENGTHS), "text": "abc", "none": []}}


def struct_v5(path, compressed=False, **more):
    scipy.io.savemat(path, {"hsi": INNER, "n": 3.0} | more, do_compression=compressed)


def struct_v73(path, compressed=False, marked=True):
    """As MATLAB writes it: columns first, marked."""
    with h5py.File(path, "w", userblock_size=512 if marked else 0) as file:

        def write(group, values):
            if marked:
                group.attrs["MATLAB_class"] = np.bytes_("struct")
            for name, value in values.items():
                if isinstance(value, dict):
                    write(group.create_group(name), value)
                elif isinstance(value, np.ndarray):
                    array = np.atleast_2d(value)
                    group.create_dataset(name, data=array.T, compression=compressed or None)
                    if marked:
                        group[name].attrs["MATLAB_class"] = np.bytes_("uint16")

        write(file.create_group("hsi"), INNER)
        file.create_group("#refs#")["a"] = CUBE


SAVE = {
    "v5": struct_v5,
    "v5, compressed": lambda path: struct_v5(path, True),
    "v7.3": struct_v73,
    "v7.3, compressed": lambda path: struct_v73(path, "gzip"),
}


@pytest.mark.parametrize("save", SAVE)
def test_arrays_in_structs(tmp_path, save):
    SAVE[save](tmp_path / "a.mat")
    for name, array in (("hsi.Data", CUBE), ("hsi/Data", CUBE), ("hsi.gt", MAP)):
        file = open_array(tmp_path / "a.mat", name)
        np.testing.assert_array_equal(file.read(), array)
        np.testing.assert_array_equal(file.read_rows(2, 4), array[2:4])
    assert open_array(tmp_path / "a.mat", "hsi.Data", None, "hsi.info.w").wavelengths == WAVELENGTHS


@pytest.mark.parametrize("save", SAVE)
def test_paths_are_listed_where_the_variable_is_missing(tmp_path, save):
    SAVE[save](tmp_path / "a.mat")

    def refused(variable):
        with pytest.raises(InputError) as caught:
            open_array(tmp_path / "a.mat", variable)
        return str(caught.value).removeprefix(f"{tmp_path / 'a.mat'}: ")

    held = "hsi.Data (6×5×8), hsi.gt (6×5), hsi.info."
    assert refused(None).startswith(f"say which variable to read; this file holds: {held}")
    assert refused("cube").startswith(f"no variable 'cube' in this file, which holds: {held}")
    told = "variable 'hsi' is not an array but holds some; name one of: "
    assert refused("hsi").startswith(told + held)
    assert refused("hsi.info").startswith(told.replace("hsi", "hsi.info") + "hsi.info.")
    assert refused("hsi.data").startswith("no variable 'hsi.data' in this file")


def test_an_array_beside_structs_is_meant(tmp_path):
    struct_v5(tmp_path / "a.mat", cube=CUBE[::-1])
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat").read(), CUBE[::-1])


def test_several_structs_of_one_name_are_none(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"hsi": np.array([(1,), (2,)], [("Data", "O")])})
    with pytest.raises(InputError, match="variable 'hsi' is not an array of numbers"):
        open_array(tmp_path / "a.mat", "hsi")


def test_structs_deep_in_structs(tmp_path):
    inner = {"Data": CUBE}
    for _ in range(5):
        inner = {"s": inner, "a": MAP}
    scipy.io.savemat(tmp_path / "a.mat", {"x": inner})
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat", "x.s.s.s.s.s.Data").read(), CUBE)


def test_h5py_stores_rows_first(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cube"], file["parts/gt"] = CUBE, MAP
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat", "cube").read(), CUBE)
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat", "parts.gt").read(), MAP)
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat", "cube").read_rows(1, 3), CUBE[1:3])


@pytest.mark.parametrize("mark", ["array", "struct", "user block"])
def test_matlab_marks_what_it_writes(tmp_path, mark):
    block = 512 if mark == "user block" else 0
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=block) as file:
        file["s/cube"] = CUBE.T
        if not block:
            marked = file["s"] if mark == "struct" else file["s/cube"]
            marked.attrs["MATLAB_class"] = np.bytes_("uint16")
    np.testing.assert_array_equal(open_array(tmp_path / "a.mat", "s.cube").read(), CUBE)
