"""Values that look like those of pixels without data, but need not be: the user is told of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from common.scenes.nodata import NoData, Stored, has_data, is_nodata

VALUES_PER_BLOCK = 1 << 21  # of a cube that are looked at together


class Apart(NamedTuple):
    """A value, how often it occurs, in how many pixels, and (row, col, band) of the first."""

    value: float
    count: int
    pixels: int
    first: tuple[int, int, int]


def likely_fills(
    name: str, cube: np.ndarray, nodata: NoData, bands: Sequence[int], stored: Stored
) -> list[str]:
    """Tell of the smallest or largest value where it stands apart, and of spectra of one number.

    As -32768 and 65535 do, and borders of 0; so may saturated pixels.  `bands` are the numbers of
    the cube's in its file.
    """
    notes, apart = [], standing_apart(cube, nodata)
    if apart is not None:
        row, col, band = apart.first
        line = stored.line_with(cube, np.array([apart.first]))
        notes.append(
            f"{name}: {apart.count} values in {apart.pixels} pixels are {cube[apart.first]!s}, "
            f"first at row {row}, column {col}, band {bands[band]}, which is farther from all "
            f"others than these are from each other; if that means no data, write '{line}'"
        )
    places, held = _flat_spectra(cube, nodata)
    if apart is not None:
        places, held = places[held != apart.value], held[held != apart.value]
    if len(places):
        values, counts = np.unique(held, return_counts=True)
        row, col = places[held == values[counts.argmax()]][0]
        line = stored.line_with(cube, np.array([(row, col, 0)]))
        notes.append(
            f"{name}: {counts.max()} pixels hold {cube[row, col, 0]!s} in all bands, first at row "
            f"{row}, column {col}; if that means no data, write '{line}'"
        )
    return notes


def standing_apart(cube: np.ndarray, nodata: NoData) -> Apart | None:
    """Find the smallest or largest value if it is farther from the others than these span.

    And occurs more than once, in pixels with data; None where neither does.
    """
    low, high = np.inf, -np.inf
    for _, values in _blocks(cube, nodata):
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    second, last = np.inf, -np.inf
    for _, values in _blocks(cube, nodata):
        second = min(second, float(values.min(where=values > low, initial=values.max())))
        last = max(last, float(values.max(where=values < high, initial=values.min())))
    if second - low > high - second > 0:
        found = low
    elif high - last > last - low > 0:
        found = high
    else:
        return None
    count, pixels, first = 0, 0, None
    for places, values in _blocks(cube, nodata):
        same = values == found
        here = same.any(axis=1)
        count, pixels = count + np.count_nonzero(same), pixels + np.count_nonzero(here)
        if first is None and here.any():
            pixel = here.argmax()
            first = (*places[pixel].tolist(), int(same[pixel].argmax()))
    return Apart(found, count, pixels, first) if count > 1 else None


def _blocks(cube: np.ndarray, nodata: NoData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row, col) (n, 2) and values (n, bands) of pixels with data, some rows at a time."""
    step = max(1, VALUES_PER_BLOCK // (cube.shape[1] * cube.shape[2]))
    for start in range(0, len(cube), step):
        block = cube[start : start + step]
        valid = has_data(block, nodata)
        if valid.any():
            yield np.argwhere(valid) + np.array((start, 0)), block[valid]


def _flat_spectra(cube: np.ndarray, nodata: NoData) -> tuple[np.ndarray, np.ndarray]:
    """Return (row, col) of pixels (n, 2) with one number, 0 or more, in all bands, and it."""
    first = cube[..., 0]
    places = np.argwhere((first == cube[..., -1]) & (first >= 0) & ~is_nodata(first, nodata))
    blocks = np.array_split(places, max(1, places.size * cube.shape[2] // VALUES_PER_BLOCK))
    flat = [(cube[*block.T] == first[*block.T][:, None]).all(axis=1) for block in blocks]
    places = places[np.concatenate(flat)]
    return places, first[*places.T]
