"""The ground truth where the cube holds data, and whether there is anything to learn of it."""

import numpy as np

from common.scenes.bands import mostly_without_data
from common.scenes.by_rows import AnyCube, row_blocks
from common.scenes.cube import Cube
from common.scenes.nodata import LARGEST_VALUE, VALUES_PER_BLOCK, in_words, valid_pixels
from common.scenes.scene_file import Description
from common.system.errors import InputError


def labels_with_data(
    description: Description, labels: np.ndarray, read: Cube
) -> tuple[np.ndarray, list[str]]:
    """Return the ground truth, 0 where the cube holds no data, and what to tell of what is lost.

    A cube in a file is read in blocks of rows; one that is not to be trained on only where it is
    stated what is no data.

    Raises
    ------
    InputError
        What is left has fewer than two classes, or one in a scene that is only tested or mapped; or
        it has one spectrum, or other pixels hold NaN, infinite or enormous values.
    """
    cube, nodata, where = read.values, read.nodata, str(description.cube.path)
    if nodata is None and not read.to_train:
        return labels, []  # nothing to leave out; what is not finite is noticed when it is used
    with_data = labels.copy()
    for start, block in row_blocks(cube, VALUES_PER_BLOCK):
        valid = valid_pixels(block, nodata, where, start, read.bands.used, read.stored)
        with_data[start : start + len(block)][~valid] = 0
    least = 2 if read.to_train else 1
    if len(np.unique(with_data[with_data > 0])) < least:
        raise InputError(
            f"{where}: pixels with data are labelled with fewer than {least} classes; check "
            f"'nodata'{_bands_to_ignore(labels > 0, read)}"
        )
    if read.to_train and not _varies(cube, with_data > 0):
        raise InputError(f"{where}: all labelled pixels have the same spectrum; nothing to learn")
    return with_data, _lost(description.cube.path.name, labels > 0, with_data > 0, read)


def _lost(name: str, labelled: np.ndarray, left: np.ndarray, read: Cube) -> list[str]:
    """Say how many labelled pixels hold no data, if any do."""
    of, lost = np.count_nonzero(labelled), np.count_nonzero(labelled & ~left)
    if not lost:
        return []
    hint = _bands_to_ignore(labelled, read) if 2 * lost > of else ""
    return [f"{name}: {lost} of {of} labelled pixels are without data and left out{hint}"]


def _bands_to_ignore(pixels: np.ndarray, read: Cube) -> str:
    """Name the bands without which most of some pixels, bool (rows, cols), would have data."""
    if not read.to_train:
        return ""
    bands = mostly_without_data(read.values, read.nodata, pixels)
    if not 0 < len(bands) <= read.values.shape[2] // 2:
        return ""
    numbers = in_words(np.array(read.bands.used)[bands])
    return f", or leave out bands that have none: 'ignored_bands: [{numbers}]'"


def _varies(cube: AnyCube, pixels: np.ndarray) -> bool:
    """Whether some band differs between pixels, by enough to be squared; a few rows do mostly."""
    smallest, largest = np.full(cube.shape[2], np.inf), np.full(cube.shape[2], -np.inf)
    for start, block in row_blocks(cube):
        spectra = block[pixels[start : start + len(block)]].astype(np.float64)
        smallest = np.minimum(smallest, spectra.min(axis=0, initial=np.inf))
        largest = np.maximum(largest, spectra.max(axis=0, initial=-np.inf))
        if (largest - smallest > 1 / LARGEST_VALUE).any():
            return True
    return False
