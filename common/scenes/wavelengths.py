"""Band centres in nm, in whatever unit and spelling a file states them."""

import math
import unicodedata
from collections.abc import Sequence

# In the form that `_plain` gives them, singular.
NANOMETRES = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "mum": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
UNSTATED = ("", "unknown", "none", "n/a")
OPTICAL_NM = (100.0, 1e6)  # ultraviolet to far infrared


def in_nanometres(
    centres: Sequence[float | str], unit: str | None, bands: int
) -> tuple[float, ...]:
    """Convert a file's band centres to nm.

    Where no unit is stated, centres below 100 are µm, and others nm: 0.1 to 100 µm and 100 nm to
    100 µm do not overlap for any optical sensor.

    Raises
    ------
    ValueError
        They cannot be used, as its text says: there is not one for each of the `bands`, their unit
        is no length, they are no numbers or no light's wavelengths.  Zero is let pass, which
        products write for bands that they do not have.
    """
    if len(centres) != bands:
        raise ValueError(f"there are {len(centres)} of them for {bands} bands")
    try:
        values = [float(centre) for centre in centres]
    except (TypeError, ValueError) as error:
        raise ValueError("they are not all numbers") from error
    if not all(map(math.isfinite, values)):
        raise ValueError("they are not all finite numbers")
    plain = _plain(unit or "")
    factor = NANOMETRES.get(plain) or NANOMETRES.get(plain.removesuffix("s"))
    if plain in UNSTATED:
        factor = 1e3 if max(values) < 100 else 1.0
    if factor is None:
        raise ValueError(f"their unit '{unit}' is not known as one of length")
    converted = tuple(round(value * factor, 6) for value in values)
    stated = [value for value in converted if value]
    if not stated or min(stated) < OPTICAL_NM[0] or max(stated) > OPTICAL_NM[1]:
        ends = f"{min(converted):g} to {max(converted):g} nm"
        raise ValueError(f"{ends} is not light; is their unit right?")
    return converted


def _plain(unit: str) -> str:
    """Write a unit in lower case, with one of the two letters that look like µ, and of Å."""
    unit = unicodedata.normalize("NFC", unit).replace("μ", "µ")
    return unit.strip().strip("[](){}.\"'").strip().casefold().replace("μ", "µ")
