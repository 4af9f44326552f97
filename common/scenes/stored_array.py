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
    good_bands : sequence of numbers or text, or None
        0 for each band that the file marks bad; ENVI calls this `bbl`, although 1 is good in it.
    nodata : tuple of float
        Values that stand for no data.
    scale, offset : float, or one for each band
        What is measured is ``stored * scale + offset``.
    valid_range : tuple of float or None
        The smallest and the largest stored value that are data.
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
    good_bands: Sequence[float | str] | None = None
    nodata: tuple[float, ...] = ()
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    valid_range: tuple[float, float] | None = None
    mask: Callable[[int, int], np.ndarray] | None = None
    georeference: Georeference | None = None
    notes: tuple[str, ...] = ()
