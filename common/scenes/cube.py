"""The cube of a scene as it is used: read, scaled, without bands that hold no data."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from common.scenes.array_file import ArrayFile, measured, with_bands
from common.scenes.bands import Bands, bands_with_data, check_trained_bands, stated_bands
from common.scenes.georeference import Georeference
from common.scenes.nodata import NoData, Stored, bands_in_words, in_words
from common.scenes.scene_file import SCENES, Description
from common.system.errors import InputError
from common.system.memory import is_held_in_memory

LEAST_BANDS = 7  # that the networks' first convolution takes


@dataclass(frozen=True)
class Cube:
    """A cube and what belongs to it; see `common.scenes.scene.Scene` for the attributes."""

    values: np.ndarray | ArrayFile
    bands: Bands
    nodata: NoData = None
    nodata_unstated: bool = False
    stored: Stored = field(default_factory=Stored)
    wavelengths: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    georeference: Georeference | None = None
    to_train: bool = True


def read_cube(
    description: Description,
    key: str,
    file: ArrayFile,
    to_train: bool = True,
    trained: Bands | None = None,
) -> Cube:
    """Read the cube of an opened file, or let it be read by rows.

    It is read `to_train`, if there is memory enough.  Bands without data are then found, and left
    out, but in the benchmarks' scenes, whose bands are known.  Else they are those of `trained`, if
    its file has as many bands.

    Raises
    ------
    InputError
        What the scene file says of bands and wavelengths does not fit, or too few bands are left.
    """
    count, name = file.shape[2], file.path.name
    notes = list(file.notes)
    wavelengths = _band_centres(description, key, file)
    if wavelengths is None and file.wavelengths_unused:
        notes.append(
            f"{name}: its wavelengths are not used, {file.wavelengths_unused}; list them in nm "
            f"under 'wavelengths' in the scene file"
        )
    bands = stated_bands(key, count, description.ignored_bands, file.bad_bands)
    if trained is not None and trained.of == count:
        check_trained_bands(key, trained, bands, file.bad_bands)
        bands = trained
        if bands.left_out:
            notes.append(f"{name}: left out {bands_in_words(bands.left_out)}, as in training")
    elif file.bad_bands and description.ignored_bands != "none":
        notes.append(f"{name}: left out {bands_in_words(file.bad_bands)}, which it marks as bad")
    _check_count(file, bands)
    stated = file.nodata if description.nodata is None else description.nodata
    if stated == "none":
        stated, file = None, dataclasses.replace(file, valid_range=None)
    values, nodata = measured(with_bands(file, bands.used), stated)
    if to_train:
        values = values.read() if is_held_in_memory(values.shape) else values
        if key not in SCENES:
            with_data = bands_with_data(values, nodata)
            if not with_data.all():
                without = bands_in_words(np.array(bands.used)[~with_data])
                notes.append(
                    f"{name}: left out {without}: without data in every pixel, or of one value in "
                    f"all"
                )
                bands = Bands(tuple(np.array(bands.used)[with_data].tolist()), count)
                values = _with_bands(values, with_data)
                _check_count(file, bands)

    def as_stored(row: int, col: int, band: int) -> float:
        return file.read_rows(row, row + 1)[0, col, bands.used[band]]

    return Cube(
        values,
        bands,
        nodata,
        description.nodata != "none" and key not in SCENES,
        Stored(stated, as_stored),
        wavelengths and tuple(wavelengths[band] for band in bands.used),
        tuple(notes),
        file.georeference,
        to_train,
    )


def _with_bands(values: np.ndarray | ArrayFile, kept: np.ndarray) -> np.ndarray | ArrayFile:
    """Keep some bands, bool (bands,)."""
    if isinstance(values, np.ndarray):
        return values.compress(kept, axis=2)
    return with_bands(values, tuple(np.flatnonzero(kept).tolist()))


def _band_centres(description: Description, key: str, file: ArrayFile) -> tuple[float, ...] | None:
    """Return those that the scene file lists, else those that the cube's file states."""
    listed = description.wavelengths
    if not isinstance(listed, tuple):
        return file.wavelengths
    if len(listed) != file.shape[2]:
        raise InputError(
            f"{key}: 'wavelengths' lists {len(listed)}, but the cube {file.path.name} has "
            f"{file.shape[2]} bands; list one for each, in nm"
        )
    return listed


def _check_count(file: ArrayFile, bands: Bands) -> None:
    if len(bands.used) < LEAST_BANDS:
        left_out = f" without {in_words(bands.left_out)}" if bands.left_out else ""
        raise InputError(
            f"{file.path}: {len(bands.used)} bands{left_out}; the networks need at least "
            f"{LEAST_BANDS}"
        )
