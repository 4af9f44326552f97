"""Fonts for names in any script: the figures' own, and those of the machine that have the rest."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"  # which Matplotlib brings along


def families_for(texts: Sequence[str]) -> tuple[list[str], set[str]]:
    """Choose font families that have the texts' characters, and tell which of these none has.

    Only where the figures' own font is not enough are the machine's looked through, first those
    without serifs, of regular weight.

    Returns
    -------
    families : list of str
        For Matplotlib's ``font.family``.
    missing : set of str
        Characters that no font has.
    """
    families = [OWN]
    missing = set("".join(texts)) - _characters(font_manager.findfont(OWN))
    for path in _machines_fonts() if missing else ():
        if found := missing & _characters(path):
            families.append(_add(path))
            missing -= found
        if not missing:
            break
    return families, missing


def _characters(path: str) -> set[str]:
    """What a font file has a picture for; nothing where it cannot be read."""
    try:
        return {chr(code) for code in FT2Font(path).get_charmap()}
    except (RuntimeError, OSError, ValueError):
        return set()


def _machines_fonts() -> list[str]:
    """The machine's font files, those first that suit the figures."""

    def order(path: str) -> tuple[bool, bool, str]:
        name = Path(path).name.lower()
        plain = not any(word in name for word in ("bold", "italic", "oblique", "light", "thin"))
        return "serif" in name and "sans" not in name, not plain, path

    fonts = font_manager.findSystemFonts()
    return sorted((path for path in fonts if "lastresort" not in path.lower()), key=order)


def _add(path: str) -> str:
    """Let Matplotlib know a font file; return its family, of several the simplified Chinese one."""
    font_manager.fontManager.addfont(path)
    names = [font.name for font in font_manager.fontManager.ttflist if font.fname == path]
    return next((name for name in names if name.endswith(" SC")), names[0])
