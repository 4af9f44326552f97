"""The metadata file beside an EnMAP or DESIS GeoTIFF: wavelengths and scale factors of its bands.

Products of both satellites are ``…-SPECTRAL_IMAGE.TIF`` with ``…-METADATA.XML``, where
``bandCharacterisation`` holds an element for each band (DLR: EnMAP HSI product specification,
EN-PCV-ICD-2009; DESIS product specification).  Values are ``stored * gain + offset``.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from common.system.errors import InputError, damage_in_one_line
from common.system.files import check_is_file

LARGEST_FILE = 1 << 24  # bytes
IMAGE = re.compile(r"-SPECTRAL_IMAGE(_COG)?$", re.IGNORECASE)
BANDS = "bandCharacterisation"
ENDINGS = ("-METADATA.XML", "-METADATA.xml", "-METADATA.XML.XML")


@dataclass(frozen=True)
class BandsOfProduct:
    """What a metadata file says of the bands: centres in nm, and scale factors."""

    wavelengths: list[float] | None = None
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0


class _Bands:
    """Takes the elements of the bands from a parser, and keeps no other: a file may be large.

    Refuses what may stand for any amount of text.
    """

    def __init__(self) -> None:
        self.path: list[str] = []
        self.found: list[dict[str, str]] = []

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.path.append(tag)
        if self.path[-2:-1] == [BANDS]:
            self.found.append({})

    def data(self, text: str) -> None:
        if self.path[-3:-2] == [BANDS]:
            part = self.path[-1].lower()
            self.found[-1][part] = self.found[-1].get(part, "") + text

    def end(self, tag: str) -> None:
        self.path.pop()

    def close(self) -> list[dict[str, str]]:
        return self.found


def metadata_file(image: Path) -> Path | None:
    """Return the metadata file beside an image; None where there is none or no such name."""
    stem, is_product = IMAGE.subn("", image.stem)
    names = [image.with_name(f"{stem}{ending}") for ending in ENDINGS]
    path = next((name for name in names if os.path.isfile(name)), None)
    return path if is_product else None


def product_bands(image: Path, bands: int) -> BandsOfProduct | None:
    """Read the metadata file beside an image; None where there is none or the name is not theirs.

    Raises
    ------
    InputError
        The file is damaged, or describes another number of bands.
    """
    path = metadata_file(image)
    if path is None:
        return None
    check_is_file(path, largest=LARGEST_FILE)
    with damage_in_one_line(path, "metadata file of a product"):
        parser = ElementTree.XMLParser(target=_Bands())
        parser.feed(path.read_bytes())
        described = parser.close()
        if not described:
            return None
        if len(described) != bands:
            raise InputError(
                f"{path}: describes {len(described)} bands, but {image.name} has {bands}; move it "
                f"elsewhere if it belongs to another image"
            )
        values = {
            name: tuple(float(band[name]) for band in described)
            for name in ("wavelengthcenterofband", "gainofband", "offsetofband")
            if all(name in band for band in described)
        }
    centres = values.get("wavelengthcenterofband")
    return BandsOfProduct(
        list(centres) if centres else None,
        values.get("gainofband", 1.0),
        values.get("offsetofband", 0.0),
    )
