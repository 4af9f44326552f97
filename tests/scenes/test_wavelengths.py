"""Wavelengths: every spelling of a unit, and what is told where they cannot be used."""

import re

import numpy as np
import pytest

from common.scenes.array_file import open_array
from common.scenes.scene import load_scene
from common.scenes.wavelengths import in_nanometres
from common.system.errors import InputError
from tests.scenes.test_array_file import CUBE, WAVELENGTHS, save_envi

SPELLINGS = {
    1.0: "nm Nanometer Nanometers nanometre NANOMETRES [nm] (Nanometers) nm.",
    1e3: "um µm μm Micrometer Micrometers micrometres micron Microns UM [µm] 'um' mum",
    0.1: "Angstrom angstroms Å Å Ångström Ångström A",
    1e6: "mm millimeters",
    1e9: "m meter metres",
}
UNITS = [(unit, factor) for factor, units in SPELLINGS.items() for unit in units.split()]


@pytest.mark.parametrize(("unit", "factor"), UNITS)
def test_units(unit, factor):
    centres = [400.0 / factor, 2500.5 / factor]
    assert in_nanometres(centres, unit, 2) == pytest.approx((400, 2500.5))
    assert in_nanometres([f" {c}" for c in centres], f" {unit} ", 2) == pytest.approx((400, 2500.5))


@pytest.mark.parametrize("unit", ["", None, "Unknown", "none"])
def test_without_a_unit(unit):
    assert in_nanometres([0.4, 2.5], unit, 2) == (400, 2500)
    assert in_nanometres([400, 2500], unit, 2) == (400, 2500)


def test_bands_that_a_product_does_not_have_are_at_0():
    assert in_nanometres([0.0, 400, 2500], "nm", 3) == (0, 400, 2500)


WRONG = {
    "there are 1 of them for 2 bands": ([400], "nm"),
    "their unit 'Index' is not known": ([1, 2], "Index"),
    "their unit 'GHz' is not known": ([1, 2], "GHz"),
    "their unit 'cm-1' is not known": ([4000, 5000], "cm-1"),
    "they are not all numbers": (["400", "b"], "nm"),
    "they are not all numbers ": ([400, None], "nm"),
    "they are not all finite": ([400, "nan"], "nm"),
    "0.4 to 2.5 nm is not light; is their unit right?": ([0.4, 2.5], "Nanometers"),
    "400000 to 2.5e+06 nm is not light": ([400, 2500], "um"),
    "0 to 0 nm is not light": ([0, 0], "nm"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_cannot_be_used(reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason.strip())}"):
        in_nanometres(*WRONG[reason], bands=2)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"wavelength": WAVELENGTHS[:5]}, "there are 5 of them for 8 bands"),
        ({"wavelength": WAVELENGTHS, "wavelength units": "Index"}, "their unit 'Index' is not"),
        ({"wavelength": ["a"] * 8}, "they are not all numbers"),
    ],
)
def test_a_scene_tells_which_it_does_not_use(tmp_path, capfd, metadata, reason):
    save_envi(tmp_path / "cube.img", CUBE, metadata=metadata)
    (tmp_path / "scene.yaml").write_text("name: Scene\ncube: cube.hdr\n", "utf-8")
    scene = load_scene(str(tmp_path / "scene.yaml"))
    (note,) = scene.notes
    assert note.startswith(f"cube.hdr: its wavelengths are not used, {reason}")
    assert note.endswith("list them in nm under 'wavelengths' in the scene file")
    assert scene.wavelengths is None
    with (tmp_path / "scene.yaml").open("a", encoding="utf-8") as file:
        file.write(f"wavelengths: {list(WAVELENGTHS)}")
    scene = load_scene(str(tmp_path / "scene.yaml"))
    assert (scene.notes, scene.wavelengths) == ((), WAVELENGTHS)
    assert capfd.readouterr() == ("", "")


def test_a_named_list_that_does_not_fit_is_refused(tmp_path):
    import scipy.io

    scipy.io.savemat(tmp_path / "a.mat", {"cube": CUBE, "w": np.array(WAVELENGTHS[:5])})
    with pytest.raises(InputError, match=r"a\.mat: 'w' cannot be the wavelengths: there are 5 of"):
        open_array(tmp_path / "a.mat", "cube", wavelengths="w")
