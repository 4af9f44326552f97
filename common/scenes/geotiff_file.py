"""GeoTIFFs, through GDAL: bands, masks, scale factors, and from where wavelengths are read."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from common.scenes.georeference import GeotiffPosition, import_rasterio
from common.scenes.satellite_metadata import BandsOfProduct, product_bands
from common.scenes.stored_array import StoredArray

OPAQUE = (1, 255, 32_767, 65_535)  # what programs write into an alpha band where there are data
MOST_COLOUR_BANDS = 4  # of a picture, whose alpha band may be half transparent
VALUES_PER_BLOCK = 1 << 22  # that are looked at together
# "418.24 Nanometers", "band 1 (418.24 nm)", as GDAL describes the bands of an ENVI file
DESCRIBED = re.compile(r"(\d+(?:\.\d*)?)\s*(nm|[uµμ]m|nanomet(?:er|re)s?|microns?|micromet\w+)\b")


@contextlib.contextmanager
def _quietly(rasterio: ModuleType) -> Iterator[None]:
    """Keep GDAL's warnings off stderr, also those of damaged texts, which rasterio cannot decode.

    Of these it prints the error by both hooks, and goes on.
    """
    told, ignored = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda kind, *rest: None if kind is UnicodeDecodeError else told(kind, *rest)
    sys.unraisablehook = lambda fault: (
        None if fault.exc_type is UnicodeDecodeError else ignored(fault)
    )
    try:
        with rasterio.Env():
            yield
    finally:
        sys.excepthook, sys.unraisablehook = told, ignored


def open_geotiff(path: Path) -> StoredArray:
    """Open a GeoTIFF; a mask or an alpha band becomes `mask`, and is no band."""
    rasterio = import_rasterio(path)
    with _quietly(rasterio):
        image = rasterio.open(path, driver="GTiff")
        alpha = _alpha_band(image)
        indexes = [index for index in image.indexes if index != alpha]
        dtypes = {image.dtypes[index - 1] for index in indexes}
        tags = [image.tags(index) for index in indexes]
        product = product_bands(path, len(indexes)) or BandsOfProduct()
        wavelengths, unit = _wavelengths(image, indexes, tags)
        if wavelengths is None:
            wavelengths, unit = product.wavelengths, "nm"
        scale = tuple(image.scales[index - 1] for index in indexes)
        offset = tuple(image.offsets[index - 1] for index in indexes)
        if set(scale) == {1.0} and set(offset) == {0.0}:  # stated in one place, or not at all
            scale, offset = product.scale, product.offset
        flags = rasterio.enums.MaskFlags
        of_first = image.mask_flag_enums[0]
        masked = flags.per_dataset in of_first and not {flags.nodata, flags.alpha} & set(of_first)

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        rows, cols, bands = slices
        window = (rows.indices(image.height)[:2], cols.indices(image.width)[:2])
        with _quietly(rasterio):
            return np.moveaxis(image.read(indexes[bands], window=window), 0, 2)

    def mask(start: int, stop: int) -> np.ndarray:
        window = ((start, stop), (0, image.width))
        with _quietly(rasterio):
            covered = image.read_masks(1, window=window) > 0 if masked else True
            return covered & (image.read(alpha, window=window) > 0) if alpha else covered

    return StoredArray(
        shape=(image.height, image.width, len(indexes)),
        dtype=np.result_type(*dtypes),
        read=read,
        wavelengths=wavelengths,
        wavelength_unit=unit,
        good_bands=_good_bands(image, tags),
        nodata=() if image.nodata is None else (image.nodata,),
        scale=scale,
        offset=offset,
        mask=mask if masked or alpha else None,
        georeference=GeotiffPosition.from_dataset(image),
        notes=(f"{path.name}: its band {alpha - 1} is an alpha band: no data where it is 0",)
        if alpha
        else (),
    )


def _wavelengths(
    image, indexes: list[int], tags: list[dict[str, str]]
) -> tuple[list[str] | None, str | None]:
    """Return band centres and their unit from the first place that has one for each band.

    These are GDAL's own tag; the tags of a GeoTIFF that GDAL made of an ENVI file, or their like;
    the header of an ENVI file kept whole; the bands' descriptions.
    """
    gdal = [image.tags(index, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM") for index in indexes]
    if None not in gdal:
        return gdal, "um"
    lower = [{key.lower(): value for key, value in tag.items()} for tag in tags]
    centres = [tag.get("wavelength", tag.get("wavelengths")) for tag in lower]
    if None not in centres:
        units = ("wavelength_units", "wavelength_unit", "wavelength units", "wavelength unit")
        return centres, next((lower[0][key] for key in units if key in lower[0]), None)
    header = image.tags(ns="ENVI")
    if "wavelength" in header:
        return _entries(header["wavelength"]), header.get("wavelength_units")
    found = [DESCRIBED.search((image.descriptions[i - 1] or "").lower()) for i in indexes]
    if all(found) and len({match[2] for match in found}) == 1:
        return [match[1] for match in found], found[0][2]
    return None, None


def _good_bands(image, tags: list[dict[str, str]]) -> list[str] | None:
    """Return ENVI's list of good bands, 1, and bad ones, 0, as GDAL keeps it."""
    marks = [tag.get("bbl") for tag in tags]
    if None not in marks:
        return marks
    marks = image.tags(ns="ENVI").get("bbl")
    return marks and _entries(marks)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.strip().strip("{}").split(",")]


def _alpha_band(image) -> int | None:
    """Return the number, from 1, of the band that says where there are data, if there is one.

    Not every program marks it, and GDAL, when it makes a file of many bands, marks the second one.
    It is a band of nothing but zeros and a whole type's largest value; one that is not marked is
    the last, and holds zeros where the other bands do.
    """
    from rasterio.enums import ColorInterp

    if image.count < 2:
        return None
    marked = [i for i in image.indexes if image.colorinterp[i - 1] == ColorInterp.alpha]
    if image.count <= MOST_COLOUR_BANDS and marked:
        return marked[-1]
    for band in (marked[-1], image.count) if marked else ():
        if _covers(image, band):
            return band
    return image.count if _covers(image, image.count, zero_elsewhere=True) else None


def _covers(image, band: int, zero_elsewhere: bool = False) -> bool:
    """Whether a band holds one opaque value, and zeros elsewhere.

    With `zero_elsewhere` there must be zeros, and nothing but zero in the other bands there.
    """
    opaque, transparent = None, False
    others = [index for index in image.indexes if index != band]
    step = max(1, VALUES_PER_BLOCK // (image.width * image.count))
    for start in range(0, image.height, step):
        window = ((start, min(start + step, image.height)), (0, image.width))
        values = image.read(band, window=window)
        covered = values != 0
        if opaque is None and covered.any():
            opaque = values[covered][0]
        if covered.any() and (opaque not in OPAQUE or (values[covered] != opaque).any()):
            return False
        if not covered.all():
            transparent = True
            if zero_elsewhere and image.read(others, window=window)[:, ~covered].any():
                return False
    return opaque is not None and (transparent or not zero_elsewhere)
