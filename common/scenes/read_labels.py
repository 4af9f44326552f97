"""Label maps as files hold them: a ground truth in several forms, and the maps of a fixed split."""

import math
from pathlib import Path

import numpy as np
from PIL import ImageColor

from common.scenes.array_file import ArrayFile, open_array
from common.scenes.georeference import Raster, check_same_place
from common.scenes.labels import CUSTOMARY_FILLS, RawLabels
from common.scenes.nodata import beyond, is_nodata, values_of
from common.scenes.scene_file import Description, Source
from common.system.errors import InputError

UNLABELLED_COLOURS = (0x000000, 0xFFFFFF)
MOST_COLOURS = 5  # of a picture that are listed


def shape_of_labels(truth: ArrayFile, cube: tuple[int, ...]) -> tuple[int, ...]:
    """Return the ground truth's rows and columns, without its layers where they come last."""
    return truth.shape[:2] if truth.shape[:2] == cube[:2] else truth.shape


def read_ground_truth(description: Description, truth: ArrayFile) -> RawLabels:
    """Read an opened ground truth: a map of labels, a picture in colours, or a layer per class.

    Raises
    ------
    InputError
        It has layers, but is neither such a picture nor such a stack, or colours are missing.
    """
    if len(truth.shape) == 2:
        values, ignored = read_unmasked(truth)
        return RawLabels(truth.path, values, ignored, _two_kinds(description, truth, values))
    layers = truth.read()
    if truth.mask is not None:
        layers[~truth.mask(0, len(layers))] = 0
    masks = np.isin(layers, (0, 1)).all()
    if masks and (layers != 0).sum(axis=2).max() < 2:
        return RawLabels(truth.path, _from_layers(description, layers))
    picture = None if masks else _picture(layers)
    if picture is not None:
        return RawLabels(truth.path, _from_colours(description, truth.path, picture))
    raise InputError(
        f"{truth.path}: the ground truth has {truth.shape[2]} layers; it must be one of labels, a "
        f"colour picture of 8 bits, or a layer of 0 and 1 for each class, one class for a pixel"
    )


def _picture(layers: np.ndarray) -> np.ndarray | None:
    """Return a colour picture (rows, cols, 3 or 4) as numbers 0..255.

    It may be stored as numbers of any type, or from 0 to 1; None where layers are no picture.
    """
    if layers.shape[2] not in (3, 4):
        return None
    from_0_to_1 = layers.dtype.kind == "f" and layers.max() <= 1
    colours = layers * 255.0 if from_0_to_1 else layers
    whole = np.rint(colours)
    near = np.abs(colours - whole) <= (1e-4 if from_0_to_1 else 0)
    return whole.astype(np.int64) if (near & (whole >= 0) & (whole <= 255)).all() else None


def _two_kinds(description: Description, truth: ArrayFile, values: np.ndarray) -> tuple[str, ...]:
    """Note that 0, which might be a class, and the file's nodata both occur."""
    zeros, stated = np.count_nonzero(values == 0), values_of(truth.nodata)
    empty = np.count_nonzero(is_nodata(values, stated))
    if not (zeros and empty) or description.ignored_label != (0,) or 0 in stated:
        return ()
    nodata = ", ".join(f"{value:.10g}" for value in stated)
    return (
        f"{truth.path}: {empty} pixels hold its nodata value, {nodata}, and {zeros} hold 0; both "
        f"are taken as unlabelled; if 0 is a class, write 'ignored_label: []'",
    )


def _from_layers(description: Description, layers: np.ndarray) -> np.ndarray:
    """Turn a stack of masks into labels.

    Where each pixel is in one layer, layer k is label k, as in a one-hot array of a label map; else
    layer k is the class k + 1, and so where there are as many names as layers.
    """
    classes, count = description.classes or (), layers.shape[2]
    if (layers != 0).any(axis=2).all() and len(classes) != count:
        return layers.argmax(axis=2)
    return (layers != 0) @ np.arange(1, count + 1)


def _from_colours(description: Description, path: Path, picture: np.ndarray) -> np.ndarray:
    """Turn a picture (rows, cols, 3 or 4) into labels by the colours of the scene file.

    Black and white, unless they are listed, and what is transparent, are unlabelled.
    """
    if description.colours is None:
        raise InputError(
            f"{path}: the ground truth is a colour picture; list the colour of each class, "
            f"\"#rrggbb\" in label order, under 'colours'"
        )
    twice = [c for c in description.colours if description.colours.count(c) > 1]
    if twice:
        raise InputError(f"{path}: 'colours' gives several classes the colour {twice[0]}")
    codes = picture[..., :3].astype(np.int64) @ (1 << 16, 1 << 8, 1)
    if picture.shape[2] == 4:
        codes[picture[..., 3] == 0] = 0
    names = description.classes
    labels = list(names) if isinstance(names, dict) else range(1, 1 + len(description.colours))
    values = np.zeros(codes.shape, np.int64)
    for label, colour in zip(labels, description.colours, strict=False):
        red, green, blue = ImageColor.getrgb(colour)
        values[codes == (red << 16 | green << 8 | blue)] = label
    strange = (values == 0) & ~np.isin(codes, UNLABELLED_COLOURS)
    if strange.any():
        found, counts = np.unique(codes[strange], return_counts=True)
        most = np.argsort(-counts)[:MOST_COLOURS]
        listed = ", ".join(f"#{found[i]:06x} in {counts[i]} pixels" for i in most)
        more = ", …" if len(found) > MOST_COLOURS else ""
        raise InputError(
            f"{path}: the ground truth is a colour picture with colours that 'colours' does not "
            f"list: {listed}{more}"
        )
    return values


def split_map_source(name: str) -> Source:
    """Say which file and variable a map of ``--split`` is: ``FILE`` or ``FILE.mat:variable``."""
    file, colon, variable = name.rpartition(":")
    if not colon or not variable.replace(".", "_").isidentifier():
        file, variable = name, None
    return Source(Path(file), variable)


def read_split_map(name: str, scene: Raster) -> RawLabels:
    """Read a map of ``--split``.

    Raises
    ------
    InputError
        It cannot be read, has another size than the scene, or lies at another place.
    """
    source = split_map_source(name)
    file = open_array(source.path, source.variable)
    check_same_place(scene, Raster(str(file.path), file.shape[:2], file.georeference))
    if file.shape != scene.shape:
        sizes = ("×".join(map(str, shape)) for shape in (file.shape, scene.shape))
        raise InputError("--split {}: the map is {}, the scene {} pixels".format(name, *sizes))
    values, ignored = read_unmasked(file)
    return RawLabels(file.path, values, (math.nan, *ignored))


def union_of_split_maps(
    names: tuple[str, str], scene: Raster, ignored_labels: tuple[float, ...]
) -> RawLabels:
    """Return what a training and a test map of ``--split`` label together, 0 elsewhere.

    Raises
    ------
    InputError
        A map cannot be read or does not fit the scene, or they disagree about a pixel's label.
    """
    train, test = (read_split_map(name, scene) for name in names)
    in_train, in_test = (
        ~is_nodata(raw.values, (0, *ignored_labels, *raw.ignored)) for raw in (train, test)
    )
    wrong = in_train & in_test & (train.values != test.values)
    if wrong.any():
        held = np.unique([raw.values[wrong] for raw in (train, test)])
        fills = [label for label in held if label < 0 or label in CUSTOMARY_FILLS]
        hint = ""
        if fills:
            hint = f"; if {fills[0]:g} means unlabelled, write 'ignored_label: [0, {fills[0]:g}]'"
        raise InputError(
            f"--split {' '.join(names)}: {np.count_nonzero(wrong)} pixels have one label in the "
            f"first map and another in the second{hint}"
        )
    return RawLabels(
        train.path, np.where(in_train, train.values, np.where(in_test, test.values, 0)), (0,)
    )


def read_unmasked(file: ArrayFile) -> tuple[np.ndarray, tuple[float, ...]]:
    """Read a label map, NaN where the file masks pixels, and which values it says are no labels."""
    values, ignored = file.read(), values_of(file.nodata)
    masked = beyond(file.valid_range, values)
    if file.mask is not None:
        masked |= ~file.mask(0, len(values))
    if not masked.any():
        return values, ignored
    return np.where(masked, math.nan, values), (math.nan, *ignored)
