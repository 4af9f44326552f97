"""Colours of classes, and bands of the false-colour picture, where a scene file leaves them out."""

import numpy as np

PICTURE_NM = (640.0, 550.0, 460.0)  # red, green and blue light


def default_colours(classes: int) -> tuple[str, ...]:
    """Colours that are told apart as well as can be for so many classes.

    Up to seven are those of Okabe and Ito, which colour-blind readers can tell apart too.
    """
    okabe_ito = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
    if classes <= len(okabe_ito):
        return okabe_ito[:classes]
    from matplotlib import colormaps  # large, and few scenes have so many classes without colours
    from matplotlib.colors import to_hex

    tables = ("tab20", "tab20b", "tab20c")
    colours = [to_hex(colour) for name in tables for colour in colormaps[name].colors]
    if classes <= len(colours):
        return tuple(colours[:classes])
    rainbow = colormaps["gist_rainbow"].resampled(classes)
    return tuple(to_hex(colour) for colour in rainbow(np.arange(classes)))


def bands_to_show(bands: int, wavelengths: tuple[float, ...] | None) -> tuple[int, int, int]:
    """Return bands of red, green and blue light, or three spread ones without wavelengths."""
    if wavelengths is None:
        return bands * 5 // 6, bands // 2, bands // 6
    distance = np.abs(np.subtract.outer(PICTURE_NM, wavelengths))
    return tuple(int(band) for band in distance.argmin(axis=1))
