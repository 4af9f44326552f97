"""Going through a cube some rows or pixels at a time, be it in memory or in its file.

What is computed of blocks is the same for both: their pixels are, whatever is read for them.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class InFile(Protocol):
    """A cube (rows, cols, bands) that is left in its file: an `ArrayFile`."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1."""


AnyCube = np.ndarray | InFile
VALUES_PER_READ = 1 << 22  # of a cube in its file


def rows_of(cube: AnyCube, start: int, stop: int) -> np.ndarray:
    """Return rows start..stop-1 of a cube (rows, cols, bands)."""
    return cube[start:stop] if isinstance(cube, np.ndarray) else cube.read_rows(start, stop)


def row_blocks(cube: AnyCube, values: int = VALUES_PER_READ) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row, and the rows, of blocks of about so many values, a row at least."""
    rows, cols, bands = cube.shape
    step = max(1, values // (cols * bands))
    for start in range(0, rows, step):
        yield start, rows_of(cube, start, min(start + step, rows))


def pixel_blocks(
    cube: AnyCube, size: int, wanted: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first flat index, and the spectra (pixels, bands), of `size` pixels at a time.

    Of a file nothing is read for blocks without a `wanted` pixel, bool (rows * cols,), and these
    are left out.
    """
    rows, cols, bands = cube.shape
    if isinstance(cube, np.ndarray):
        held, first, last = cube.reshape(-1, bands), 0, rows * cols
    else:
        held, first, last = np.empty((0, bands), cube.dtype), 0, 0
    step = max(-(-size // cols), VALUES_PER_READ // (cols * bands)) + 1
    for start in range(0, rows * cols, size):
        stop = min(start + size, rows * cols)
        if not isinstance(cube, np.ndarray):
            if wanted is not None and not wanted[start:stop].any():
                continue
            if stop > last:
                row = start // cols
                held = cube.read_rows(row, min(row + step, rows)).reshape(-1, bands)
                first, last = row * cols, row * cols + len(held)
        yield start, held[start - first : stop - first]


def spectra_of(cube: AnyCube, pixels: np.ndarray) -> np.ndarray:
    """Return the spectra (…, bands) of flat indices of any shape."""
    if isinstance(cube, np.ndarray):
        return cube[np.unravel_index(pixels, cube.shape[:2])]
    _, cols, bands = cube.shape
    flat = pixels.ravel()
    found = np.empty((len(flat), bands), cube.dtype)
    order = np.argsort(flat, kind="stable")
    step = max(1, VALUES_PER_READ // (cols * bands))
    of_step = flat[order] // cols // step
    for places in np.split(order, np.flatnonzero(np.diff(of_step)) + 1):
        if len(places):
            start, stop = flat[places[0]] // cols, flat[places[-1]] // cols + 1
            block = cube.read_rows(start, stop).reshape(-1, bands)
            found[places] = block[flat[places] - start * cols]
    return found.reshape(*pixels.shape, bands)
