"""Scene files: every key, and every way to get one wrong told in one line."""

import math

import pytest

from common.scenes.scene_file import Source, describe
from common.system.errors import InputError

LEAST = "name: Field\ncube: cube.npy\n"
FULL = """
name: Field 7, west
cube: {path: data/field.mat, variable: cube}
ground_truth: {path: truth.mat, variable: truth}
classes: [Rye, 2, "No"]
colours: ["#FF0000", green, "0.5"]
rgb_bands: [3, 2, 0]
wavelengths: [400, 500.5, 6e2]
axes: [bands, rows, cols]
ignored_bands: [0, 104-108, "150 – 163"]
ignored_label: [0, 255]
nodata: -9999
"""


def described(tmp_path, text):
    (tmp_path / "field.yaml").write_text(text, encoding="utf-8")
    return describe(str(tmp_path / "field.yaml"))


def test_every_key(tmp_path):
    scene = described(tmp_path, FULL)
    assert scene.name == "Field 7, west"
    assert scene.key == "Field_7_west"
    assert scene.cube == Source(tmp_path / "data" / "field.mat", "cube")  # beside the scene file
    assert scene.ground_truth == Source(tmp_path / "truth.mat", "truth")
    assert scene.classes == ("Rye", "2", "No")
    assert scene.colours == ("#ff0000", "#008000", "#808080")
    assert scene.rgb_bands == (3, 2, 0)
    assert scene.wavelengths == (400, 500.5, 600)
    assert scene.axes == ("bands", "rows", "cols")
    assert scene.ignored_bands == ((0, 0), (104, 108), (150, 163))
    assert scene.ignored_label == (0, 255)
    assert scene.nodata == -9999


def test_keys_left_out(tmp_path):
    scene = described(tmp_path, LEAST)
    assert scene.cube == Source(tmp_path / "cube.npy", None)
    assert scene.ground_truth is scene.classes is scene.colours is scene.rgb_bands is None
    assert (scene.ignored_label, scene.nodata) == ((0,), None)


@pytest.mark.parametrize("ending", [".yml", ".YAML"])
def test_other_endings(tmp_path, ending):
    (tmp_path / f"field{ending}").write_text(LEAST, "utf-8")
    assert describe(str(tmp_path / f"field{ending}")).name == "Field"


def test_an_absolute_path_stays(tmp_path):
    scene = described(tmp_path, "name: Field\ncube: {path: /data/cube.npy}")
    assert str(scene.cube.path) == "/data/cube.npy"


@pytest.mark.parametrize(
    ("text", "nodata"),
    [("null", "none"), ("", "none"), ("none", "none"), ("0", 0), ("-1e20", -1e20), ("1.5", 1.5)],
)
def test_nodata(tmp_path, text, nodata):
    assert described(tmp_path, f"{LEAST}nodata: {text}").nodata == nodata


@pytest.mark.parametrize("text", ["nan", "NaN", ".nan"])
def test_nodata_nan(tmp_path, text):
    assert math.isnan(described(tmp_path, f"{LEAST}nodata: {text}").nodata)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("a/b\\c: d", "a_b_c_d"),
        ("...", "scene"),
        (".hidden", "hidden"),
        ("Wälder", "Wälder"),
        ("x" * 300, "x" * 60),
    ],
)
def test_names_never_become_paths(tmp_path, name, key):
    assert described(tmp_path, f"name: '{name}'\ncube: cube.npy").key == key


LIST = "must hold lines 'name: …', 'cube: …'"
COLOUR = 'which is not a colour; write "#rrggbb" in quotes'
WRONG = {
    LIST: "- name: Field\n- cube: cube.npy",
    "must hold lines": "",
    "not a YAML file: found character '\\t' that cannot start any token in line 2": "a: b\n\tc: d",
    "not a YAML file: mapping values are not allowed here in line 1": "name: a: b",
    "not a YAML file: day is out of range": "name: 2024-02-30",
    "not a YAML file: found unhashable key in line 1": "[1, 2]: 3",
    "unknown key 'colors', which is near 'colours'; the keys are name, cube": f"{LEAST}colors: [a]",
    "unknown key 'GroundTruth', which is near 'ground_truth'; the": f"{LEAST}GroundTruth: a.npy",
    "unknown key 'wavelenghts', which is near 'wavelengths'; the": f"{LEAST}wavelenghts: [1]",
    "unknown key 'sensor'; the keys are": f"{LEAST}sensor: AVIRIS",
    "unknown key 'two\\nlines'": f'{LEAST}"two\\nlines": 3',
    "'name' is missing": "cube: cube.npy",
    "'cube' is missing": "name: Field",
    "'cube' is missing ": "name: Field\ncube:",
    "'name' holds ['Field'], which is not a name": "name: [Field]\ncube: cube.npy",
    "'name' holds ' '": "name: ' '\ncube: cube.npy",
    "'name' holds 'a\\nb'": 'name: "a\\nb"\ncube: cube.npy',
    "'cube' must be {path: FILE, variable: NAME} with a .mat, .npy, ENVI": "name: F\ncube: [c.npy]",
    "'cube' must be {path: FILE": "name: F\ncube: {file: c.npy}",
    "'ground_truth' must be {path: FILE": f"{LEAST}ground_truth: {{path: g.mat, variable: 3}}",
    "'ground_truth' must be": f"{LEAST}ground_truth: {{path: g.mat, var: g}}",
    "'classes' must be a list": f"{LEAST}classes: Rye",
    "'classes' must be a list ": f"{LEAST}classes: []",
    "'classes' holds False, which is not a name; put names in quotes": f"{LEAST}classes: [No, Yes]",
    "'classes' holds None, which is not a name": f"{LEAST}classes: [Rye, null]",
    "'classes' names a class twice": f"{LEAST}classes: [Rye, Rye]",
    f"'colours' holds 'redd', {COLOUR}": f"{LEAST}colours: [redd]",
    f"'colours' holds None, {COLOUR}": f"{LEAST}colours:\n  - #ff0000",
    f"'colours' holds 16711680, {COLOUR}": f"{LEAST}colours: [0xff0000]",
    "'rgb_bands' must be a list of 3": f"{LEAST}rgb_bands: [1, 2]",
    "'rgb_bands' holds -1; bands count from 0": f"{LEAST}rgb_bands: [1, 2, -1]",
    "'rgb_bands' holds 1.5, which is not a whole number": f"{LEAST}rgb_bands: [1, 2, 1.5]",
    "'rgb_bands' holds True, which is not a whole": f"{LEAST}rgb_bands: [1, 2, yes]",
    "'wavelengths' must be a list, or {variable: NAME}": f"{LEAST}wavelengths: {{path: a.mat}}",
    "'axes' must list rows, cols and bands in the file's order": f"{LEAST}axes: [bands, rows]",
    "'axes' must list rows, cols and bands ": f"{LEAST}axes: bands",
    "'axes' must list rows, cols and bands  ": f"{LEAST}axes: [x, rows, cols]",
    "'ignored_bands' holds '1-2-3', which is not a whole": f"{LEAST}ignored_bands: [1-2-3]",
    "'ignored_bands' holds -3; bands count from 0": f"{LEAST}ignored_bands: -3",
    "'ignored_bands' holds 108-104, which ends before": f"{LEAST}ignored_bands: [108-104]",
    "'ignored_bands' holds 0.5, which is not a whole": f"{LEAST}ignored_bands: [0.5]",
    "'nodata' holds 'black', which is no": f"{LEAST}nodata: [0, black]",
    "'wavelengths' must be a list": f"{LEAST}wavelengths: 400",
    "'wavelengths' holds '400 nm', which is not a number": f"{LEAST}wavelengths: [400 nm]",
    "'wavelengths' holds nan, which is not a finite number": f"{LEAST}wavelengths: [nan]",
    "'ignored_label' holds 'none', which is not a whole": f"{LEAST}ignored_label: none",
    "'ignored_label' holds 0.5": f"{LEAST}ignored_label: [0, 0.5]",
    "'nodata' holds 'black', which is not a number": f"{LEAST}nodata: black",
    "'nodata' holds True": f"{LEAST}nodata: yes",
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_content_is_told_in_one_line(tmp_path, message):
    with pytest.raises(InputError) as caught:
        described(tmp_path, WRONG[message])
    assert str(caught.value).startswith(f"{tmp_path / 'field.yaml'}: {message.strip()}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250 + len(str(tmp_path))


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "field.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match=r"field\.yaml: not a YAML file: 'utf-8' codec"):
        describe(str(tmp_path / "field.yaml"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.yaml", "missing.yaml: no such file"),
        ("folder.yaml", "folder.yaml: a folder, not a file"),
        (
            "folder",
            "unknown scene; choose IN, UP, KSC, SV, SA, BO, PC or name a scene's .yaml file",
        ),
        (
            "cube.mat",
            "unknown scene; choose IN, UP, KSC, SV, SA, BO, PC or name a scene's .yaml file",
        ),
    ],
)
def test_no_scene_file(tmp_path, name, message):
    if name.startswith("folder"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError) as caught:
        describe(str(tmp_path / name))
    assert str(caught.value).startswith(f"-d {tmp_path}")
    assert message in str(caught.value)
