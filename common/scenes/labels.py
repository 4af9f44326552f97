"""Labels as a ground truth stores them, made labels 0..C with names."""

import numpy as np

from common.scenes.scene_file import Description
from common.system.errors import InputError

MOST_CLASSES = 65_534  # which with 0 and 65535 fit into 16 bits


def labels_and_classes(
    description: Description, labels: np.ndarray, least: int = 2
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels 0..C, 0 for the ignored ones, as int64, and the classes' names.

    Where 0 is not ignored, it is the first class, and labels move up by one.  A class without any
    labelled pixel is allowed if it is named: it is never trained and never tested.  At least so
    many classes as `least` must be labelled.
    """
    where, names = f"{description.ground_truth.path}", description.classes
    if not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise InputError(
            f"{where}: the ground truth holds fractions, NaN or infinity; labels are whole numbers"
        )
    ignored = np.isin(labels, description.ignored_label)
    largest = labels[~ignored].max(initial=0)
    if largest > MOST_CLASSES:
        raise InputError(
            f"{where}: the ground truth holds {largest:g}, but there can be no more than "
            f"{MOST_CLASSES} classes; list labels that are no classes under 'ignored_label'"
        )
    shift = 0 if 0 in description.ignored_label else 1
    labels = np.where(ignored, 0, labels.astype(np.int64) + shift)
    found = np.unique(labels[~ignored])
    if len(found) < least:
        reason = "fewer than two classes; nothing to learn" if least == 2 else "no pixel"
        raise InputError(f"{where}: ground truth labels {reason}")
    classes = len(names) if names else int(found[-1])
    strange = found[(found < 1) | (found > classes)] - shift
    if len(strange):
        raise InputError(
            f"{where}: ground truth holds {', '.join(map(str, strange[:5]))}; labels of {classes} "
            f"classes are {1 - shift}..{classes - shift}; list other values under "
            f"'ignored_label'{', 0 too where labels count from 1' if shift else ''}, or name all "
            f"classes under 'classes'"
        )
    gaps = np.setdiff1d(np.arange(1, classes + 1), found) - shift
    if names is None and len(gaps):
        raise InputError(
            f"{where}: no pixel is labelled {', '.join(map(str, gaps[:5]))}, but some "
            f"{found[-1] - shift}; name all classes under 'classes', those without pixels too, or "
            f"list labels that are no classes under 'ignored_label'"
        )
    return labels, names or tuple(f"class {label - shift}" for label in found)
