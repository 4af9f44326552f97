"""Finished results directories, read as the methods that a paper compares."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.reporting.report import with_all_figures
from common.reporting.report_text import scene_title, split_name
from common.system.errors import InputError

SUMMARIES = ("oa", "aa", "kappa", "f1_macro")
TEST = 3  # the value of test pixels in split.npy

# Settings by which methods of one model may differ, the most telling first, in words.
DISTINGUISHING = {
    "attention": "{} attention",
    "input": "{} input",
    "recipe": "{} recipe",
    "preprocess": "{} preprocessing",
    "components": "{} components",
    "fit_on": "fitted on {}",
    "class_weights": "class weights {}",
    "start_from": "started from {}",
    "precision": "{}",
    "split": "{} split",
    "per_class": "{} per class",
    "valid_split": "-vs {}",
    "validation": "validation {}",
    "patch": "patch {}",
    "kernel": "{} kernels",
    "optimizer": "{}",
    "lr": "lr {}",
    "lr_decay": "lr decay {}",
    "batch_size": "batches of {}",
    "epoch": "{} epochs",
    "seed": "seed {}",
    "iter": "{} iterations",
}

# What networks did that were trained before there were these flags.
BEFORE_THE_FLAG = {"preprocess": "pca", "fit_on": "scene", "class_weights": "none"}


@dataclass(frozen=True)
class Method:
    """What a results directory says of its method, over I iterations and C classes.

    Attributes
    ----------
    name : str
        Column title; the model's name until `with_distinct_names` or the user chose another.
    directory : Path
    dataset, scene : str
        Key of the scene, and what the user calls it.
    class_names : tuple of str
    settings : dict
        Those the method was trained with, None where it has no such thing; ``precision`` is what
        the run really computed in, ``split`` is in words.
    mean, std : float arrays (C + 4,)
        Of the classes' accuracies, OA, AA, kappa and macro F1, as shares 0..1 and ddof 0; NaN where
        there is no figure, as for a class without test pixels.
    oa : float array (I,)
    confusion : int array (I, C, C)
        Counts, rows = labelled.
    train_pixels : float array (C,)
        Mean over iterations.
    test_sha256 : tuple of str, one per iteration
    asked : int
        Iterations that the run was to make; more than I where it was interrupted.
    report : dict
        What ``report.json`` holds, with what its confusion matrices give.
    """

    name: str
    directory: Path
    dataset: str
    scene: str
    class_names: tuple[str, ...]
    settings: dict
    mean: np.ndarray
    std: np.ndarray
    oa: np.ndarray
    confusion: np.ndarray
    train_pixels: np.ndarray
    test_sha256: tuple[str, ...]
    asked: int
    report: dict

    def named(self, name: str) -> "Method":
        """Return the same method under another name."""
        return dataclasses.replace(self, name=name)

    def splits(self) -> dict[tuple[int, str], int]:
        """Number of each iteration by its seed and the checksum of its test pixels."""
        seed = self.settings["seed"]
        return {(seed + n, checksum): n for n, checksum in enumerate(self.test_sha256)}


@dataclass(frozen=True)
class Correctness:
    """One iteration's N test pixels, row by row: flat index, label 1..C, classified right."""

    pixels: np.ndarray
    labels: np.ndarray
    right: np.ndarray


class UnavailableError(Exception):
    """The test pixels cannot be had; the message says why, without naming the directory."""


def read_methods(directories: Sequence[Path]) -> list[Method]:
    """Read results directories of one scene; names are still the models'.

    Raises
    ------
    InputError
        A directory is named twice or has no whole ``report.json``, or the scenes differ.
    """
    methods = []
    for directory in directories:
        if directory.resolve() in [method.directory.resolve() for method in methods]:
            raise InputError(f"{directory}: named twice; name every results directory once")
        method = read_method(directory)
        first = methods[0] if methods else method
        if method.dataset != first.dataset:
            raise InputError(
                f"{directory}: of scene {method.dataset}, but {first.directory} is of "
                f"{first.dataset}; a table holds one scene"
            )
        if method.class_names != first.class_names:
            raise InputError(
                f"{directory}: its classes are not those of {first.directory}; "
                f"a table holds one scene"
            )
        methods.append(method)
    return methods


def read_method(directory: Path) -> Method:
    """Read ``report.json`` of one results directory; raises InputError where it is not whole."""
    path = directory / "report.json"
    try:
        report = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; name results directories with a finished iteration"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged, this is no JSON ({error})") from error
    try:
        if not report["oa"]:
            raise InputError(f"{path}: of a map without ground truth; there is no accuracy in it")
        return _from_report(directory, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not the report of a finished run ({what})") from error


def _from_report(directory: Path, report: dict) -> Method:
    report = with_all_figures(report)
    settings = report.get("trained_with") or report["settings"]
    of_network = settings.get("epoch") is not None
    settings = {"recipe": "paper"} | (BEFORE_THE_FLAG if of_network else {}) | settings
    settings["precision"] = report["environment"].get("precision", "fp32")
    split = report["split"]
    if "split" in settings:
        settings["split"] = split_name(settings, split)
    method = Method(
        name=str(report["model"]),
        directory=directory,
        dataset=str(report["dataset"]),
        scene=scene_title(report),
        class_names=tuple(map(str, report["class_names"])),
        settings=settings | {"seed": int(settings["seed"])},
        mean=_classes_then_summaries(report, "mean"),
        std=_classes_then_summaries(report, "std"),
        oa=np.array(report["oa"], float),
        confusion=np.array(report["confusion"], int),
        train_pixels=np.mean(split["train_per_class"], axis=0),
        test_sha256=tuple(split["test_sha256"]),
        asked=int(report["settings"]["iter"]),
        report=report,
    )
    iterations, classes = len(method.test_sha256), len(method.class_names)
    if not iterations or method.oa.shape != (iterations,):
        raise ValueError("oa and test_sha256 do not fit together")
    if method.confusion.shape != (iterations, classes, classes):
        raise ValueError("confusion does not fit class_names")
    rows = (classes + len(SUMMARIES),)
    if (method.mean.shape, method.std.shape, method.train_pixels.shape) != (rows, rows, (classes,)):
        raise ValueError("the classes' figures do not fit class_names")
    return method


def _classes_then_summaries(report: dict, what: str) -> np.ndarray:
    figures = [*report[f"per_class_{what}"], *(report[f"{name}_{what}"] for name in SUMMARIES)]
    return np.array(figures, float)  # null becomes NaN


def with_distinct_names(methods: Sequence[Method]) -> list[Method]:
    """Add to the models' names those settings, and no others, that tell the methods apart.

    Where all settings agree, the directory does it.
    """
    titles = [(method.name,) for method in methods]
    for setting, words in DISTINGUISHING.items():
        values = [method.settings.get(setting) for method in methods]
        for group in _tied(titles):
            if len({str(values[i]) for i in group}) > 1:
                for i in group:
                    titles[i] += () if values[i] is None else (words.format(values[i]),)
    for group in _tied(titles):
        for i in group:
            titles[i] += (str(methods[i].directory),)
    names = [title[0] + (f" ({', '.join(title[1:])})" if title[1:] else "") for title in titles]
    return [method.named(name) for method, name in zip(methods, names, strict=True)]


def _tied(titles: list[tuple[str, ...]]) -> list[list[int]]:
    """Positions of equal titles, for each title that stands more than once."""
    positions = defaultdict(list)
    for i, title in enumerate(titles):
        positions[title].append(i)
    return [group for group in positions.values() if len(group) > 1]


def correctness(method: Method, iteration: int) -> Correctness:
    """Which of an iteration's test pixels its method classified right.

    Read from ``gt.npy`` and the iteration's ``split.npy`` and ``map.npy``, all (rows, cols), and
    checked against the report's confusion matrix.

    Raises
    ------
    UnavailableError
        A file is missing or damaged, or does not fit the others.
    """
    run = method.directory / f"run_{iteration}"
    paths = (method.directory / "gt.npy", run / "split.npy", run / "map.npy")
    if missing := [path.name for path in paths if not path.is_file()]:
        raise UnavailableError(f"{' and '.join(missing)} missing")
    arrays = []
    for path in paths:
        try:
            arrays.append(np.lib.format.open_memmap(path, mode="r"))
        except (OSError, ValueError, EOFError) as error:
            raise UnavailableError(f"{path.name} damaged") from error
    labels, split, predicted = arrays
    if not labels.shape == split.shape == predicted.shape:
        raise UnavailableError("gt.npy, split.npy and map.npy differ in shape")
    pixels = np.flatnonzero(split == TEST)
    labels = labels.ravel()[pixels]
    right = predicted.ravel()[pixels] == labels
    confusion = method.confusion[iteration]
    if (len(right), right.sum()) != (confusion.sum(), np.trace(confusion)):
        raise UnavailableError("gt.npy, split.npy and map.npy do not fit report.json")
    return Correctness(pixels, labels, right)
