"""Values that may mean no data: told, with what to write if they do."""

import numpy as np
import pytest

from common.scenes.likely_fills import VALUES_PER_BLOCK, likely_fills, standing_apart
from common.scenes.nodata import Stored
from tests.scenes.test_nodata import BANDS, BORDER, COLS, CUBE, HONEST, filled, loaded

FLAT = ("a bright pixel", "mostly zero", "saturated", "saturated, as floats")


def told(cube, nodata=None) -> list[str]:
    return likely_fills("cube.npy", cube, nodata, range(10, 10 + BANDS), Stored(nodata))


@pytest.mark.parametrize("value", [-32_768, -9999, 65_535, 99_999])
@pytest.mark.parametrize("where", [BORDER, np.s_[:2, :, 3:5]])
def test_a_value_that_stands_apart(value, where):
    (note,) = told(filled(value, where))
    bands = BANDS if where == BORDER else 2
    band = 10 if where == BORDER else 13
    assert note == (
        f"cube.npy: {2 * COLS * bands} values in {2 * COLS} pixels are {value:.1f}, first at row "
        f"0, column 0, band {band}, which is farther from all others than these are from each "
        f"other; if that means no data, write 'nodata: {value:.1f}'"
    )


@pytest.mark.parametrize("value", [0, 1800])
def test_spectra_of_one_number(value):
    cube = filled(value, np.s_[:2], np.uint16)
    cube[5, 5] = 7
    cube[6, 6, 0] = 3  # 0 stands not apart
    (note,) = told(cube)
    assert note == (
        f"cube.npy: {2 * COLS} pixels hold {value} in all bands, first at row 0, column 0; if that "
        f"means no data, write 'nodata: {value}'"
    )
    (note,) = told(cube, float(value))
    assert "1 pixels hold 7 in all bands, first at row 5, column 5;" in note
    assert note.endswith(f"write 'nodata: [{value}, 7]'")


@pytest.mark.parametrize("name", [name for name in HONEST if name not in FLAT])
def test_other_values_are_not_told(name):
    assert told(HONEST[name]) == []


def test_what_is_stated_is_not_told(tmp_path):
    cube = filled(-9999, BORDER, np.int16)
    assert told(cube, -9999.0) == []
    cube = filled(65_535, BORDER, np.uint16)
    assert len(loaded(tmp_path, cube).notes) == 1
    assert loaded(tmp_path, cube, "nodata: null").notes == ()


def test_a_large_scene_is_looked_at_by_blocks():
    rows = 2 * VALUES_PER_BLOCK // (COLS * BANDS)
    cube = np.resize(CUBE, (rows, COLS, BANDS)).astype(np.float32)
    cube[rows // 2 + 5 :, :, 1] = -9999
    found = standing_apart(cube, None)
    assert found == (-9999, COLS * (rows - rows // 2 - 5), found.count, (rows // 2 + 5, 0, 1))
