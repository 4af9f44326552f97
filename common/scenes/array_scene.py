"""A scene of arrays in memory."""

from pathlib import Path

import numpy as np

from common.scenes.array_file import as_file
from common.scenes.bands import Bands
from common.scenes.cube import read_cube
from common.scenes.read_labels import read_ground_truth, shape_of_labels
from common.scenes.scene import Scene, assembled, check_shapes
from common.scenes.scene_file import SCENES, as_description
from common.system.errors import InputError


def make_scene(name: str, cube: np.ndarray, labels: np.ndarray | None = None, **keys) -> Scene:
    """Make a scene of arrays in memory.

    Parameters
    ----------
    cube : real array (rows, cols, bands)
    labels : integer array (rows, cols), optional
        0 where unlabelled; without them the scene can only be mapped.
    **keys
        Further keys of a scene file (docs/own-scenes.md), as ``classes=["Corn", "Oats"]`` or
        ``nodata=0``.

    Raises
    ------
    InputError
        A key is wrong, or cube and labels cannot be used.
    """
    arrays = (tuple, np.ndarray)
    lists = {key: np.asarray(v).tolist() for key, v in keys.items() if isinstance(v, arrays)}
    return scene_of_arrays(keys | lists | {"name": name}, cube, labels)


def scene_of_arrays(
    content: dict,
    cube: np.ndarray,
    labels: np.ndarray | None = None,
    to_train: bool = True,
    trained: Bands | None = None,
) -> Scene:
    """Make a scene of arrays, with all checks of one in files.

    Parameters
    ----------
    content : dict
        What a scene file says beside ``cube`` and ``ground_truth``: ``name``, ``classes``, ….
    cube : real array (rows, cols, bands), or with axes as ``axes`` says
    labels : integer array (rows, cols), optional
        The ground truth.
    to_train, trained
        As in `load_scene`.

    Raises
    ------
    InputError
        A key is wrong, or cube and ground truth cannot be used.
    """
    names = {"cube": "cube"} | ({} if labels is None else {"ground_truth": "labels"})
    if wrong := sorted({"cube", "ground_truth"} & content.keys()):
        raise InputError(f"'{wrong[0]}': the arrays say it; leave it out")
    description = as_description(content | names, Path("scene"), Path())
    key = description.name
    if key.upper() in SCENES:
        raise InputError(f"name '{key}': a benchmark scene is called so; choose another")
    file = as_file("cube", np.asarray(cube), description.axes)
    truth = None
    if labels is None:
        check_shapes(description, file.shape, None)
    else:
        read = as_file("labels", np.asarray(labels))
        check_shapes(description, file.shape, shape_of_labels(read, file.shape))
        truth = read_ground_truth(description, read)
    read_as = read_cube(description, key, file, to_train, trained)
    return assembled(description, key, read_as, truth, "arrays in memory")
