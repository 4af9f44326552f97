"""ENVI files: a header of text, and a data file of nothing but numbers."""

import codecs
import contextlib
import logging
import math
import os
from pathlib import Path

import numpy as np

from common.scenes.georeference import EnviPosition
from common.scenes.stored_array import StoredArray
from common.system.errors import InputError
from common.system.files import check_is_file

LARGEST_HEADER = 1 << 20  # bytes
DATA_ENDINGS = ("", ".img", ".dat", ".raw", ".bin", ".sli", ".hyspex", ".bsq", ".bil", ".bip")
ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"E\0N\0": "utf-16-le",
    b"\0E\0N": "utf-16-be",
}
Header = dict[str, str | list[str]]


def find_header(path: Path) -> Path | None:
    """Return the ENVI header that `path` is or has beside it: scene.img.hdr or scene.hdr."""
    if path.suffix.lower() == ".hdr":
        return path
    names = [
        name for end in (".hdr", ".HDR") for name in (f"{path.name}{end}", f"{path.stem}{end}")
    ]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def open_envi(path: Path, header_path: Path) -> StoredArray:
    """Open an ENVI cube of any interleave, memory-mapped, by its header or its data file."""
    from spectral.io import bilfile, bipfile, bsqfile, envi  # only this format needs it

    logging.getLogger("spectral").setLevel(logging.CRITICAL)  # else it talks on stderr
    check_is_file(header_path, largest=LARGEST_HEADER)
    header = parse_header(header_path.read_bytes())
    header.setdefault("byte order", "0")  # as in ENVI itself
    envi.check_compatibility(header)
    if "spectral library" in str(header.get("file type", "")).lower():
        raise InputError(f"{path}: a spectral library, not an image")
    allowed = {
        "data type": list(envi.envi_to_dtype),
        "interleave": ["bil", "bip", "bsq"],
        "byte order": ["0", "1"],
        "file compression": ["0"],
    }
    for key, values in allowed.items():
        if key in header and str(header[key]).lower() not in values:
            raise InputError(f"{path}: '{key} = {header[key]}' in the ENVI header is not supported")
    parameters = envi.gen_params(header)
    parameters.filename = str(data_file(path, header_path))
    interleaves = {"bil": bilfile.BilFile, "bip": bipfile.BipFile, "bsq": bsqfile.BsqFile}
    image = interleaves[str(header["interleave"]).lower()](parameters, header)
    if min(*image.shape, image.offset) < 0:
        raise InputError(f"{path}: its header announces a negative size")
    expected = image.offset + math.prod(image.shape) * image.sample_size
    found = os.path.getsize(image.filename)
    if found < expected:
        raise InputError(
            f"{path}: the data file has {found} bytes, its header announces {expected}"
        )
    image.fid.close()
    ignored = header.get("data ignore value")
    if ignored is not None and not _is_number(ignored):
        raise InputError(
            f"{path}: 'data ignore value = {ignored}' in the ENVI header is no number; leave the "
            f"line out if there is no such value"
        )
    scale, offset = _scaling(header)
    return StoredArray(
        shape=image.shape,
        dtype=np.dtype(image.dtype),
        read=lambda slices: image.open_memmap()[slices],  # anew, for what was read stays in memory
        wavelengths=_list(header, "wavelength"),
        wavelength_unit=str(header.get("wavelength units", "")),
        good_bands=_list(header, "bbl"),
        nodata=() if ignored is None else (float(ignored),),
        scale=scale,
        offset=offset,
        georeference=EnviPosition.from_header(header),
    )


def parse_header(content: bytes) -> Header:
    """Read the fields of an ENVI header; those without a value are as if they were not there.

    Keys are in lower case; a value in braces is a list, but for `description`, which is text.
    Headers that are neither UTF-8 nor say what they are, are taken as Western European.

    Raises
    ------
    ValueError
        It is no ENVI header.
    """
    lines = iter(_text(content).splitlines())
    if not next(filter(str.strip, lines), "").strip().upper().startswith("ENVI"):
        raise ValueError("its header does not begin with ENVI")
    header: Header = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or line.startswith(";"):
            continue
        key, value = " ".join(key.split()).lower(), value.strip()
        if value.startswith("{"):
            parts = [value]
            while not parts[-1].endswith("}"):
                line = next(lines, None)
                if line is None:
                    raise ValueError(f"the braces of '{key}' are not closed in its header")
                if not line.startswith(";"):
                    parts.append(line.strip())
            text = "\n".join(parts)[1:-1].strip()
            value = text
            if text and key != "description":
                value = [entry.strip() for entry in text.removesuffix(",").split(",")]
        if value:
            header[key] = value
    return header


def _text(content: bytes) -> str:
    """Decode a header, which shows its encoding at its beginning or not at all."""
    for mark, encoding in ENCODINGS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def data_file(path: Path, header_path: Path) -> Path:
    """Return the data file, which the user named or which has the header's name."""
    if path != header_path:
        return path
    stem = path.with_suffix("")
    for ending in (*DATA_ENDINGS, *map(str.upper, DATA_ENDINGS)):
        if os.path.isfile(f"{stem}{ending}"):
            return Path(f"{stem}{ending}")
    raise InputError(f"{path}: no data file found beside this header; name the data file instead")


def _is_number(text: str | list[str]) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        float(text)
        return True
    return False


def _list(header: Header, key: str) -> list[str] | None:
    value = header.get(key)
    return [value] if isinstance(value, str) else value


def _scaling(header: Header) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Return scale and offset: gains and offsets of the bands, or the reflectance's divisor."""
    gains, offsets = _list(header, "data gain values"), _list(header, "data offset values")
    if gains or offsets:
        return tuple(map(float, gains or ["1"])), tuple(map(float, offsets or ["0"]))
    divisor = float(header.get("reflectance scale factor", 1))
    return (1 / divisor if divisor else 0.0), 0.0
