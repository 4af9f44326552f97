"""Using a trained network: test it where there is ground truth, and map scenes of any size."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from torch import nn
from tqdm import tqdm

from common.reporting.report import Iteration, build_report
from common.reporting.results_folder import (
    cleared_if_in_vain,
    map_files,
    output_directory,
    prepare_output,
    sole_writer,
    write_array,
    write_report,
    write_scene,
)
from common.run.experiment import add_page, announce, choices, print_report
from common.samples.random_split import Split
from common.scenes.bands import Bands
from common.scenes.nodata import bands_in_words, valid_pixels
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.device import choose_device, make_deterministic, peak_memory_mb
from common.system.errors import InputError
from common.system.memory import keep_freed_memory
from common.training.cost import network_cost
from common.training.network_classifier import network_environment
from common.training.network_input import check_finite, check_patch, scene_patches
from common.training.predict import classify, most_probable, probabilities
from common.training.trained_network import fast_network
from common.training.weights_file import (
    Weights,
    check_state,
    check_wavelengths,
    load_weights,
)

VALUES_PER_BLOCK = 2**25  # of the cube, read and classified at a time: 128 MiB in float32


class Use(NamedTuple):
    """A trained network, and a scene to use it on.

    Attributes
    ----------
    settings : Settings
        With what the file of weights says that the flags cannot change.
    split : Split
        What is to be tested there: see `untrained_pixels`.
    """

    weights: Weights
    settings: Settings
    scene: Scene
    split: Split

    def is_tested(self) -> np.ndarray:
        """Which pixels are, bool (rows * cols,); of length 0 where none is."""
        size = self.scene.labels.size if len(self.split.test) else 0
        test = np.zeros(size, bool)
        test[self.split.test] = True
        return test


class Found(NamedTuple):
    """What classifying a block of rows gave.

    Attributes
    ----------
    values : list of arrays
        Labels (pixels,), 0 where not asked for, confidence (pixels,), NaN there, and, if asked for,
        the probabilities of all classes (pixels, C), 0 there.
    seconds : float
    peak_memory_mb : float
        Most memory that the process had taken by then.
    """

    values: list[np.ndarray]
    seconds: float
    peak_memory_mb: float


Block = tuple[int, int]  # the first row, and the one after the last


class MapWorkplace(Protocol):
    """Where the blocks of a map are classified: in this process, or on a cluster."""

    environment: dict

    def classify(self, blocks: list[Block]) -> Iterator[Found]:
        """Yield what each block gave, in this order."""


class InThisProcess:
    """A map's blocks, one after the other."""

    def __init__(self, network: type[nn.Module], use: Use) -> None:
        self.network, self.use = network, use
        self.environment = environment_of(use)

    def classify(self, blocks: list[Block]) -> Iterator[Found]:
        """See `MapWorkplace`."""
        model, tested = model_of(self.network, self.use), self.use.is_tested()
        for block in blocks:
            yield classify_block(model, self.use, tested, block)


def evaluate(
    network: type[nn.Module],
    settings: Settings,
    on_cluster: Callable[[Settings], AbstractContextManager[MapWorkplace]] | None = None,
) -> dict:
    """Train nothing: test and map with the network in the file ``settings.weights``.

    On the scene it was trained on, its own test pixels test it; on any other scene with ground
    truth all labelled pixels do; a scene without is only mapped.  Patch width, kernels,
    attention, split and seed are those of the file, whatever the flags say.

    The cube is read, classified and written in blocks of rows, so that memory does not grow with
    the scene's length but for some bytes per pixel of ground truth.  With ``--cluster`` workers
    read and classify the blocks; `on_cluster` opens it.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        A flag, a file or the output directory cannot be used, or the scene is of another kind
        than the network was trained on.
    """
    keep_freed_memory()
    use = read_use(network, settings)
    out = output_directory(settings)
    with contextlib.ExitStack() as stack:
        if settings.cluster is None:
            workplace = InThisProcess(network, use)
        else:
            workplace = stack.enter_context(on_cluster(settings))
        return _carry_out(workplace, network, use, out)


def _carry_out(workplace: MapWorkplace, network: type[nn.Module], use: Use, out: Path) -> dict:
    """Make the results directory; return the report."""
    weights, settings, scene, split = use
    environment = workplace.environment
    with sole_writer(out, numbered=settings.out is None) as out:
        announce(scene, choices(settings, environment), out)
        with cleared_if_in_vain(out):
            prepare_output(out)
            write_scene(out, scene)
            directory = out / "run_0"
            directory.mkdir(exist_ok=True)

            iteration, mapped = _gather(workplace, use, directory)
            if len(split.test):
                write_array(directory / "split.npy", split.as_map(scene.labels.shape))
            cost = network_cost(network, weights.network, settings.patch)
            report = build_report(settings, scene, [iteration], environment, cost)
            report["trained_with"] = weights.settings | {"seed": weights.seed}
            report["mapped_per_class"] = mapped.tolist()
            write_report(out, report)
        add_page(out)
    print_report(report, out)
    return report


def read_use(network: type[nn.Module], settings: Settings, scene: Scene | None = None) -> Use:
    """Read the weights and the scene that `settings` names, and check that they fit.

    A `scene` that is given takes the place of the one that is named.
    """
    weights = load_weights(Path(settings.weights), settings.model)
    settings = _settings_of(weights, settings)
    trained = Bands(tuple(weights.bands), weights.file_bands)
    if scene is None:
        scene = load_scene(settings.dataset, settings.data_dir, to_train=False, trained=trained)
    if not scene.classes:
        scene, settings = _without_ground_truth(weights, scene, settings)
    _check_bands(weights, scene, settings.weights)
    check_state(network, weights, f"--weights {settings.weights}")
    check_patch(settings.patch, scene)
    return Use(weights, settings, scene, untrained_pixels(weights, scene))


def _settings_of(weights: Weights, settings: Settings) -> Settings:
    """Let the file say what the flags cannot change."""
    names = ("patch", "kernel", "attention", "valid_split", "split", "per_class")
    kept = {name: weights.settings[name] for name in names}
    # which files of before these flags have not
    names = ("validation", "preprocess", "components", "fit_on")
    kept |= {name: weights.settings.get(name, getattr(Settings, name)) for name in names}
    return dataclasses.replace(settings, **kept, seed=weights.seed, iter=1)


def _without_ground_truth(
    weights: Weights, scene: Scene, settings: Settings
) -> tuple[Scene, Settings]:
    """Give the scene the classes the network was trained on, and have all of it mapped."""
    if settings.map == "none":
        raise InputError(f"--map none: {settings.dataset} has no ground truth to test on either")
    names, colours = tuple(weights.class_names), tuple(weights.colours)
    labels = tuple(weights.labels)
    scene = dataclasses.replace(scene, class_names=names, colours=colours, file_labels=labels)
    return scene, dataclasses.replace(settings, map="all")


def _check_bands(weights: Weights, scene: Scene, file: str) -> None:
    """Raise InputError unless the network fits the scene's bands and classes."""
    trained_on = len(weights.bands), weights.network["classes"]
    if trained_on != (scene.cube.shape[2], scene.classes):
        hint = ""
        if trained_on[0] == scene.cube.shape[2]:
            hint = "; name the network's classes under 'classes' in the scene file"
        elif weights.file_bands in scene.cube.shape[:2]:
            orders = ("bands, rows, cols", "rows, bands, cols")
            order = orders[scene.cube.shape.index(weights.file_bands)]
            hint = f"; if its bands do not come last, write 'axes: [{order}]'"
        raise InputError(
            f"--weights {file}: trained on {trained_on[0]} bands and {trained_on[1]} classes, "
            f"but {scene.title} has {scene.cube.shape[2]} bands and {scene.classes} classes{hint}"
        )
    names = tuple(weights.class_names)
    if names != scene.class_names:
        same = sorted(names) == sorted(scene.class_names)
        what = "the same classes in another order" if same else "other classes"
        raise InputError(
            f"--weights {file}: trained on {what} than {scene.title} has: {', '.join(names)}; name "
            f"them so under 'classes', or leave out 'ground_truth' to map only"
        )
    both_stated = check_wavelengths(weights, scene, f"--weights {file}")
    if (tuple(weights.bands), weights.file_bands) != scene.bands and not both_stated:
        raise InputError(
            f"--weights {file}: trained on {_said(weights.bands, weights.file_bands)}, but "
            f"{scene.title} gives {_said(*scene.bands)}; whether these are the same can be told "
            f"only if 'wavelengths' are stated for both"
        )


def _said(bands: Sequence[int], of: int) -> str:
    return f"{bands_in_words(bands)} of {of}"


def untrained_pixels(weights: Weights, scene: Scene) -> Split:
    """What is to be tested: on another scene than the weights' own, all labelled pixels.

    On their own scene it is the split they were trained on; where its labels are others now, all
    labelled pixels but those that were trained or validated on.
    """
    nothing = np.empty(0, np.int64)
    if not scene.labels.any():  # first, for the lines below take memory for every pixel
        return Split(train=nothing, val=nothing, test=nothing)
    same_shape = weights.scene_shape[:2] == list(scene.labels.shape)
    if same_shape and weights.labels_sha256 == scene.labels_sha256():
        return weights.split
    labelled = np.flatnonzero(scene.labels)
    if (weights.scene_name, weights.scene_shape) == (scene.name, list(scene.cube.shape)):
        seen = weights.split
        test = np.setdiff1d(labelled, np.concatenate([seen.train, seen.val]))
        return Split(train=seen.train, val=seen.val, test=test)
    return Split(train=nothing, val=nothing, test=labelled)


def _blocks(scene: Scene) -> list[Block]:
    """Cut the scene into blocks of whole rows."""
    rows, cols = scene.labels.shape
    step = max(1, VALUES_PER_BLOCK // (cols * max(scene.cube.shape[2], scene.classes)))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def environment_of(use: Use) -> dict:
    """Versions, machine and commit, as `network_environment` gives them for the device chosen."""
    return network_environment(use.settings, choose_device(use.settings.device))


def model_of(network: type[nn.Module], use: Use) -> nn.Module:
    """Build the network with its weights, on its device."""
    make_deterministic()
    (weights, settings, scene, _), device = use, choose_device(use.settings.device)
    precision = environment_of(use)["precision"]
    block = scene_patches(scene, slice(0, 1), settings.patch, device, weights.preprocessing)
    return fast_network(network, weights, precision, block)


def _gather(workplace: MapWorkplace, use: Use, directory: Path) -> tuple[Iteration, np.ndarray]:
    """Classify test pixels and those that ``--map`` asks for, block by block, and write the map.

    Returns the test's outcome and how many pixels were mapped to each class, (C,).
    """
    scene, test, wanted = use.scene, use.split.test, use.settings.map
    rows, cols = scene.labels.shape
    predicted = np.zeros(rows * cols if len(test) else 0, np.int64)
    mapped, seconds, peak = np.zeros(scene.classes + 1, np.int64), 0.0, math.nan
    blocks = _blocks(scene)
    with (
        map_files(
            directory,
            scene,
            wanted != "none",
            with_confidence=True,
            with_probabilities=use.settings.probabilities,
        ) as write_rows,
        tqdm(total=rows, desc="classifying", unit=" rows", disable=None) as bar,
    ):
        found = workplace.classify(blocks)
        for (start, stop), (values, of_block, peak_of_block) in zip(blocks, found, strict=True):
            seconds, peak = seconds + of_block, np.fmax(peak, peak_of_block)
            if len(test):
                predicted[start * cols : stop * cols] = values[0]
            mapped += np.bincount(values[0], minlength=len(mapped))
            write_rows(start, *(array.reshape(-1, cols, *array.shape[1:]) for array in values))
            bar.update(stop - start)
        if wanted != "none" and not mapped[1:].any():
            raise InputError(
                f"{scene.source}: no pixel to map: each is without data in some band that the "
                f"network uses, by 'nodata' or by what the file states; these are "
                f"{_said(*scene.bands)}"
            )
    tested = predicted[test] if len(test) else predicted
    return Iteration(use.split, tested, 0, 0.0, seconds, float(peak)), mapped[1:]


def classify_block(model: nn.Module, use: Use, tested: np.ndarray, block: Block) -> Found:
    """Read a block of rows, and classify test pixels and those that ``--map`` asks for."""
    cols, (start, stop) = use.scene.labels.shape[1], block
    here = slice(start * cols, stop * cols)
    asked = _asked(use.scene, use.settings.map, start, stop)
    asked |= tested[here] if tested.size else False
    began = time.perf_counter()
    values = _classify_rows(model, use, block, asked)
    seconds = time.perf_counter() - began
    return Found(values, seconds, peak_memory_mb(str(next(model.parameters()).device)))


def _asked(scene: Scene, wanted: str, start: int, stop: int) -> np.ndarray:
    """Which pixels of some rows are to be mapped: bool (pixels,)."""
    if wanted == "all":
        cube, bands = scene.read_rows(start, stop), scene.bands.used
        return valid_pixels(cube, scene.nodata, scene.source, start, bands, scene.stored).ravel()
    return (scene.labels[start:stop].ravel() > 0) & (wanted == "labelled")


def _classify_rows(model: nn.Module, use: Use, block: Block, asked: np.ndarray) -> list[np.ndarray]:
    """Classify those pixels that are asked for of a block of rows: see `Found.values`."""
    scene, weights = use.scene, use.weights
    (rows, cols), (start, stop), device = scene.labels.shape, block, next(model.parameters()).device
    p = weights.settings["patch"]
    first = max(0, start - p)  # with the neighbours that the patches reach into
    around = slice(first, min(stop + p, rows))
    patches = scene_patches(scene, around, p, device, weights.preprocessing)
    labels, confidence = np.zeros(asked.size, np.int64), np.full(asked.size, np.nan, np.float32)
    found, pixels = [labels, confidence], np.flatnonzero(asked)
    here = pixels + (start - first) * cols
    if use.settings.probabilities:
        found.append(np.zeros((asked.size, scene.classes), np.float32))
        found[2][pixels] = probabilities(model, patches, scene.classes, here)
        labels[pixels], confidence[pixels] = most_probable(found[2][pixels])
    else:
        labels[pixels], confidence[pixels] = classify(model, patches, here)
    check_finite(confidence[pixels], scene)
    return found
