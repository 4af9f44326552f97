"""A scene: the hyperspectral cube, its ground truth, and what its classes are called."""

import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.scenes.array_file import ArrayFile, axes_that_fit, open_array
from common.scenes.bands import Bands, every_band, nearest_used
from common.scenes.by_rows import rows_of
from common.scenes.colours import bands_to_show, default_colours
from common.scenes.cube import LEAST_BANDS, Cube, read_cube
from common.scenes.georeference import Georeference, Raster, check_same_place
from common.scenes.labels import ClassLabels, RawLabels, labels_and_classes, values_in_maps
from common.scenes.labels_with_data import labels_with_data
from common.scenes.likely_fills import likely_fills
from common.scenes.nodata import (
    NoData,
    Stored,
    check_for_unstated_nodata,
    check_for_wild_values,
)
from common.scenes.read_labels import read_ground_truth, shape_of_labels, union_of_split_maps
from common.scenes.scene_file import SCENES, USUAL, Description, describe
from common.scenes.vector_labels import SUFFIXES, is_vector_file, vector_labels
from common.system.errors import InputError
from common.system.files import REPOSITORY, check_is_file


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
        Radiance or reflectance, any real dtype, scaled where its file states how; of the file's
        bands those that are used.  An ArrayFile is read by `read_rows`.
    bands : Bands
        Which bands of the file these are.
    labels : int32 array (rows, cols)
        Ground truth: 0 where unlabelled, else 1..C.
    class_names, colours : tuple of str
        One per class, in label order; colours as "#rrggbb".  Empty without ground truth.
    rgb_bands : tuple of int
        The three bands of the false-colour picture, 0-based among the cube's.
    source : str
        Where it was read from, for the report.
    notes : tuple of str
        What the user is told of the files, one line each.
    nodata : float, tuple of float, or None
        The value of pixels without data, or several; see `valid_pixels`.
    nodata_unstated : bool
        Whether there may be others that nothing states; the scene file can say that there are none.
    stored : Stored
        How the file stores what messages are about.
    wavelengths : tuple of float or None
        Band centres of the cube's bands in nm.
    georeference : Georeference or None
    file_labels : tuple of int
        The ground truth file's own label of each class, ascending; 1..C where left out.
    ignored_labels : tuple of float
        Its values that label nothing; may hold NaN.
    dataset, data_dir : str, str or None
        What `load_scene` was asked for; of a scene from arrays its name.
    """

    key: str
    name: str
    cube: np.ndarray | ArrayFile
    bands: Bands
    labels: np.ndarray
    class_names: tuple[str, ...]
    colours: tuple[str, ...]
    rgb_bands: tuple[int, int, int]
    source: str
    notes: tuple[str, ...] = ()
    nodata: NoData = None
    nodata_unstated: bool = False
    stored: Stored = field(default_factory=Stored)
    wavelengths: tuple[float, ...] | None = None
    georeference: Georeference | None = None
    file_labels: tuple[int, ...] = ()
    ignored_labels: tuple[float, ...] = (0,)
    dataset: str = ""
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if not self.file_labels:
            object.__setattr__(self, "file_labels", tuple(range(1, 1 + self.classes)))

    @property
    def values_in_maps(self) -> np.ndarray:
        """What the files that a run writes hold for the labels 0..C, int64 (C + 1,)."""
        return values_in_maps(self.file_labels)

    @property
    def raster(self) -> Raster:
        """The cube's size and place."""
        return Raster(self.source.split(", ")[0], self.labels.shape, self.georeference)

    @property
    def title(self) -> str:
        """What the user calls it: the key of a benchmark, else the scene file's own name."""
        return self.key if self.key in SCENES else self.name

    @property
    def classes(self) -> int:
        """Number of classes C, those without a labelled pixel included."""
        return len(self.class_names)

    def labels_sha256(self) -> str:
        """SHA-256 of the ground truth, to recognise the scene."""
        digest = hashlib.sha256()
        for row in self.labels:
            digest.update(np.ascontiguousarray(row, "<i8"))
        return digest.hexdigest()

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows start..stop-1 of the cube."""
        return rows_of(self.cube, start, stop)

    def blocks(self, values: int) -> Iterator[tuple[int, int]]:
        """Yield first rows, and those after the last, of what is held at a time.

        All of a scene that is in memory; of another, about so many values of cube, or of maps of
        all classes.
        """
        rows, cols, bands = self.cube.shape
        step = max(1, values // (cols * max(bands, self.classes)))
        for start in range(0, rows, rows if self.is_in_memory else step):
            yield start, rows if self.is_in_memory else min(start + step, rows)

    @property
    def is_in_memory(self) -> bool:
        """Whether the cube is; else it is read by rows."""
        return isinstance(self.cube, np.ndarray)


def data_directory(data_dir: str | None = None) -> Path:
    """Where scenes lie: `data_dir`, else ``$HSI_DATA_DIR``, else ``dataset/`` of the repository."""
    return Path(data_dir or os.environ.get("HSI_DATA_DIR") or REPOSITORY / "dataset")


def describe_files(key: str, data_dir: str | None = None) -> Description:
    """Read what describes a scene, and see that its files are there.

    Raises
    ------
    InputError
        The key is unknown, or a file is missing; of Indian Pines none needs to be there.
    """
    description = describe(key, data_directory(data_dir))
    if key not in SCENES:
        for source in (description.cube, description.ground_truth):
            if source is not None:
                check_is_file(source.path)
        return description
    folder = None if data_dir is None else Path(data_dir)
    if folder and not folder.is_dir() and (folder.exists() or key == "IN"):
        raise InputError(f"--data-dir {data_dir}: not a directory")
    if key != "IN" and (missing := _missing(description)):
        cure = f"python -m common download {key}"
        if data_dir is not None:
            cure += f" --data-dir {shlex.quote(data_dir)}"
        elif key in USUAL:
            cure = "bash setup_script.sh"
        raise InputError(f"{missing[0]}: no such file; fetch it with: {cure}")
    return description


def load_scene(
    key: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    to_train: bool = True,
    trained: Bands | None = None,
    split_maps: tuple[str, str] | None = None,
) -> Scene:
    """Read a scene by its key or its YAML file and check that its parts fit together.

    Indian Pines comes from the library tensorly where its files are not in the data directory.

    Parameters
    ----------
    key : str or path
        A benchmark's, as IN, or the path of a scene's YAML file.
    data_dir : str or path, optional
        Where the benchmarks lie; see `data_directory`.
    to_train : bool
        Whether to look at the whole cube, and to hold it in memory where there is enough; else it
        is left in its file, to be read by rows.
    trained : Bands, optional
        Those of the scene that a network was trained on: the same are used of a file with as many.
    split_maps : two names of files, optional
        What a scene without a ground truth has instead: the pixels of its training and test maps.

    Raises
    ------
    InputError
        The key is unknown, a file is missing or damaged, or cube and ground truth do not fit.
    """
    name = os.fspath(key)
    key = name.upper() if name.upper() in SCENES else name
    data_dir = None if data_dir is None else os.fspath(data_dir)
    description = describe_files(key, data_dir)
    if key == "IN" and (missing := _missing(description)):
        cube, labels = _indian_pines_from_tensorly()
        source = f"tensorly.datasets.load_indian_pines() (no {missing[0].name} in the data folder)"
        raw = RawLabels(description.ground_truth.path, labels)
        whole = Cube(cube, every_band(cube.shape[2]))
        return assembled(description, key, whole, raw, source, data_dir)
    named = description.wavelengths if isinstance(description.wavelengths, str) else None
    file = open_array(
        description.cube.path, description.cube.variable, description.axes, wavelengths=named
    )
    labels, source = None, file.path.name
    if description.ground_truth is None:
        check_shapes(description, file.shape, None)
        if split_maps is not None:
            place = Raster(file.path.name, file.shape[:2], file.georeference)
            labels = union_of_split_maps(split_maps, place, description.ignored_label)
            source += f", {split_maps[0]}, {split_maps[1]}"
    else:
        labels = _read_labels(description, file)
        if labels.path != file.path:
            source += f", {labels.path.name}"
    cube = read_cube(description, key, file, to_train, trained)
    return assembled(description, key, cube, labels, source, data_dir)


def _read_labels(description: Description, cube: ArrayFile) -> RawLabels:
    """Read the ground truth and check that it has the size and the place of the cube."""
    place = Raster(cube.path.name, cube.shape[:2], cube.georeference)
    source = description.ground_truth
    if is_vector_file(source.path):
        check_shapes(description, cube.shape, None)
        return vector_labels(description, place)
    if source.attribute is not None:
        raise InputError(
            f"{source.path}: only vector files ({', '.join(SUFFIXES)}) have attributes; leave out "
            f"'{source.attribute}'"
        )
    truth = open_array(source.path, source.variable)
    check_same_place(place, Raster(str(truth.path), truth.shape[:2], truth.georeference))
    check_shapes(description, cube.shape, shape_of_labels(truth, cube.shape))
    return read_ground_truth(description, truth)


def missing_files(key: str, directory: Path) -> list[Path]:
    """Return those of a scene's files that are not there; Indian Pines needs none."""
    return [] if key == "IN" else _missing(describe(key, directory))


def _missing(description: Description) -> list[Path]:
    sources = (description.cube, description.ground_truth)
    return [source.path for source in sources if source and not source.path.is_file()]


def assembled(
    description: Description,
    key: str,
    read: Cube,
    labels: RawLabels | None,
    source: str,
    data_dir: str | None = None,
) -> Scene:
    """Put a scene together from its parts and check them; `key` is what ``-d`` says of it."""
    cube, bands, nodata, notes = read.values, read.bands, read.nodata, list(read.notes)
    rgb_bands = description.rgb_bands or bands_to_show(cube.shape[2], read.wavelengths)
    if description.rgb_bands is not None:
        if max(rgb_bands) >= bands.of:
            raise InputError(
                f"{description.cube.path}: the cube has {bands.of} bands, but the false-colour "
                f"picture needs band {max(rgb_bands)} ('rgb_bands' count from 0); is this the file "
                f"of {description.name}?"
            )
        rgb_bands = nearest_used(rgb_bands, bands)
    check_values = read.nodata_unstated and read.to_train
    if check_values:
        check_for_unstated_nodata(key, cube, nodata, stored=read.stored)
        notes += likely_fills(description.cube.path.name, cube, nodata, bands.used, read.stored)
    if labels is None:
        unlabelled = np.broadcast_to(np.int32(0), cube.shape[:2])
        truth = ClassLabels(unlabelled, (), (), description.ignored_label)
    else:
        notes += labels.notes
        least = 2 if read.to_train else 1
        truth = labels_and_classes(description, labels, least)
        with_data, lost = labels_with_data(description, truth.labels, read)
        truth = truth._replace(labels=with_data)
        notes += lost
    if check_values:
        where = f"{description.cube.path}"
        check_for_wild_values(where, cube, nodata, bands.used, read.stored)
    colours = description.colours or default_colours(len(truth.names))
    if len(colours) != len(truth.names) and truth.names:
        raise InputError(
            f"{key}: 'colours' lists {len(colours)} for {len(truth.names)} classes; list one for "
            f"each class, in label order"
        )
    return Scene(
        key=key if key in SCENES else description.key,
        name=description.name,
        cube=cube,
        bands=bands,
        labels=truth.labels,
        class_names=truth.names,
        colours=colours,
        rgb_bands=rgb_bands,
        source=source,
        notes=tuple(notes),
        nodata=nodata,
        nodata_unstated=read.nodata_unstated,
        stored=read.stored,
        wavelengths=read.wavelengths,
        georeference=read.georeference,
        file_labels=truth.file_labels,
        ignored_labels=truth.ignored_labels,
        dataset=key,
        data_dir=data_dir,
    )


def check_shapes(
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
        if axes := axes_that_fit(cube, labels, description.axes):
            order = ["its bands come first", "its bands lie between", "one of them is transposed"]
            hint += f"; if {order[axes.index('bands')]}, write 'axes: [{', '.join(axes)}]'"
        raise InputError(
            f"{where}, {description.ground_truth.path}: cube and ground truth do not fit: the cube "
            f"is {size} (rows × cols × bands), the ground truth {truth}; {hint}"
        )
    if cube[2] < LEAST_BANDS:
        raise InputError(f"{where}: {cube[2]} bands; the networks need at least {LEAST_BANDS}")


def _indian_pines_from_tensorly() -> tuple[np.ndarray, np.ndarray]:
    # Imported here: only this scene needs it, and only where its files are absent.
    from tensorly.datasets import load_indian_pines

    bunch = load_indian_pines()
    # float64 there, a quarter of that in the original file
    return bunch["tensor"].astype(np.uint16), np.asarray(bunch["ticks"][0])
