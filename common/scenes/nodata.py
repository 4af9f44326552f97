"""Pixels without data: told from those with, and what is taken for data but cannot be told."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.scenes.by_rows import AnyCube, pixel_blocks, row_blocks, rows_of, spectra_of
from common.system.errors import InputError

NoData = float | tuple[float, ...] | None  # the value of pixels without data, or several such
LARGEST_VALUE = 1e100  # whose square float64 still holds
VALUES_PER_BLOCK = 1 << 24  # of a cube that are looked at together
SAMPLE = 1 << 14  # pixels that tell how large values usually are
# A value is wild where it is so many times as large as is usual in its band, which the range of no
# sensor spans (16 bits tell 65,536 levels), and by so much more than any other: what is honest,
# however skewed, leaves no such gap.
WILD, GAP = 1e5, 100.0
MOST_VALUES = 3  # that a message advises to list


@dataclass(frozen=True)
class Stored:
    """A cube as its file stores it, which is what a scene file's `nodata` speaks of.

    Attributes
    ----------
    nodata : NoData
        What is stated already.
    value : callable or None
        ``value(row, col, band)`` is the number in the file; that in the cube if left out.
    """

    nodata: NoData = None
    value: Callable[[int, int, int], float] | None = None

    def line_with(self, cube: AnyCube, places: np.ndarray, first_row: int = 0) -> str:
        """Return the line of a scene file that says that the values there, too, are no data.

        Places are (n, 3), row, column and band of a cube that is a scene's rows from `first_row`.
        """
        values = [
            self.value(first_row + row, col, band)
            if self.value
            else rows_of(cube, row, row + 1)[0, col, band]
            for row, col, band in places.tolist()
        ]
        every = [f"{value:.16g}" for value in values_of(self.nodata)] + list(map(str, values))
        return f"nodata: {every[0]}" if len(every) == 1 else f"nodata: [{', '.join(every)}]"


def values_of(nodata: NoData) -> tuple[float, ...]:
    """Return the values of pixels without data, of which there may be none."""
    if nodata is None:
        return ()
    return nodata if isinstance(nodata, tuple) else (nodata,)


def is_nodata(values: np.ndarray, nodata: NoData) -> np.ndarray:
    """Tell which values of an array are `nodata`: bool, of the same shape."""
    found = np.zeros(values.shape, bool)
    with np.errstate(over="ignore"):  # nodata may be beyond the values' type
        for value in values_of(nodata):
            found |= np.isnan(values) if math.isnan(value) else values == value
    return found


def beyond(valid_range: tuple[float, float] | None, values: np.ndarray) -> np.ndarray:
    """Tell which values of an array are smaller or larger than those that are data: bool."""
    if valid_range is None:
        return np.zeros(values.shape, bool)
    with np.errstate(over="ignore"):  # the ends may be beyond the values' type
        return (values < valid_range[0]) | (values > valid_range[1])


def has_data(cube: AnyCube, nodata: NoData) -> np.ndarray:
    """Tell which pixels of (rows, cols, bands) hold data: bool (rows, cols).

    A pixel has none where any band holds `nodata`, or every band if `nodata` is 0, which a dark
    band may hold as well.
    """
    valid, values = np.ones(cube.shape[:2], bool), values_of(nodata)
    others = tuple(value for value in values if value != 0)
    if not values:
        return valid
    for start, block in row_blocks(cube, VALUES_PER_BLOCK):
        found = valid[start : start + len(block)]
        found &= ~is_nodata(block, others).any(axis=2)
        if 0 in values:
            found &= (block != 0).any(axis=2)
    return valid


def valid_pixels(
    cube: np.ndarray,
    nodata: NoData,
    where: str,
    first_row: int = 0,
    bands: Sequence[int] | None = None,
    stored: Stored = Stored(),
) -> np.ndarray:
    """Like `has_data`, and check that what is data are finite numbers of sensible size.

    Raises
    ------
    InputError
        Other pixels hold NaN, infinite or enormous values; the message starts with `where`, counts
        rows from `first_row`, that of the cube's first row in its scene, and calls the cube's bands
        by the file's numbers, `bands`.
    """
    valid = has_data(cube, nodata)
    if cube.dtype.kind == "f":
        largest = cube.dtype.type(min(LARGEST_VALUE, float(np.finfo(cube.dtype).max)))
        wrong = ~((cube <= largest) & (cube >= -largest)) & valid[..., None]
        if wrong.any():
            place = np.argwhere(wrong)[:1]
            row, col, band = place[0]
            value, values = cube[row, col, band], cube[wrong]
            kinds = {
                "NaN": np.isnan(values),
                "infinite": np.isinf(values),
                f"beyond {largest:g}": np.isfinite(values),
            }
            counts = ", ".join(f"{n.sum()} {kind}" for kind, n in kinds.items() if n.any())
            last_row = first_row + len(cube) - 1
            numbers = np.arange(cube.shape[2]) if bands is None else np.array(bands)
            bad = numbers[wrong.any(axis=(0, 1))]
            hint = ""
            if len(bad) <= cube.shape[2] // 2:
                hint = f", or 'ignored_bands: [{in_words(bad)}]' for there are none in other bands"
            line = stored.line_with(cube, place, first_row)
            raise InputError(
                f"{where}: {counts} values in {wrong.any(axis=2).sum()} pixels of rows "
                f"{first_row} to {last_row}, first {value} at row {first_row + row}, column {col}, "
                f"band {numbers[band]}; replace them, or write '{line}' in the scene "
                f"file to leave out such pixels{hint}"
            )
    return valid


def check_for_unstated_nodata(
    key: str,
    cube: AnyCube,
    nodata: NoData,
    first_row: int = 0,
    stored: Stored = Stored(),
) -> None:
    """Raise InputError where pixels hold one negative number in all bands: that is no spectrum.

    Unless it is `nodata`.

    Rows are counted from `first_row`, that of the cube's first row in its scene.
    """
    count, place = 0, None
    for start, block in row_blocks(cube, VALUES_PER_BLOCK):
        first = block[..., 0]
        rows, cols = np.nonzero((first < 0) & ~is_nodata(first, nodata))
        same = (block[rows, cols] == first[rows, cols, None]).all(axis=1)
        count += np.count_nonzero(same)
        if place is None and same.any():
            place = start + rows[same][0], cols[same][0]
    if place is not None:
        row, col = place
        line = stored.line_with(cube, np.array([(row, col, 0)]), first_row)
        raise InputError(
            f"{key}: {count} pixels hold the same negative number in all bands, as at row "
            f"{first_row + row}, column {col}; write '{line}' to leave out such pixels"
            f"{_or_none(stored)}"
        )


def check_for_wild_values(
    where: str,
    cube: AnyCube,
    nodata: NoData,
    bands: Sequence[int],
    stored: Stored = Stored(),
) -> None:
    """Raise InputError where some values are so large that they are no measurement.

    Borders filled with 1e20 or 9.97e36, the fill values of CF and NetCDF, are the usual case: one
    such pixel is all that a PCA sees.  What is usual in a band is the lower decile of its values,
    zeros apart, for a border may be most of a scene; or that of most bands where this is more.
    See `WILD`.
    """
    if cube.dtype.kind in "bui" and cube.dtype.itemsize <= 2:
        return
    usable = has_data(cube, nodata).ravel()
    every = max(1, np.count_nonzero(usable) // SAMPLE)
    sample = np.abs(spectra_of(cube, np.flatnonzero(usable)[::every]).astype(np.float64))
    usual = np.array([np.quantile(band[band > 0], 0.1) if band.any() else 0.0 for band in sample.T])
    if not usual.any():
        return
    usual = np.maximum(usual, np.median(usual[usual > 0]))
    largest, smallest = 0.0, np.full(len(usual), np.inf)  # of what is not wild, and of what may be
    for start, block in pixel_blocks(cube, SAMPLE, usable):
        times = np.abs(block[usable[start : start + len(block)]].astype(np.float64)) / usual
        beyond = times > WILD
        largest = max(largest, times.max(where=~beyond, initial=0))
        smallest = np.minimum(smallest, times.min(axis=0, where=beyond, initial=np.inf))
    limits = np.where(smallest > GAP * largest, WILD * usual, np.inf)
    if not (np.isfinite(limits) & np.isfinite(smallest)).any():
        return
    places = np.concatenate(
        [
            start + np.flatnonzero(usable[start : start + len(block)] & far)
            for start, block in pixel_blocks(cube, SAMPLE, usable)
            if (far := (np.abs(block.astype(np.float64)) > limits).any(axis=1)).any()
        ]
    )
    found = spectra_of(cube, places)
    wild = np.abs(found.astype(np.float64)) > limits
    values, first = np.unique(found[wild], return_index=True)
    of_places, of_bands = np.argwhere(wild)[first].T
    rows, cols = np.divmod(places[of_places], cube.shape[1])
    band = wild[0].argmax()
    row, col = divmod(int(places[0]), cube.shape[1])
    line = stored.line_with(cube, np.stack([rows, cols, of_bands], axis=1)[:MOST_VALUES])
    cure = f"write '{line}' to leave out such pixels"
    if len(values) > MOST_VALUES:
        cure = "replace them"
        if wild.any(axis=0).sum() <= cube.shape[2] // 2:
            numbers = in_words(np.array(bands)[wild.any(axis=0)])
            cure += f", or leave these bands out with 'ignored_bands: [{numbers}]'"
    raise InputError(
        f"{where}: {wild.sum()} values in {len(places)} pixels are more than {WILD:,.0f} times as "
        f"large as others, first {found[0, band]!s} at row {row}, column {col}, band "
        f"{bands[band]}; {cure}{_or_none(stored)}"
    )


def _or_none(stored: Stored) -> str:
    """Say what else to write in the scene file, unless it would undo what is stated."""
    return ", or 'nodata: null' if these are data" if stored.nodata is None else ""


def bands_in_words(bands: Sequence[int]) -> str:
    """Write "band 3", or "bands 3, 104-108"."""
    return f"band{'' if len(bands) == 1 else 's'} {in_words(bands)}"


def in_words(bands: Sequence[int]) -> str:
    """Write band numbers as a scene file has them: 3, 104-108, 220."""
    numbers = np.unique(np.asarray(bands, np.int64))
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
