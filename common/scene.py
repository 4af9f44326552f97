"""A scene: the hyperspectral cube, its ground truth, and what its classes are called."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from common.errors import InputError
from common.files import REPOSITORY
from common.matfile import read_mat

SCENES = ("IN", "UP", "KSC", "SV")


@dataclass(frozen=True)
class Scene:
    """One hyperspectral image with ground truth.

    Attributes
    ----------
    key : str
        What the user calls it: IN, UP, KSC or SV.
    name : str
        Its name in words.
    cube : array (rows, cols, bands)
        Radiance or reflectance as stored, any numeric dtype.
    labels : int64 array (rows, cols)
        Ground truth: 0 where unlabelled, else 1..C.
    class_names, colours : tuple of str
        One per class, in label order; colours as "#rrggbb".
    rgb_bands : tuple of int
        The three bands of the false-colour picture, 0-based.
    source : str
        Where it was read from, for the report.
    """

    key: str
    name: str
    cube: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    colours: tuple[str, ...]
    rgb_bands: tuple[int, int, int]
    source: str

    @property
    def classes(self) -> int:
        """Number of classes C, those without a labelled pixel included."""
        return len(self.class_names)


def data_directory(data_dir: str | None = None) -> Path:
    """Where scenes lie: `data_dir`, else ``$HSI_DATA_DIR``, else ``dataset/`` of the repository."""
    return Path(data_dir or os.environ.get("HSI_DATA_DIR") or REPOSITORY / "dataset")


def describe(key: str) -> dict:
    """Read a scene's description: its files, class names, colours and false-colour bands.

    Raises
    ------
    InputError
        No scene has this key.
    """
    if key not in SCENES:
        raise InputError(f"-d {key}: unknown scene; choose one of {', '.join(SCENES)}")
    path = REPOSITORY / "common" / "scenes" / f"{key}.yaml"
    return yaml.safe_load(path.read_text("utf-8"))


def load_scene(key: str, data_dir: str | None = None) -> Scene:
    """Read a scene by its key and check that its parts fit together.

    Indian Pines comes from the library tensorly where its files are not in the data directory.

    Raises
    ------
    InputError
        The key is unknown, a file is missing or damaged, or cube and ground truth do not fit.
    """
    description = describe(key)
    directory = data_directory(data_dir)
    cube_path = directory / description["cube"]["path"]
    labels_path = directory / description["ground_truth"]["path"]
    missing = [path for path in (cube_path, labels_path) if not path.is_file()]
    if missing and key == "IN":
        cube, labels = _indian_pines_from_tensorly()
        source = f"tensorly.datasets.load_indian_pines() (no {missing[0].name} in the data folder)"
    elif missing:
        raise InputError(f"{missing[0]}: no such file; fetch it with: bash setup_script.sh")
    else:
        cube = read_mat(cube_path, description["cube"]["variable"])
        labels = read_mat(labels_path, description["ground_truth"]["variable"])
        source = f"{cube_path.name}, {labels_path.name}"
    where = f"{cube_path}, {labels_path}"
    labels = checked_labels(cube, labels, classes=len(description["classes"]), where=where)
    rgb_bands = tuple(description["rgb_bands"])
    if max(rgb_bands) >= cube.shape[2]:
        raise InputError(
            f"{where}: the cube has {cube.shape[2]} bands, but the false-colour picture needs "
            f"band {max(rgb_bands)}; is this the file of {description['name']}?"
        )
    return Scene(
        key=key,
        name=description["name"],
        cube=cube,
        labels=labels,
        class_names=tuple(description["classes"]),
        colours=tuple(description["colours"]),
        rgb_bands=rgb_bands,
        source=source,
    )


def checked_labels(cube: np.ndarray, labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Return the ground truth as int64 after checking it against the cube and the class list.

    A class without any labelled pixel is allowed: it is never trained and never tested.

    Raises
    ------
    InputError
        Wrong shapes, fewer than 7 bands, labels that are no class, or fewer than two classes;
        the message starts with `where`, the files' names.
    """
    if cube.ndim != 3 or not cube.size:
        raise InputError(
            f"{where}: the cube is {'×'.join(map(str, cube.shape))}, not rows × cols × bands"
        )
    if labels.shape != cube.shape[:2]:
        raise InputError(
            f"{where}: cube and ground truth do not fit: the cube has "
            f"{cube.shape[0]}×{cube.shape[1]} pixels, the ground truth is "
            f"{'×'.join(map(str, labels.shape))}"
        )
    if cube.shape[2] < 7:
        raise InputError(f"{where}: {cube.shape[2]} bands; the networks need at least 7")
    if not np.isfinite(cube).all():
        raise InputError(f"{where}: the cube holds NaN or infinite values; replace them first")
    if not (labels == np.floor(labels)).all() or labels.min() < 0 or labels.max() > classes:
        strange = np.setdiff1d(labels, np.arange(classes + 1))[:5]
        raise InputError(
            f"{where}: ground truth holds {', '.join(f'{v:g}' for v in strange)}; "
            f"labels are 0 (unlabelled) and 1..{classes}"
        )
    labels = labels.astype(np.int64)
    if np.count_nonzero(np.bincount(labels.ravel())[1:]) < 2:
        raise InputError(f"{where}: ground truth labels fewer than two classes; nothing to learn")
    return labels


def _indian_pines_from_tensorly() -> tuple[np.ndarray, np.ndarray]:
    # Imported here: only this scene needs it, and only where its files are absent.
    from tensorly.datasets import load_indian_pines

    bunch = load_indian_pines()
    # float64 there, a quarter of that in the original file
    return bunch["tensor"].astype(np.uint16), np.asarray(bunch["ticks"][0])
