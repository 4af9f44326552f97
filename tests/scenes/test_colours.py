"""What a scene is shown in where its file does not say."""

import numpy as np
import pytest

from common.scenes.colours import bands_to_show, default_colours


@pytest.mark.parametrize("classes", [2, 7, 8, 20, 60, 61, 300])
def test_default_colours_differ_and_are_not_black(classes):
    colours = default_colours(classes)
    assert len(set(colours)) == len(colours) == classes
    assert "#000000" not in colours


def test_default_bands():
    assert bands_to_show(60, None) == (50, 30, 10)
    assert bands_to_show(7, None) == (5, 3, 1)
    wavelengths = tuple(np.linspace(400, 1000, 61))
    assert bands_to_show(61, wavelengths) == (24, 15, 6)
