"""An array as a file stores it, before axes, bands and values have one meaning for all formats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.scenes.georeference import Georeference

ReadSlices = Callable[[tuple[slice, ...]], np.ndarray]


@dataclass(frozen=True)
class StoredArray:
    """What the reader of a format finds; `common.scenes.array_file` makes an `ArrayFile` of it.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        In the file's byte order.
    read : callable
        ``read(slices)``, one slice for each axis, returns that part of the array.
    wavelengths : sequence of numbers or text, or None
        Band centres as the file states them, in `wavelength_unit`.
    bad_bands : tuple of int
        Bands that the file marks bad.
    nodata : tuple of float
        Values that stand for no data.
    scale, offset : float, or one for each band
        What is measured is ``stored * scale + offset``.
    mask : callable or None
        ``mask(start, stop)`` tells which pixels of rows start..stop-1 hold data, bool (rows, cols).
    georeference : Georeference or None
    notes : tuple of str
        What to tell the user about the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: ReadSlices
    wavelengths: Sequence[float | str] | None = None
    wavelength_unit: str | None = None
    bad_bands: tuple[int, ...] = ()
    nodata: tuple[float, ...] = ()
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    mask: Callable[[int, int], np.ndarray] | None = None
    georeference: Georeference | None = None
    notes: tuple[str, ...] = ()


def bands_marked_bad(good: Sequence[float | str]) -> tuple[int, ...]:
    """Return the bands whose entry is 0 in a list of good bands; none where these are no numbers.

    ENVI calls such a list `bbl`, bad bands list, although 1 is good in it.
    """
    try:
        return tuple(band for band, value in enumerate(good) if float(value) == 0)
    except (TypeError, ValueError):
        return ()
