"""Labels as a ground truth stores them, made labels 0..C with names."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.scenes.nodata import is_nodata
from common.scenes.scene_file import Description
from common.system.errors import InputError

MOST_CLASSES = 65_534  # which with 0 and 65535 fit into 16 bits
LARGEST_LABEL = 2**32 - 1  # crop codes of ten digits are no larger, and 32 bits hold it
# What often stands where nothing is labelled, without the file saying so.
CUSTOMARY_FILLS = (255, 999, 9999, 99999, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)


class RawLabels(NamedTuple):
    """A ground truth as its file holds it.

    Attributes
    ----------
    path : Path
    values : array (rows, cols) of any real type
    ignored : tuple of float
        Values that label nothing by what the file itself says; may hold NaN.
    notes : tuple of str
        What the user should know of how it was read.
    names : dict of int to str, or None
        What it calls its labels itself.
    """

    path: Path
    values: np.ndarray
    ignored: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    names: dict[int, str] | None = None


class ClassLabels(NamedTuple):
    """A ground truth as the networks are trained on it.

    Attributes
    ----------
    labels : int32 array (rows, cols)
        0 where unlabelled, else 1..C.
    names : tuple of str
        One per class, in label order.
    file_labels : tuple of int
        The file's own label of each class, ascending.
    ignored_labels : tuple of float
        The file's values that label nothing; may hold NaN.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    file_labels: tuple[int, ...]
    ignored_labels: tuple[float, ...]


def labels_and_classes(description: Description, raw: RawLabels, least: int = 2) -> ClassLabels:
    """Number the classes 1..C in the order of the file's labels, 0 for what labels nothing.

    Classes that the scene file names in a list have the labels 1, 2, …, or 0, 1, … where 0 is not
    ignored; in a mapping, the labels that it says; without names, the labels that occur.  A class
    without any labelled pixel is allowed if it is named: it is never trained and never tested.  At
    least so many classes as `least` must be labelled.

    Raises
    ------
    InputError
        The labels are not whole numbers of at most 32 bits, or not those of the named classes.
    """
    where, names = f"{raw.path}", description.classes or raw.names
    ignored_labels = (*description.ignored_label, *raw.ignored)
    ignored = is_nodata(raw.values, ignored_labels)
    labelled = raw.values[~ignored]
    found = _whole_numbers(where, labelled, ignored_labels)
    if len(found) < least:
        reason = "fewer than two classes; nothing to learn" if least == 2 else "no pixel"
        raise InputError(f"{where}: ground truth labels {reason}")
    first = 1 if 0 in ignored_labels else 0
    if names is None:
        _refuse_customary_fill(where, labelled, found)
        file_labels, names = tuple(found), tuple(f"class {label}" for label in found)
    elif isinstance(names, dict):
        file_labels, names = tuple(names), tuple(names.values())
        allowed = f"'classes' names {listed(file_labels)}"
        _refuse_others(where, found, file_labels, allowed, first)
    else:
        file_labels = tuple(range(first, first + len(names)))
        allowed = f"labels of {len(names)} classes are {first}..{file_labels[-1]}"
        _refuse_others(where, found, file_labels, allowed, first)
    labels = np.zeros(raw.values.shape, np.int32)
    labels[~ignored] = np.searchsorted(file_labels, labelled.astype(np.int64)) + 1
    return ClassLabels(labels, names, file_labels, ignored_labels)


def values_in_maps(file_labels: tuple[int, ...]) -> np.ndarray:
    """What maps hold for the labels 0..C: 0 for none, else the file's own labels, int64 (C + 1,).

    Where 0 is a class, all classes' labels are one more in maps, since 0 is none there.
    """
    shift = 1 if 0 in file_labels else 0
    return np.array([0, *(label + shift for label in file_labels)], np.int64)


def class_numbers(label_map: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Turn what a map holds into labels 0..C again; `values` is that of `values_in_maps`."""
    if values[-1] == len(values) - 1:
        return label_map
    return np.searchsorted(values, label_map).astype(np.min_scalar_type(len(values) - 1))


def _whole_numbers(where: str, labelled: np.ndarray, ignored: tuple[float, ...]) -> list[int]:
    """Return the labels that occur, ascending, and check that they can be labels of classes."""
    if np.isnan(labelled).any():
        others = ", ".join(f"{label:g}" for label in ignored)
        raise InputError(
            f"{where}: the ground truth holds NaN; if that means unlabelled, write "
            f"'ignored_label: [{others}, nan]'"
        )
    if not (np.isfinite(labelled) & (labelled == np.floor(labelled))).all():
        raise InputError(
            f"{where}: the ground truth holds fractions or infinity; labels are whole numbers"
        )
    found = [int(label) for label in np.unique(labelled)]
    if len(found) > MOST_CLASSES:
        raise InputError(
            f"{where}: the ground truth holds {len(found)} different labels, but there can be no "
            f"more than {MOST_CLASSES} classes; is this a ground truth?"
        )
    strange = [label for label in found if not 0 <= label <= LARGEST_LABEL]
    if strange:
        raise InputError(
            f"{where}: ground truth holds {listed(strange)}; labels of classes are 0..2³²-1; "
            f"list labels that are no classes under 'ignored_label'"
        )
    return found


def _refuse_customary_fill(where: str, labelled: np.ndarray, found: list[int]) -> None:
    """Raise InputError where the last label stands apart and often means that there is none."""
    last = found[-1]
    if last in CUSTOMARY_FILLS and last - 1 not in found:
        pixels = np.count_nonzero(labelled == last)
        raise InputError(
            f"{where}: {pixels} pixels of the ground truth hold {last}, which often means "
            f"unlabelled; list it under 'ignored_label', or name all classes under 'classes' as "
            f"{{{found[0]}: …, {last}: …}}"
        )


def _refuse_others(
    where: str, found: list[int], file_labels: tuple[int, ...], allowed: str, first: int
) -> None:
    """Raise InputError where labels occur that are none of the named classes'."""
    strange = sorted(set(found) - set(file_labels))
    if strange:
        raise InputError(
            f"{where}: ground truth holds {listed(strange)}; {allowed}; list other values under "
            f"'ignored_label'{'' if first else ', 0 too where labels count from 1'}, or name all "
            f"classes under 'classes', as {{label: name}} where labels have gaps"
        )


def listed(labels: Sequence[int | str]) -> str:
    """Name a few labels, or the like, of many."""
    return ", ".join(map(str, labels[:5])) + (", …" if len(labels) > 5 else "")
