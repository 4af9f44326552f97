"""ENVI headers as people and programs write them: encodings, empty fields, bad bands, scales."""

import codecs

import numpy as np
import pytest

from common.scenes.array_file import measured, open_array
from common.scenes.envi_file import parse_header
from common.system.errors import InputError
from tests.scenes.test_array_file import CUBE, save_envi


def saved(folder, old: str = "", new: str = "", encoding: str = "utf-8", **metadata):
    save_envi(folder / "cube.img", CUBE, metadata=metadata)
    text = (folder / "cube.hdr").read_text("utf-8")
    assert old in text
    (folder / "cube.hdr").write_bytes(text.replace(old, new).encode(encoding))
    return folder / "cube.hdr"


ENCODED = {
    "UTF-8 with a mark": ("utf-8-sig", "Réflectance, µm, 反射率"),
    "UTF-16": ("utf-16", "Réflectance, 反射率"),
    "Latin-1": ("latin-1", "Réflectance, µm"),
    "Windows": ("cp1252", "Réflectance – „µm“"),
    "Chinese": ("gbk", "反射率"),
    "Cyrillic": ("cp1251", "Отражение"),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings(tmp_path, name, line_end):
    encoding, text = ENCODED[name]
    path = saved(tmp_path, "ENVI\n", f"ENVI\nsensor type = {text}\n")
    lines = path.read_text("utf-8").replace("\n", line_end)
    path.write_bytes(lines.encode(encoding))
    np.testing.assert_array_equal(open_array(path).read(), CUBE)
    if name not in ("Chinese", "Cyrillic"):  # which nothing tells from Western European
        assert parse_header(path.read_bytes())["sensor type"] == text


def test_unit_in_latin_1(tmp_path):
    centres = [0.4 + 0.05 * band for band in range(8)]
    metadata = {"wavelength": centres, "wavelength units": "µm"}
    path = saved(tmp_path, "µm", "µm", "latin-1", **metadata)
    assert open_array(path).wavelengths[0] == 400


@pytest.mark.parametrize(
    "line", ["data ignore value =", "wavelength = {}", "bbl = { }", "map info =", "x = {\n}"]
)
def test_fields_without_a_value_are_as_if_absent(tmp_path, line):
    file = open_array(saved(tmp_path, "ENVI\n", f"ENVI\n{line}\n"))
    assert file.nodata is file.wavelengths is file.georeference is None
    assert file.bad_bands == ()
    np.testing.assert_array_equal(file.read(), CUBE)


def test_without_a_byte_order_it_is_0(tmp_path):
    np.testing.assert_array_equal(open_array(saved(tmp_path, "byte order = 0\n")).read(), CUBE)


@pytest.mark.parametrize("bbl", ["1, 1, 0, 1, 1, 1, 1, 0", "1.0, 1.0, 0.0, 1, 1, 1, 1, 0.000"])
def test_bands_marked_bad(tmp_path, bbl):
    file = open_array(saved(tmp_path, "ENVI\n", f"ENVI\nbbl = {{{bbl}}}\n"))
    assert file.bad_bands == (2, 7)


@pytest.mark.parametrize(
    ("bbl", "why"),
    [("1, 0", "for it has 2 entries for 8 bands"), ("a", "for it holds what is no number")],
)
def test_a_list_of_bad_bands_that_does_not_fit_is_told(tmp_path, bbl, why):
    file = open_array(saved(tmp_path, "ENVI\n", f"ENVI\nbbl = {{{bbl}}}\n"))
    assert file.bad_bands == ()
    (note,) = file.notes
    assert note.endswith(f": its list of bad bands is not used, {why}")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path, encoding):
    path = saved(tmp_path, "ENVI\n", "ENVI\nsensor type = µm\n", "utf-8")
    path.write_bytes(path.read_text("utf-8").encode(encoding))
    np.testing.assert_array_equal(open_array(path).read(), CUBE)


@pytest.mark.parametrize("first", ["envi", "\n  ENVI Standard"])
def test_a_first_line_as_careless_programs_write_it(tmp_path, first):
    path = saved(tmp_path, "ENVI\n", f"{first}\n")
    np.testing.assert_array_equal(open_array(path).read(), CUBE)


def test_a_comma_after_the_last_entry(tmp_path):
    centres = ", ".join(str(400 + band) for band in range(8))
    path = saved(tmp_path, "ENVI\n", f"ENVI\nwavelength = {{{centres},}}\n")
    assert open_array(path).wavelengths == tuple(range(400, 408))


@pytest.mark.parametrize(
    ("lines", "scale", "offset"),
    [
        ("reflectance scale factor = 10000", 1e-4, 0),
        ("data gain values = {2, 2, 2, 2, 2, 2, 2, 3}", [2] * 7 + [3], 0),
        ("data gain values = {2}\ndata offset values = {1}", 2, 1),
        ("data offset values = {1, 1, 1, 1, 1, 1, 1, 0}", 1, [1] * 7 + [0]),
    ],
)
def test_scales(tmp_path, lines, scale, offset):
    file = open_array(saved(tmp_path, "ENVI\n", f"ENVI\ndata ignore value = 7\n{lines}\n"))
    file, _ = measured(file, file.nodata)
    expected = np.where(CUBE == 7, np.nan, CUBE * np.array(scale) + np.array(offset))
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("data ignore value = none", "'data ignore value = none' in the ENVI header is no number;"),
        ("reflectance scale factor = 0", "states the scale factor 0"),
        ("reflectance scale factor = nan", "states a scale factor that is no usable number"),
        ("data gain values = {1, 2}", "states 2 scale factors for 8 bands"),
        ("data gain values = {a}", "'a'"),
        ("wavelength = {400, 500", "the braces of 'wavelength' are not closed"),
        ("file type = ENVI Spectral Library", "a spectral library, not an image"),
    ],
)
def test_headers_that_are_wrong(tmp_path, line, said):
    path = saved(tmp_path, "file type = ENVI Standard\n", f"{line}\n")
    with pytest.raises(InputError) as caught:
        open_array(path)
    assert said in str(caught.value)


def test_text_that_is_no_header():
    for content in (b"", b"\xff\xfe", codecs.BOM_UTF8, b"NVI\nlines = 3", bytes(range(256))):
        with pytest.raises(ValueError, match="its header does not begin with ENVI"):
            parse_header(content)


def test_fields():
    text = b"ENVI\n; lines = 9\nLines  = 3\nband  names = {a,\n; no\n b }\ndescription = {x, y}\nz"
    assert parse_header(text) == {"lines": "3", "band names": ["a", "b"], "description": "x, y"}
