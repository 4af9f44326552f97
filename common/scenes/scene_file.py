"""The YAML file that describes a scene: its files, class names, colours and bands to show."""

import contextlib
import difflib
import math
import re
import reprlib
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from common.system.errors import InputError
from common.system.files import check_is_file
from common.system.flags import file_name

USUAL = ("IN", "UP", "KSC", "SV")  # which setup_script.sh fetches
SCENES = (*USUAL, "SA", "BO", "PC")
FORMATS = ".mat, .npy, ENVI .hdr, GeoTIFF, HDF5 or NetCDF 4"
LARGEST_FILE = 1 << 17  # bytes, which take seconds to read


@dataclass(frozen=True)
class Source:
    """A file with an array, and its variable where a file holds several.

    A vector file with labels has an attribute that holds them, and may have several layers, of
    which `variable` names one.
    """

    path: Path
    variable: str | None = None
    attribute: str | None = None


@dataclass(frozen=True)
class Description:
    """What a scene file says; None is what it leaves open.

    Attributes
    ----------
    name : str
        The scene's name in words.
    cube, ground_truth : Source
        Ground truth is None for a scene that is only to be mapped.
    classes : tuple of str, or dict of int to str
        Names in label order; where the scene file says each one's label, these in ascending order.
    colours : tuple of str
        One per class, in label order, as "#rrggbb".
    rgb_bands : tuple of three int
        Bands of the false-colour picture, 0-based.
    wavelengths : tuple of float, or str
        Band centres in nm, of every band of the cube's file; or the variable there that holds them.
    axes : tuple of str
        The order of the cube's axes in its file: a permutation of rows, cols, bands.
    ignored_bands : tuple of (first, last), or "none"
        Bands that are not used, 0-based; "none" has those used that the cube's file marks bad.
    ignored_label : tuple of int, or of NaN
        Values of the ground truth that label nothing.
    nodata : float, tuple of float, or "none" where the scene file says that there is none
        The value, or values, of pixels without data, as stored.
    """

    name: str
    cube: Source
    ground_truth: Source | None = None
    classes: tuple[str, ...] | dict[int, str] | None = None
    colours: tuple[str, ...] | None = None
    rgb_bands: tuple[int, int, int] | None = None
    wavelengths: tuple[float, ...] | str | None = None
    axes: tuple[str, ...] | None = None
    ignored_bands: tuple[tuple[int, int], ...] | str | None = None
    ignored_label: tuple[float, ...] = (0,)
    nodata: float | tuple[float, ...] | str | None = None

    @property
    def key(self) -> str:
        """The name as it may stand in a file name."""
        return re.sub(r"[^\w.-]+", "_", self.name).strip("._-")[:60] or "scene"


class _Loader(yaml.SafeLoader):
    """Plain values only, each written out: a few nested aliases stand for any amount of them."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not read", mark)
        return super().compose_node(parent, index)


def scene_name(text: str) -> str:
    """Read the key of a scene, in upper or lower case, or the path of a scene file."""
    return text.upper() if text.upper() in SCENES else file_name(text)


def built_in(key: str) -> dict:
    """Read the description of a benchmark scene, with the addresses of its files."""
    path = Path(__file__).with_name("benchmarks") / f"{key}.yaml"
    return yaml.safe_load(path.read_text("utf-8"))


def describe(key: str, directory: Path | None = None) -> Description:
    """Read the description of a built-in scene, or that in a YAML file of the user's.

    Parameters
    ----------
    key : str
        One of `SCENES`, or the path of a YAML file.
    directory : Path, optional
        Where the files of a built-in scene lie; those of a YAML file lie beside it.

    Raises
    ------
    InputError
        No such scene or file, or the file does not describe a scene.
    """
    if key in SCENES:
        content = built_in(key)
        del content["files"]  # for common/scenes/download.py
        return as_description(content, Path(f"{key}.yaml"), directory or Path())
    path = Path(key)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(
            f"-d {key}: unknown scene; choose {', '.join(SCENES)} or name a scene's .yaml file"
        )
    check_is_file(path, f"-d {key}", LARGEST_FILE)
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"-d {key}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" in line {line + 1}"
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{path}: not a YAML file: {problem}{where}") from error
    return as_description(content, path, path.parent)


def as_description(content: object, path: Path, directory: Path) -> Description:
    """Check the content of a scene file and give it its types.

    Parameters
    ----------
    path : Path
        What messages call the file.
    directory : Path
        Where the files that it names lie.
    """
    known = [field.name for field in fields(Description)]
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold lines 'name: …', 'cube: …', 'ground_truth: …'")
    unknown = [key for key in content if key not in known]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0])[:60].lower(), known, n=1)
        meant = f", which is near '{near[0]}'" if near else ""
        raise InputError(
            f"{path}: unknown key {reprlib.repr(unknown[0])}{meant}; the keys are "
            f"{', '.join(known)}"
        )
    for key in ("name", "cube"):
        if content.get(key) is None:
            raise InputError(f"{path}: '{key}' is missing")
    values = {key: value for key, value in content.items() if value is not None}
    for key in ("nodata", "ignored_bands"):
        if content.get(key, 0) is None:
            values[key] = "none"
    readers = {
        "name": lambda value: _text(value),
        "cube": lambda value: _source(value, directory),
        "ground_truth": lambda value: _source(value, directory, ("attribute",)),
        "classes": _classes,
        "colours": lambda value: tuple(map(_colour, _list(value))),
        "rgb_bands": lambda value: tuple(map(_count, _list(value, 3))),
        "wavelengths": _wavelengths,
        "axes": _axes,
        "ignored_bands": _bands,
        "ignored_label": lambda value: tuple(
            map(_label_or_nan, value if isinstance(value, list) else [value])
        ),
        "nodata": _nodata,
    }
    given = {}
    for key, value in values.items():
        try:
            given[key] = readers[key](value)
        except ValueError as error:
            raise InputError(f"{path}: '{key}' {error}") from error
    description = Description(**given)
    _check_classes(path, description)
    return description


def _check_classes(path: Path, description: Description) -> None:
    classes = description.classes or ()
    names = list(classes.values() if isinstance(classes, dict) else classes)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: 'classes' names a class twice")
    if 0 in description.ignored_label and isinstance(classes, dict) and 0 in classes:
        raise InputError(
            f"{path}: 'classes' names label 0, which labels nothing; leave it out, or say under "
            f"'ignored_label' which label does not ([] for none)"
        )


def _source(value: object, directory: Path, further: tuple[str, ...] = ()) -> Source:
    parts = value if isinstance(value, dict) else {"path": value}
    path, variable, attribute = (parts.get(key) for key in ("path", "variable", "attribute"))
    wrong_keys = set(parts) - {"path", "variable", *further}
    texts = isinstance(variable, str | None) and isinstance(attribute, str | None)
    if wrong_keys or not isinstance(path, str) or not texts:
        raise ValueError(
            f"must be {{path: FILE, variable: NAME}} with a {FORMATS} file; variable where "
            f"a file holds several arrays"
            + (", or {path: fields.gpkg, attribute: NAME} with polygons" if further else "")
        )
    return Source(directory / path, variable, attribute)


def _wavelengths(value: object) -> tuple[float, ...] | str:
    if isinstance(value, dict):
        if set(value) != {"variable"} or not isinstance(value["variable"], str):
            raise ValueError("must be a list, or {variable: NAME} of one in the cube's file")
        return value["variable"]
    return tuple(map(_number, _list(value)))


def _axes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or sorted(map(str, value)) != ["bands", "cols", "rows"]:
        raise ValueError("must list rows, cols and bands in the file's order: [bands, rows, cols]")
    return tuple(value)


def _bands(value: object) -> tuple[tuple[int, int], ...] | str:
    """Read band numbers and ranges, such as 3 and 104-108; none at all is "none"."""
    if value in ("none", []):
        return "none"
    ranges = []
    for entry in value if isinstance(value, list) else [value]:
        ends = re.fullmatch(r"\s*(\d{1,9})\s*[-–]\s*(\d{1,9})\s*", str(entry))
        first, last = map(int, ends.groups()) if ends else (_count(entry), entry)
        if last < first:
            raise ValueError(f"holds {first}-{last}, which ends before it begins")
        ranges.append((first, last))
    return tuple(ranges)


def _nodata(value: object) -> float | tuple[float, ...] | str:
    if isinstance(value, list):
        return tuple(_number(entry, finite=False) for entry in _list(value))
    return value if value == "none" else _number(value, finite=False)


def _list(value: object, length: int | None = None) -> list:
    if not isinstance(value, list) or (len(value) != length if length else not value):
        raise ValueError(f"must be a list{f' of {length}' if length else ''}")
    return value


def _classes(value: object) -> tuple[str, ...] | dict[int, str]:
    """Names in label order, or a name for each label."""
    if not isinstance(value, dict):
        return tuple(map(_text, _list(value)))
    labels = list(map(_integer, value))
    if labels != sorted(labels) or not labels:
        raise ValueError("must list labels in ascending order, as {1: …, 10: …}")
    if labels[0] < 0:
        raise ValueError(f"holds the label {labels[0]}; labels of classes are 0 or more")
    return dict(zip(labels, map(_text, value.values()), strict=True))


def _text(value: object) -> str:
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)  # yes, no, on
    if not plain or not str(value).isprintable() or not str(value).strip():
        raise ValueError(f"holds {reprlib.repr(value)}, which is not a name; put names in quotes")
    return str(value)


def _colour(value: object) -> str:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return value.lower()
    from matplotlib.colors import is_color_like, to_hex  # large, and few files have other colours

    if not isinstance(value, str) or not is_color_like(value):
        raise ValueError(
            f'holds {reprlib.repr(value)}, which is not a colour; write "#rrggbb" in quotes'
        )
    return to_hex(value)


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"holds {reprlib.repr(value)}, which is not a whole number")
    if abs(value) >= 2**63:
        raise ValueError("holds a number of more than 64 bits")
    return value


def _label_or_nan(value: object) -> float:
    if value in ("nan", ".nan") or value != value:
        return math.nan
    return _integer(value)


def _count(value: object) -> int:
    if _integer(value) < 0:
        raise ValueError(f"holds {value}; bands count from 0")
    return value


def _number(value: object, finite: bool = True) -> float:
    if isinstance(value, str):  # what YAML takes nan and 1e20 for
        with contextlib.suppress(ValueError):
            value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"holds {reprlib.repr(value)}, which is not a number")
    try:
        value = float(value)
    except OverflowError:
        raise ValueError("holds a number that is too large") from None
    if finite and not math.isfinite(value):
        raise ValueError(f"holds {value}, which is not a finite number")
    return value
