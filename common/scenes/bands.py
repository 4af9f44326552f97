"""The bands of a cube that are used: not those that are ignored, marked bad, or without data."""

from typing import NamedTuple

import numpy as np

from common.scenes.by_rows import AnyCube, pixel_blocks, row_blocks
from common.scenes.nodata import NoData, bands_in_words, has_data, is_nodata, values_of
from common.system.errors import InputError

PIXELS_PER_BLOCK = 1 << 14


class Bands(NamedTuple):
    """Which bands of a file are used, counted from 0, and how many there are."""

    used: tuple[int, ...]
    of: int

    @property
    def left_out(self) -> tuple[int, ...]:
        """The other bands of the file."""
        return tuple(np.setdiff1d(np.arange(self.of), self.used).tolist())


def every_band(count: int) -> Bands:
    """All bands of a file."""
    return Bands(tuple(range(count)), count)


def stated_bands(
    name: str,
    count: int,
    ignored: tuple[tuple[int, int], ...] | str | None,
    bad: tuple[int, ...],
) -> Bands:
    """Return the bands that are left by the scene file and by the marks in the cube's own.

    Parameters
    ----------
    name : str
        The scene file, for messages.
    count : int
        Bands in the file.
    ignored : tuple of (first, last), "none" or None
        What the scene file says under `ignored_bands`; "none" has bands that are marked bad used.
    bad : tuple of int
        Bands that the cube's file marks bad.

    Raises
    ------
    InputError
        The scene file names bands that the cube does not have.
    """
    left = np.ones(count, bool)
    if ignored != "none":
        left[list(bad)] = False
        for first, last in ignored or ():
            if last >= count:
                raise InputError(
                    f"{name}: 'ignored_bands' names band {last}, but the cube has {count}, "
                    f"counted from 0"
                )
            left[first : last + 1] = False
    return Bands(tuple(np.flatnonzero(left).tolist()), count)


def bands_with_data(cube: AnyCube, nodata: NoData) -> np.ndarray:
    """Tell which bands of (rows, cols, bands) tell pixels apart: bool (bands,).

    A band does not where every pixel that has data in other bands holds `nodata`, NaN or infinity
    in this one, or where they all hold one value, as fill values that no file states.  Where this
    is so of all bands, all are said to have data: it is the pixels that have none then.
    """
    rows, cols, bands = cube.shape
    unusable = np.zeros(bands, np.int64)
    for _, block in pixel_blocks(cube, PIXELS_PER_BLOCK):
        unusable += _unusable(block, nodata).sum(axis=0)
    with_data = unusable < rows * cols
    if not with_data.any():
        return ~with_data
    smallest, largest = np.full(len(with_data), np.inf), np.full(len(with_data), -np.inf)
    for _, whole in pixel_blocks(cube, PIXELS_PER_BLOCK):
        block = whole[:, with_data]
        block = block[has_data(block[None], nodata)[0]]
        block = block[np.isfinite(block).all(axis=1)].astype(np.float64)
        smallest[with_data] = np.minimum(smallest[with_data], block.min(axis=0, initial=np.inf))
        largest[with_data] = np.maximum(largest[with_data], block.max(axis=0, initial=-np.inf))
    varies = with_data & (smallest < largest)
    return varies if varies.any() else np.ones_like(varies)


def _unusable(values: np.ndarray, nodata: NoData) -> np.ndarray:
    return is_nodata(values, nodata) | ~np.isfinite(values)


def nearest_used(numbers: tuple[int, ...], bands: Bands) -> tuple[int, ...]:
    """Return where in a cube of the used bands those of the file stand, or the nearest to them."""
    used = np.array(bands.used)
    return tuple(int(np.abs(used - number).argmin()) for number in numbers)


def mostly_without_data(cube: AnyCube, nodata: NoData, pixels: np.ndarray) -> np.ndarray:
    """Return the bands that take the data from most of some pixels, bool (rows, cols)."""
    others = tuple(value for value in values_of(nodata) if value != 0)
    without = np.zeros(cube.shape[2], np.int64)
    for start, block in row_blocks(cube):
        without += is_nodata(block[pixels[start : start + len(block)]], others).sum(axis=0)
    return np.flatnonzero(2 * without > np.count_nonzero(pixels))


def check_trained_bands(name: str, trained: Bands, stated: Bands, bad: tuple[int, ...]) -> None:
    """Raise InputError where a network uses bands that a scene of the same layout leaves out."""
    missing = np.setdiff1d(trained.used, stated.used)
    if len(missing):
        marked = len(np.intersect1d(missing, bad)) == len(missing)
        why = "marked bad in its file" if marked else "left out by 'ignored_bands'"
        cure = "to use them all the same, write 'ignored_bands: null'" if marked else "use them"
        raise InputError(
            f"{name}: the network uses {bands_in_words(missing)}, {why}; {cure}, or "
            f"train without them"
        )
