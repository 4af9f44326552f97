"""Values that look like those of pixels without data, but need not be: the user is told of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from common.scenes.by_rows import AnyCube, row_blocks, rows_of
from common.scenes.nodata import NoData, Stored, has_data, is_nodata

VALUES_PER_BLOCK = 1 << 21  # of a cube that are looked at together


class Apart(NamedTuple):
    """A value, how often it occurs, in how many pixels, and (row, col, band) of the first."""

    value: float
    count: int
    pixels: int
    first: tuple[int, int, int]


class Flat(NamedTuple):
    """How many pixels hold one number in all bands, and (row, col) of the first."""

    count: int
    first: tuple[int, int]


def likely_fills(
    name: str, cube: AnyCube, nodata: NoData, bands: Sequence[int], stored: Stored
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
            f"{name}: {apart.count} values in {apart.pixels} pixels are "
            f"{rows_of(cube, row, row + 1)[0, col, band]!s}, "
            f"first at row {row}, column {col}, band {bands[band]}, which is farther from all "
            f"others than these are from each other; if that means no data, write '{line}'"
        )
    flat = _flat_spectra(cube, nodata)
    if apart is not None:
        flat.pop(apart.value, None)
    if flat:
        most = max(flat.values(), key=lambda of: of.count)
        row, col = most.first
        line = stored.line_with(cube, np.array([(row, col, 0)]))
        notes.append(
            f"{name}: {most.count} pixels hold {rows_of(cube, row, row + 1)[0, col, 0]!s} in all "
            f"bands, first at row {row}, column {col}; if that means no data, write '{line}'"
        )
    return notes


def standing_apart(cube: AnyCube, nodata: NoData) -> Apart | None:
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


def _blocks(cube: AnyCube, nodata: NoData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row, col) (n, 2) and values (n, bands) of pixels with data, some rows at a time."""
    for start, block in row_blocks(cube, VALUES_PER_BLOCK):
        valid = has_data(block, nodata)
        if valid.any():
            yield np.argwhere(valid) + np.array((start, 0)), block[valid]


def _flat_spectra(cube: AnyCube, nodata: NoData) -> dict[float, Flat]:
    """Count the pixels with one number, 0 or more, in all bands, by that number, in its order."""
    found: dict[float, Flat] = {}
    for start, block in row_blocks(cube, VALUES_PER_BLOCK):
        first = block[..., 0]
        candidate = (first == block[..., -1]) & (first >= 0) & ~is_nodata(first, nodata)
        places = np.argwhere(candidate)
        flat = (block[candidate] == first[candidate][:, None]).all(axis=1)
        places, held = places[flat] + np.array((start, 0)), first[candidate][flat]
        values, where, counts = np.unique(held, return_index=True, return_counts=True)
        for value, at, count in zip(values.tolist(), where, counts.tolist(), strict=True):
            before = found.get(value, Flat(0, tuple(places[at].tolist())))
            found[value] = before._replace(count=before.count + count)
    return dict(sorted(found.items()))
