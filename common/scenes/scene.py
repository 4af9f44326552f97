"""A scene: the hyperspectral cube, its ground truth, and what its classes are called."""

import hashlib
import math
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.scenes.array_file import ArrayFile, open_array
from common.scenes.georeference import Georeference
from common.scenes.labels import labels_and_classes
from common.scenes.scene_file import SCENES, Description, bands_to_show, default_colours, describe
from common.system.errors import InputError
from common.system.files import REPOSITORY

VALUES_PER_BLOCK = 2**24  # of a cube that are looked at together
LARGEST_VALUE = 1e100  # whose square float64 still holds


@dataclass(frozen=True)
class Scene:
    """One hyperspectral image, with ground truth if there is any.

    Attributes
    ----------
    key : str
        What the user calls it, fit for file names: IN, UP, KSC, SV or a name of the user's.
    name : str
        Its name in words.
    cube : array (rows, cols, bands), or ArrayFile of that shape
        Radiance or reflectance as stored, any real dtype; an ArrayFile is read by `read_rows`.
    labels : int64 array (rows, cols)
        Ground truth: 0 where unlabelled, else 1..C.
    class_names, colours : tuple of str
        One per class, in label order; colours as "#rrggbb".  Empty without ground truth.
    rgb_bands : tuple of int
        The three bands of the false-colour picture, 0-based.
    source : str
        Where it was read from, for the report.
    nodata : float or None
        The value of pixels without data; see `valid_pixels`.
    nodata_unstated : bool
        Whether neither the scene file nor the cube's says if there is such a value.
    wavelengths : tuple of float or None
        Band centres in nm.
    georeference : Georeference or None
    """

    key: str
    name: str
    cube: np.ndarray | ArrayFile
    labels: np.ndarray
    class_names: tuple[str, ...]
    colours: tuple[str, ...]
    rgb_bands: tuple[int, int, int]
    source: str
    nodata: float | None = None
    nodata_unstated: bool = False
    wavelengths: tuple[float, ...] | None = None
    georeference: Georeference | None = None

    @property
    def classes(self) -> int:
        """Number of classes C, those without a labelled pixel included."""
        return len(self.class_names)

    def labels_sha256(self) -> str:
        """SHA-256 of the ground truth, to recognise the scene."""
        return hashlib.sha256(self.labels.astype("<i8").tobytes()).hexdigest()

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1 of the cube."""
        in_memory = isinstance(self.cube, np.ndarray)
        return self.cube[start:stop] if in_memory else self.cube.read_rows(start, stop)


def data_directory(data_dir: str | None = None) -> Path:
    """Where scenes lie: `data_dir`, else ``$HSI_DATA_DIR``, else ``dataset/`` of the repository."""
    return Path(data_dir or os.environ.get("HSI_DATA_DIR") or REPOSITORY / "dataset")


def load_scene(key: str, data_dir: str | None = None, in_memory: bool = True) -> Scene:
    """Read a scene by its key or its YAML file and check that its parts fit together.

    Indian Pines comes from the library tensorly where its files are not in the data directory.

    Parameters
    ----------
    in_memory : bool
        Whether to read the cube, or leave it in its file to be read by rows.

    Raises
    ------
    InputError
        The key is unknown, a file is missing or damaged, or cube and ground truth do not fit.
    """
    description = describe(key, data_directory(data_dir))
    folder = None if data_dir is None else Path(data_dir)
    if folder and key in SCENES and not folder.is_dir() and (folder.exists() or key == "IN"):
        raise InputError(f"--data-dir {data_dir}: not a directory")
    if key == "IN" and (missing := _missing(description)):
        cube, labels = _indian_pines_from_tensorly()
        source = f"tensorly.datasets.load_indian_pines() (no {missing[0].name} in the data folder)"
        return _scene(description, key, cube, labels, source)
    if key in SCENES and (missing := _missing(description)):
        cure = "bash setup_script.sh"
        if data_dir is not None:
            cure = f"python -m common download {key} --data-dir {shlex.quote(data_dir)}"
        raise InputError(f"{missing[0]}: no such file; fetch it with: {cure}")
    file = open_array(description.cube.path, description.cube.variable)
    truth, source = None, file.path.name
    if description.ground_truth is not None:
        truth = open_array(description.ground_truth.path, description.ground_truth.variable)
        if truth.path != file.path:
            source += f", {truth.path.name}"
    _check_shapes(description, file.shape, truth and truth.shape)
    labels = truth and truth.read()
    cube = file.read() if in_memory else file
    return _scene(description, key, cube, labels, source, file)


def missing_files(key: str, directory: Path) -> list[Path]:
    """Return those of a scene's files that are not there; Indian Pines needs none."""
    return [] if key == "IN" else _missing(describe(key, directory))


def _missing(description: Description) -> list[Path]:
    sources = (description.cube, description.ground_truth)
    return [source.path for source in sources if source and not source.path.is_file()]


def _scene(
    description: Description,
    key: str,
    cube: np.ndarray | ArrayFile,
    labels: np.ndarray | None,
    source: str,
    file: ArrayFile | None = None,
) -> Scene:
    """Put a scene together from its parts and check them; `key` is what ``-d`` says."""
    bands = cube.shape[2]
    wavelengths = description.wavelengths or (file and file.wavelengths)
    if wavelengths and len(wavelengths) != bands:
        raise InputError(
            f"{key}: 'wavelengths' lists {len(wavelengths)}, but the cube "
            f"{description.cube.path.name} has {bands} bands; list one for each, in nm"
        )
    rgb_bands = description.rgb_bands or bands_to_show(bands, wavelengths)
    if max(rgb_bands) >= bands:
        raise InputError(
            f"{description.cube.path}: the cube has {bands} bands, but the false-colour picture "
            f"needs band {max(rgb_bands)} ('rgb_bands' count from 0); is this the file of "
            f"{description.name}?"
        )
    nodata = description.nodata
    if nodata is None and file is not None:
        nodata = file.nodata
    nodata_unstated = nodata is None and key not in SCENES
    if nodata_unstated and isinstance(cube, np.ndarray):
        check_for_unstated_nodata(key, cube)
    nodata = None if nodata == "none" else nodata
    if labels is None:
        labels, class_names = np.broadcast_to(np.int64(0), cube.shape[:2]), ()
    else:
        labels, class_names = labels_and_classes(
            description, labels, least=2 if isinstance(cube, np.ndarray) else 1
        )
        labels = _labels_with_data(description, labels, cube, nodata)
    colours = description.colours or default_colours(len(class_names))
    if len(colours) != len(class_names) and class_names:
        raise InputError(
            f"{key}: 'colours' lists {len(colours)} for {len(class_names)} classes; list one for "
            f"each class, in label order"
        )
    return Scene(
        key=key if key in SCENES else description.key,
        name=description.name,
        cube=cube,
        labels=labels,
        class_names=class_names,
        colours=colours,
        rgb_bands=rgb_bands,
        source=source,
        nodata=nodata,
        nodata_unstated=nodata_unstated,
        wavelengths=wavelengths or None,
        georeference=file and file.georeference,
    )


def has_data(cube: np.ndarray, nodata: float | None) -> np.ndarray:
    """Tell which pixels of (rows, cols, bands) hold data: bool (rows, cols).

    A pixel has none where any band holds `nodata`, or every band if `nodata` is 0, which a dark
    band may hold as well.
    """
    if nodata is None:
        return np.ones(cube.shape[:2], bool)
    if math.isnan(nodata):
        return ~np.isnan(cube).any(axis=2)
    empty = cube == nodata
    return ~(empty.all(axis=2) if nodata == 0 else empty.any(axis=2))


def valid_pixels(
    cube: np.ndarray, nodata: float | None, where: str, first_row: int = 0
) -> np.ndarray:
    """Like `has_data`, and check that what is data are finite numbers of sensible size.

    Raises
    ------
    InputError
        Other pixels hold NaN, infinite or enormous values; the message starts with `where` and
        counts rows from `first_row`, that of the cube's first row in its scene.
    """
    valid = has_data(cube, nodata)
    if cube.dtype.kind == "f":
        largest = cube.dtype.type(min(LARGEST_VALUE, float(np.finfo(cube.dtype).max)))
        wrong = ~((cube <= largest) & (cube >= -largest)) & valid[..., None]
        if wrong.any():
            row, col, band = np.argwhere(wrong)[0]
            value, values = cube[row, col, band], cube[wrong]
            kinds = {
                "NaN": np.isnan(values),
                "infinite": np.isinf(values),
                f"beyond {largest:g}": np.isfinite(values),
            }
            counts = ", ".join(f"{n.sum()} {kind}" for kind, n in kinds.items() if n.any())
            last_row = first_row + len(cube) - 1
            raise InputError(
                f"{where}: {counts} values in {wrong.any(axis=2).sum()} pixels of rows "
                f"{first_row} to {last_row}, first {value} at row {first_row + row}, column {col}, "
                f"band {band}; replace them, or write 'nodata: {value}' in the scene file to leave "
                f"out such pixels"
            )
    return valid


def check_for_unstated_nodata(key: str, cube: np.ndarray, first_row: int = 0) -> None:
    """Raise InputError where pixels hold one negative number in all bands: that is no spectrum.

    Rows are counted from `first_row`, that of the cube's first row in its scene.
    """
    first = cube[..., 0]
    rows, cols = np.nonzero(first < 0)
    same = (cube[rows, cols] == first[rows, cols, None]).all(axis=1)
    if same.any():
        row, col = rows[same][0], cols[same][0]
        value = first[row, col].item()
        raise InputError(
            f"{key}: {same.sum()} pixels hold the same negative number in all bands, as at row "
            f"{first_row + row}, column {col}; write 'nodata: {value}' to leave out such pixels, "
            f"or 'nodata: null' if these are data"
        )


def _labels_with_data(
    description: Description, labels: np.ndarray, cube: np.ndarray | ArrayFile, nodata: float | None
) -> np.ndarray:
    """Return the ground truth, 0 where the cube holds no data, which is read in blocks of rows."""
    if nodata is None and not isinstance(cube, np.ndarray):
        return labels  # nothing to leave out; what is not finite is noticed when it is used
    rows, cols, bands = cube.shape
    step, labels = max(1, VALUES_PER_BLOCK // (cols * bands)), labels.copy()
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        block = cube[start:stop] if isinstance(cube, np.ndarray) else cube.read_rows(start, stop)
        labels[start:stop][~valid_pixels(block, nodata, str(description.cube.path), start)] = 0
    least = 2 if isinstance(cube, np.ndarray) else 1
    if len(np.unique(labels[labels > 0])) < least:
        raise InputError(
            f"{description.cube.path}: pixels with data are labelled with fewer than {least} "
            f"classes; check 'nodata'"
        )
    if isinstance(cube, np.ndarray) and not _varies(cube, labels > 0):
        raise InputError(
            f"{description.cube.path}: all labelled pixels have the same spectrum; nothing to learn"
        )
    return labels


def _varies(cube: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether some band differs between pixels, by enough to be squared; one look does mostly."""
    bands = (cube[..., band][pixels] for band in range(cube.shape[2]))
    return any(float(values.max()) - float(values.min()) > 1 / LARGEST_VALUE for values in bands)


def _check_shapes(
    description: Description, cube: tuple[int, ...], labels: tuple[int, ...] | None
) -> None:
    """Raise InputError unless the cube is rows × cols × bands and the ground truth fits it."""
    where = f"{description.cube.path}"
    size = "×".join(map(str, cube))
    if len(cube) != 3:
        raise InputError(f"{where}: the cube is {size}, not rows × cols × bands")
    if labels is not None and labels != cube[:2]:
        truth = "×".join(map(str, labels))
        hint = "they must have the same rows and columns"
        if labels == cube[1:]:
            hint = "its bands come first; store it as numpy.moveaxis(cube, 0, 2)"
        elif labels in (cube[1::-1], cube[:0:-1], cube[::2], cube[::-2]):
            hint = "one of them is transposed"
        raise InputError(
            f"{where}, {description.ground_truth.path}: cube and ground truth do not fit: the cube "
            f"is {size} (rows × cols × bands), the ground truth {truth}; {hint}"
        )
    if cube[2] < 7:
        raise InputError(f"{where}: {cube[2]} bands; the networks need at least 7")


def _indian_pines_from_tensorly() -> tuple[np.ndarray, np.ndarray]:
    # Imported here: only this scene needs it, and only where its files are absent.
    from tensorly.datasets import load_indian_pines

    bunch = load_indian_pines()
    # float64 there, a quarter of that in the original file
    return bunch["tensor"].astype(np.uint16), np.asarray(bunch["ticks"][0])
