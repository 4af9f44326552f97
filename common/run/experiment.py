"""A whole run: from a scene's name to a results directory."""

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np

from common.reporting.report import Iteration, build_report
from common.reporting.report_text import report_text
from common.reporting.results_folder import (
    cleared_if_in_vain,
    map_files,
    output_directory,
    prepare_output,
    sole_worker,
    sole_writer,
    write_array,
    write_arrays,
    write_report,
    write_scene,
)
from common.reporting.resume import (
    check_identity,
    finished_report,
    is_resumable,
    read_finished,
    run_identity,
    write_finished,
    write_identity,
)
from common.samples.make_splits import make_splits
from common.samples.preprocess import check_components
from common.samples.random_split import Split
from common.scenes.nodata import has_data
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.device import peak_memory_mb
from common.system.errors import InputError
from common.system.files import check_is_file
from common.system.memory import give_back_memory, keep_freed_memory
from common.training.classifier import Classifier, Cost, Task, Trained
from common.training.predict import most_probable

VALUES_PER_BLOCK = 2**25  # of a cube in its file, mapped at a time: 128 MiB in float32
FEW_UPDATES = 64  # on Salinas-A the fast recipe is far behind the papers' with 24, close with 96


class Workplace(Protocol):
    """Where the iterations of a run are carried out: in this process, or on a cluster.

    `environment`, `facts` and `cost` are those of `common.training.classifier.Classifier`.
    """

    environment: dict
    facts: dict
    cost: Cost

    def sharing(self, out: Path) -> AbstractContextManager:
        """Let iterations write to the results directory while the block lasts."""

    def iterations(self, tasks: Sequence[Task]) -> Iterator[Iteration]:
        """Train, test and map for each task; yield what they gave, in this order."""


class InThisProcess:
    """A run's iterations, one after the other, or on a GPU some side by side."""

    def __init__(self, classifier: Classifier, settings: Settings, scene: Scene) -> None:
        self.classifier, self.settings, self.scene = classifier, settings, scene
        self.environment, self.cost = classifier.environment, classifier.cost
        self.facts = classifier.facts

    def sharing(self, out: Path) -> AbstractContextManager:
        """Nothing is to be done for that."""
        return contextlib.nullcontext()

    def iterations(self, tasks: Sequence[Task]) -> Iterator[Iteration]:
        """See `Workplace`."""
        for task in tasks:
            if (
                task.directory / ".lock"
            ).exists():  # of a cluster's worker, which may still be there
                with sole_worker(task.directory):
                    pass
        for task, trained in zip(tasks, self.classifier.fit(tasks), strict=True):
            finished = tested(self.scene, trained, task, self.settings, self.environment)
            write_finished(task.directory, finished)
            yield finished


def train_and_test(
    make_classifier: Callable[[Settings, Scene], Classifier],
    settings: Settings,
    on_cluster: Callable[[Settings, Scene], AbstractContextManager[Workplace]] | None = None,
) -> dict:
    """Train and test a classifier on every Monte-Carlo iteration's split.

    Reports are rewritten after every iteration, so that an interrupted run leaves what it did.

    Parameters
    ----------
    make_classifier : callable
    settings : Settings
    on_cluster : callable, optional
        Opens the cluster that ``settings.cluster`` names.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        A flag, a file or the output directory cannot be used.
    """
    keep_freed_memory()
    out = output_directory(settings)
    if settings.start_from is not None:  # before the scene is read
        check_is_file(Path(settings.start_from), f"--start-from {settings.start_from}")
    maps = settings.split if isinstance(settings.split, tuple) else None
    scene = load_scene(settings.dataset, settings.data_dir, split_maps=maps)
    check_labelled(scene)
    splits = make_splits(scene, settings)
    check_components(settings, scene.cube.shape[2], splits)
    with contextlib.ExitStack() as stack:
        if settings.cluster is None:
            workplace = InThisProcess(make_classifier(settings, scene), settings, scene)
        else:
            workplace = stack.enter_context(on_cluster(settings, scene))
        return _carry_out(workplace, settings, scene, splits, out)


def _carry_out(
    workplace: Workplace, settings: Settings, scene: Scene, splits: list[Split], out: Path
) -> dict:
    """Make the results directory, or go on with it; return the report."""
    identity = run_identity(settings, scene, workplace.environment)
    with sole_writer(out, numbered=settings.out is None) as out, workplace.sharing(out):
        if settings.resume and is_resumable(out):
            check_identity(out, identity)
            if report := finished_report(out, settings.iter):
                print(f"{out}: finished already, nothing to do", file=sys.stderr)
                return report
        else:
            prepare_output(out)
        with cleared_if_in_vain(out):
            write_identity(out, identity)  # first of all, so that a killed run can go on
            write_scene(out, scene)
            announce(scene, choices(settings, workplace.environment), out)
            tell_of_few_updates(settings, splits)
            report = _iterate(workplace, settings, scene, splits, out)
        add_page(out)
    print_report(report, out)
    return report


def check_labelled(scene: Scene) -> None:
    """Raise InputError where there is nothing to learn from."""
    if not scene.classes:
        raise InputError(
            f"{scene.dataset}: no ground_truth to train on, nor --split TRAIN_MAP TEST_MAP; "
            f"--weights maps a scene without one"
        )


def _iterate(
    workplace: Workplace, settings: Settings, scene: Scene, splits: list[Split], out: Path
) -> dict:
    """Train, test and report every iteration that an earlier process has not finished."""
    directories = [out / f"run_{number}" for number in range(len(splits))]
    kept = [
        read_finished(directory, split) if settings.resume else None
        for directory, split in zip(directories, splits, strict=True)
    ]
    tasks = []
    for number, (split, directory) in enumerate(zip(splits, directories, strict=True)):
        if kept[number] is None:
            directory.mkdir(exist_ok=True)
            title = f"iteration {number + 1}/{settings.iter}"
            tasks.append(Task(split, settings.seed + number, directory, title))
    results, iterations = workplace.iterations(tasks), []
    for finished in kept:
        iterations.append(next(results) if finished is None else finished)
        report = build_report(settings, scene, iterations, workplace.environment, workplace.cost)
        report |= workplace.facts
        write_report(out, report)
    return report


def choices(settings: Settings, environment: dict) -> str:
    """Say on which device and in which precision a run computes, and where that was its choice."""
    device, precision = environment["device"], environment.get("precision")
    if precision is None:
        return device
    chosen = {"--device": settings.device, "--precision": settings.precision}
    autos = [f" ({flag} auto)" if value == "auto" else "" for flag, value in chosen.items()]
    return f"{device}{autos[0]}, {precision}{autos[1]}"


def announce(scene: Scene, device: str, out: Path) -> None:
    """Say on stderr what was read, on what the run computes, and where the results go."""
    rows, cols, bands = scene.cube.shape
    of = f" of {scene.bands.of}" if scene.bands.left_out else ""
    classes = f"{scene.classes} classes{_gaps(scene)}"
    print(
        f"{scene.name}: {rows}×{cols} pixels, {bands}{of} bands, {classes}, "
        f"{np.count_nonzero(scene.labels)} labelled pixels, from {scene.source}; on {device}; "
        f"results in {out}",
        file=sys.stderr,
    )
    for note in scene.notes:
        print(f"note: {note}", file=sys.stderr)


def tell_of_few_updates(settings: Settings, splits: Sequence[Split]) -> None:
    """Say on stderr that the fast recipe's epochs are too few where few pixels train."""
    if settings.recipe != "fast":
        return
    pixels = len(splits[0].train)
    updates = settings.epoch * math.ceil(pixels / settings.batch_size)
    if updates < FEW_UPDATES:
        print(
            f"note: --recipe fast: {pixels} training pixels make {updates} updates of the weights, "
            f"which are few; --recipe paper trains longer, and better where few pixels train",
            file=sys.stderr,
        )


def _gaps(scene: Scene) -> str:
    """Name the labels of the ground truth where these are not 1, 2, …."""
    labels = scene.file_labels
    if labels == tuple(range(1, 1 + scene.classes)):
        return ""
    return f" (labelled {', '.join(map(str, labels[:20]))}{', …' if len(labels) > 20 else ''})"


def test_and_map(
    scene: Scene, trained: Trained, split: Split, settings: Settings, directory: Path
) -> Iteration:
    """Classify what is to be tested and mapped, see `classify_asked`, and write it all."""
    open_map = functools.partial(map_files, directory, scene)
    iteration, inspected = classify_asked(scene, trained, split, settings, open_map)
    write_array(directory / "split.npy", split.as_map(scene.labels.shape))
    if inspected:
        write_arrays(directory / "attention.npz", inspected)
    return iteration


def classify_asked(
    scene: Scene,
    trained: Trained,
    split: Split,
    settings: Settings,
    open_map: Callable[..., AbstractContextManager[Callable[..., None]]],
) -> tuple[Iteration, dict[str, np.ndarray]]:
    """Classify the test pixels, timed, then whatever else ``--map`` asks for.

    `open_map` opens where the map goes: it takes ``with_confidence`` and ``with_probabilities``,
    and yields what `map_files` does.

    Returns the test's outcome, and what ``attention.npz`` holds.
    """
    wanted, with_probabilities = settings.map, settings.probabilities
    print(f"testing {len(split.test)} pixels", file=sys.stderr, flush=True)
    start = time.perf_counter()
    of_test = _classified(trained, split.test, with_probabilities)
    seconds = time.perf_counter() - start
    if wanted != "none":
        asked = scene.labels > 0 if wanted == "labelled" else has_data(scene.cube, scene.nodata)
        asked.flat[split.test] = False
        print(f"mapping {np.count_nonzero(asked)} further pixels", file=sys.stderr, flush=True)
        _, sure, probable = (values is not None for values in of_test)
        parts = [(split.test, of_test)]
        if wanted == "labelled":
            others = np.flatnonzero(asked)
            parts.append((others, _classified(trained, others, with_probabilities)))
        with open_map(with_confidence=sure, with_probabilities=probable) as write_rows:
            for start, stop in scene.blocks(VALUES_PER_BLOCK):
                here, cols = [], asked.shape[1]
                if wanted == "all":
                    others = np.flatnonzero(asked[start:stop]) + start * cols
                    here = [(others, _classified(trained, others, with_probabilities))]
                write_rows(start, *_drawn((start, stop), cols, [*parts, *here]))
    inspected = trained.inspect(split.test, scene.labels.flat[split.test])
    iteration = Iteration(split, of_test[0], trained.epochs, trained.seconds, seconds)
    return iteration, inspected


def tested(
    scene: Scene, trained: Trained, task: Task, settings: Settings, environment: dict
) -> Iteration:
    """`test_and_map` for a task, with the memory that this process has taken by then."""
    finished = test_and_map(scene, trained, task.split, settings, task.directory)
    return dataclasses.replace(finished, peak_memory_mb=peak_memory_mb(environment["device"]))


def _classified(
    trained: Trained, pixels: np.ndarray, with_probabilities: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Labels, confidence and, if asked for, the probabilities of all classes (pixels, C)."""
    if not with_probabilities:
        return *trained.classify(pixels), None
    found = trained.probabilities(pixels)
    return *most_probable(found), found


def _drawn(block: tuple[int, int], cols: int, parts: list[tuple]) -> list[np.ndarray | None]:
    """Draw what was found of pixels as maps (rows, cols, …) of the rows start..stop-1.

    Parts are flat indices and what `_classified` found of them.  Where there are none, labels and
    probabilities are 0, confidence NaN.
    """
    first, last = block[0] * cols, block[1] * cols
    maps = []
    for kind, nothing in enumerate((0, np.nan, 0)):
        drawn = None
        for pixels, found in parts:
            if found[kind] is not None:
                if drawn is None:
                    shape = (last - first, *found[kind].shape[1:])
                    drawn = np.full(shape, nothing, found[kind].dtype)
                here = (pixels >= first) & (pixels < last)
                drawn[pixels[here] - first] = found[kind][here]
        maps.append(None if drawn is None else drawn.reshape(-1, cols, *drawn.shape[1:]))
    return maps


def add_page(out: Path) -> None:
    """Write ``report.html`` and ``figures/`` from the other results."""
    give_back_memory()
    from common.reporting.page import (
        write_page,  # Matplotlib is large, and needed only after all else
    )

    write_page(out)


def print_report(report: dict, out: Path) -> None:
    """Show on the terminal what ``report.txt`` holds, and where it is."""
    print(report_text(report), f"Results: {out}, to look at: report.html", sep="\n")
