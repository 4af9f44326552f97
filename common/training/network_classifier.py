"""The networks as classifiers: built, trained, kept as weights, used."""

import contextlib
import dataclasses
import functools
import inspect
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from common.fast import prepare, use_fast_form
from common.recipe import Recipe, half_width, recipe_of
from common.samples.patches import Patches
from common.samples.preprocess import Preprocessing, fit_preprocessing, pixels_of
from common.scenes.nodata import check_for_unstated_nodata, has_data, valid_pixels
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.device import (
    PRECISIONS,
    choose_device,
    choose_precision,
    describe_environment,
    make_deterministic,
)
from common.system.errors import InputError
from common.training.attention_maps import weights_per_class
from common.training.checkpoint import Checkpoint
from common.training.classifier import Task, Trained
from common.training.cost import network_cost
from common.training.history import read_pretraining_seconds, write_history
from common.training.predict import classify, probabilities
from common.training.pretraining import pretrain
from common.training.progress import epoch_progress
from common.training.start_from import begin_with, read_start
from common.training.train import Data, DivergenceError, Training, run, run_side_by_side
from common.training.weights_file import Weights, save_weights

SIDE_BY_SIDE = 4  # trainings at a time on a GPU; more are hardly faster
FARTHEST = 1e10  # standard deviations of a component: nothing can be learnt of what lies beyond
TRAINING_FLAGS = ("epoch", "optimizer", "batch_size", "lr", "lr_decay", "recipe", "preprocess")
TRAINING_FLAGS += ("patch", "components", "fit_on", "class_weights")


class Seen(NamedTuple):
    """What a network sees of the scene: the preprocessing that was fitted, and patches of it."""

    preprocessing: Preprocessing
    patches: Patches


class NetworkClassifier:
    """A network class on a scene; see `common.training.classifier.Classifier`.

    Parameters
    ----------
    network : class of torch.nn.Module
        ``network(bands, classes, **settings.network_arguments())`` builds it; one whose layers
        depend on it also gets ``patch_size``, the width P of its patches.
    settings : Settings
    scene : Scene
        With its cube in memory.

    Raises
    ------
    InputError
        No such device, or patches too wide for the scene.
    """

    def __init__(self, network: type[nn.Module], settings: Settings, scene: Scene) -> None:
        self.device = choose_device(settings.device)
        check_patch(settings.patch, scene, network)
        check_preprocess(settings, network)
        make_deterministic()
        self.settings, self.scene, self.network = settings, scene, network
        self.environment = network_environment(settings, self.device)
        bands = settings.components or scene.cube.shape[2]
        self.arguments = {"bands": bands, "classes": scene.classes} | settings.network_arguments()
        if "patch_size" in inspect.signature(network).parameters:  # it is made for one size
            self.arguments["patch_size"] = 2 * settings.patch + 1
        if settings.components is not None:
            check_network_takes(network, self.arguments, settings, scene.cube.shape[2])
        self.cost = network_cost(network, self.arguments, settings.patch)
        self.recipe = fitting_recipe(settings, network, self.arguments)
        self.start = read_start(settings, network, self.arguments, scene)
        self.facts = {} if self.start is None else {"started_from": self.start.origin}
        self.seen_by_all = None  # with --fit-on train each network sees the scene otherwise
        if settings.fit_on == "scene":
            self.seen_by_all = self._seen(has_data(scene.cube, scene.nodata))

    def fit(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        """Train with the settings; write ``history.csv`` and ``weights.pt``.

        On a GPU `SIDE_BY_SIDE` tasks at a time are trained together.

        Raises
        ------
        DivergenceError
            When the task's result is asked for.  The files then hold the best epoch until it did,
            if there was one.
        """
        together = side_by_side(self.device)
        for first in range(0, len(tasks), together):
            yield from self._fit_together(tasks[first : first + together])

    def _seen(self, pixels: np.ndarray) -> Seen:
        """Fit the preprocessing on some pixels, bool (rows, cols), and apply it to the scene."""
        scene, rows = self.scene, slice(0, len(self.scene.labels))
        fitted = fit_preprocessing(self.settings, scene.cube, pixels)
        return Seen(fitted, scene_patches(scene, rows, self.settings.patch, self.device, fitted))

    def _fit_together(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        """Train several networks at once, or one."""
        shape = self.scene.labels.shape
        seen = [self.seen_by_all or self._seen(pixels_of(task.split, shape)) for task in tasks]
        with contextlib.ExitStack() as bars:
            trainings = [
                self._training(task, of_task.patches, bars)
                for task, of_task in zip(tasks, seen, strict=True)
            ]
            ends = run_side_by_side(trainings) if len(trainings) > 1 else [run(trainings[0])]
        results = [
            self._result(task, training, of_task.preprocessing, end)
            for task, training, of_task, end in zip(tasks, trainings, seen, ends, strict=True)
        ]
        for result in results:
            if isinstance(result, DivergenceError):
                raise result
            yield result

    def _training(self, task: Task, patches: Patches, bars: contextlib.ExitStack) -> Training:
        """Make a network and all that its training needs."""
        torch.manual_seed(task.seed)
        model = build(self.network, self.arguments, self.environment["precision"], patches)
        if self.start is not None:
            begin_with(model, self.start)
        elif hasattr(model, "autoencoders"):
            pixels = torch.from_numpy(task.split.train).to(self.device)
            spectra = patches.spectra[patches.positions(pixels)]
            pretrain(model, spectra, self.settings, task.seed, task.title, task.directory)
        show = bars.enter_context(epoch_progress(task.title, self.settings, self.recipe))
        return Training(
            model,
            Data(patches, self.scene.labels.ravel(), task.split),
            self.settings,
            task.seed,
            show,
            self._checkpoint(task),
            self.recipe,
        )

    def _result(
        self,
        task: Task,
        training: Training,
        preprocessing: Preprocessing,
        end: DivergenceError | None,
    ) -> Trained | DivergenceError:
        """Keep what a training gave; return what ended it before its time, if that is so."""
        progress = training.progress
        if progress.best_weights is not None:
            training.model.load_state_dict(progress.best_weights)
            write_history(task.directory, progress.history)
            weights = self._weights(training.model, task, preprocessing)
            save_weights(task.directory / "weights.pt", weights)
        if end is not None:
            return end
        used = training.model, training.patches
        pretraining = read_pretraining_seconds(task.directory)
        return Trained(
            functools.partial(classify, *used),
            len(progress.history),
            pretraining + sum(epoch.seconds for epoch in progress.history),
            probabilities=functools.partial(probabilities, *used, self.scene.classes),
            inspect=functools.partial(weights_per_class, *used, self.scene.classes),
        )

    def _checkpoint(self, task: Task) -> Checkpoint:
        """Return where this training is kept, and is read from if it was interrupted."""
        flags = {name: getattr(self.settings, name) for name in TRAINING_FLAGS}
        flags["recipe"] = dataclasses.asdict(self.recipe)
        flags["start_from"] = self.start and self.start.origin["sha256"]
        precision = self.environment["precision"]
        identity = [flags, self.arguments, task.seed, task.split.sha256(), precision]
        return Checkpoint(task.directory, json.dumps(identity))

    def _weights(self, model: nn.Module, task: Task, preprocessing: Preprocessing) -> Weights:
        """Bundle a trained network with all that is needed to use it."""
        scene = self.scene
        return Weights(
            model=self.settings.model,
            network=self.arguments,
            settings=dataclasses.asdict(self.settings),
            seed=task.seed,
            class_names=list(scene.class_names),
            colours=list(scene.colours),
            bands=list(scene.bands.used),
            file_bands=scene.bands.of,
            labels=list(scene.file_labels),
            wavelengths=list(scene.wavelengths or ()),
            scene_name=scene.name,
            scene_shape=list(scene.cube.shape),
            labels_sha256=scene.labels_sha256(),
            split=task.split,
            preprocessing=preprocessing,
            state=model.state_dict(),
        )


def side_by_side(device: torch.device) -> int:
    """Return how many networks are trained at a time."""
    return SIDE_BY_SIDE if device.type == "cuda" else 1


def network_environment(settings: Settings, device: torch.device) -> dict:
    """Versions, machine, commit and the precision of the convolutions."""
    environment = describe_environment(device)
    return environment | {"precision": choose_precision(settings.precision, device)}


def check_patch(half_width: int, scene: Scene, network: type[nn.Module] = nn.Module) -> None:
    """Raise InputError where every patch would hold the whole scene with zeros all around.

    Or where patches are smaller than the network's `least_half_width`, if it has one.
    """
    least = getattr(network, "least_half_width", 2)
    if half_width < least:
        raise InputError(
            f"-p {half_width}: {network.__name__} needs patches of {2 * least + 1}×{2 * least + 1} "
            f"pixels; use -p {least} or more"
        )
    rows, cols = scene.labels.shape
    widest = max(rows, cols) - 1
    if half_width > widest:
        cure = f"use -p {widest} or less" if widest > 1 else "the scene is too small"
        raise InputError(
            f"-p {half_width}: patches wider than the scene, {rows}×{cols} pixels, on all sides of "
            f"every pixel; {cure}"
        )


def check_preprocess(settings: Settings, network: type[nn.Module]) -> None:
    """Raise InputError where a network needs another preprocessing."""
    needed = getattr(network, "preprocess", settings.preprocess)
    if settings.preprocess != needed:
        raise InputError(
            f"--preprocess {settings.preprocess}: {network.__name__} takes numbers from 0 to 1; "
            f"use --preprocess {needed}"
        )


def check_finite(numbers: np.ndarray, scene: Scene) -> None:
    """Raise InputError unless what became of a scene's spectra are finite numbers."""
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{scene.source}: values too far from those that the network was trained on to compute "
            f"with; give both scenes the same units, or say with 'nodata' what is no data"
        )


def scene_patches(
    scene: Scene,
    rows: slice,
    half_width: int,
    device: torch.device,
    preprocessing: Preprocessing,
) -> Patches:
    """Return the patches of some rows of a scene; those without data are zero."""

    def preprocess(block: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # of pixels without data
            spectra = preprocessing.apply(block)
        spectra[~has_data(block, scene.nodata)] = 0
        if not (np.abs(spectra) <= FARTHEST).all():
            raise _too_far(scene, rows.start, cube, preprocessing)
        return spectra

    cube = scene.read_rows(rows.start, rows.stop)
    if scene.nodata_unstated:
        check_for_unstated_nodata(scene.key, cube, scene.nodata, rows.start, scene.stored)
    valid_pixels(cube, scene.nodata, scene.source, rows.start, scene.bands.used, scene.stored)
    return Patches.of_cube(cube, half_width, device, preprocess)


def fitting_recipe(settings: Settings, network: type[nn.Module], arguments: dict) -> Recipe:
    """Return the recipe; where the network takes none of its smaller patches, without these."""
    recipe = recipe_of(settings)
    first = half_width(settings, recipe, 1)
    if first == settings.patch or takes_patches(network, arguments, first):
        return recipe
    print(
        f"--recipe {settings.recipe}: {settings.model} takes no patches of -p {first}, so that all "
        f"epochs have those of -p {settings.patch}",
        file=sys.stderr,
    )
    return dataclasses.replace(recipe, small_patches=0.0)


def check_network_takes(
    network: type[nn.Module], arguments: dict, settings: Settings, bands: int
) -> None:
    """Raise InputError where the components are too few for a network, as for a convolution."""

    def takes(components: int) -> bool:
        return takes_patches(network, arguments | {"bands": components}, settings.patch)

    asked = settings.components
    if not takes(asked):
        least = next(filter(takes, range(asked + 1, bands + 1)), None)
        cure = f"use --components {least} or more" if least else "leave --components out"
        raise InputError(
            f"--components {asked}: too few for the convolutions of {settings.model}; {cure}"
        )


def takes_patches(network: type[nn.Module], arguments: dict, half_width: int) -> bool:
    """Whether a network maps patches of some width to logits."""
    width = 2 * half_width + 1
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without a number
        try:
            model = network(**arguments).eval()
            scores = model(torch.zeros(2, 1, width, width, arguments["bands"]))
            return scores.shape == (2, arguments["classes"])
        except Exception:  # of whatever is in the network, a product of matrices for one
            return False


def _too_far(
    scene: Scene, first_row: int, cube: np.ndarray, preprocessing: Preprocessing
) -> InputError:
    """Say which pixels of some rows (rows, cols, bands) the network cannot have learnt of."""
    with np.errstate(over="ignore", invalid="ignore"):
        near = [(np.abs(preprocessing.apply(row)) <= FARTHEST).all(axis=1) for row in cube]
    far = ~np.array(near) & has_data(cube, scene.nodata)
    row, col = np.argwhere(far)[0]
    band = np.abs(cube[row, col].astype(np.float64)).argmax()
    return InputError(
        f"{scene.source}: values too far from those that the network was trained on in "
        f"{np.count_nonzero(far)} pixels of rows {first_row} to {first_row + len(cube) - 1}, as "
        f"{cube[row, col, band]} at row {first_row + row}, column {col}, band "
        f"{scene.bands.used[band]}; say with 'nodata' if that is no data, or give both scenes the "
        f"same units"
    )


def build(network: type[nn.Module], arguments: dict, precision: str, patches: Patches) -> nn.Module:
    """Make the network with initial weights, in its fast form where the patches are."""
    device = patches.spectra.device
    model = use_fast_form(network(**arguments), device, PRECISIONS[precision])
    prepare(model, patches.gather(torch.arange(2, device=device)))
    return model
