"""The networks as classifiers: built, trained, kept as weights, used."""

import contextlib
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from common.samples.patches import Patches
from common.samples.preprocess import Preprocessing, fit_preprocessing, pixels_of
from common.scenes.nodata import has_data
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.device import (
    choose_device,
    choose_precision,
    describe_environment,
    make_deterministic,
)
from common.training.attention_maps import weights_per_class
from common.training.checkpoint import Checkpoint
from common.training.classifier import Task, Trained
from common.training.cost import network_cost
from common.training.history import read_pretraining_seconds, write_history
from common.training.network_input import (
    build,
    check_network_takes,
    check_patch,
    check_preprocess,
    fitting_recipe,
    in_any_rows,
    labelled_patches,
    scene_patches,
)
from common.training.predict import classify, probabilities
from common.training.pretraining import pretrain
from common.training.progress import epoch_progress
from common.training.start_from import begin_with, read_start
from common.training.train import Data, DivergenceError, Training, run, run_side_by_side
from common.training.weights_file import Weights, save_weights

T = TypeVar("T")
SIDE_BY_SIDE = 4  # trainings at a time on a GPU; more are hardly faster
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
        Where its cube is not in memory, the labelled pixels' patches are, and others are read when
        they are asked for.

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
        scene, half_width = self.scene, self.settings.patch
        fitted = fit_preprocessing(self.settings, scene.cube, pixels)
        if not scene.is_in_memory:
            return Seen(fitted, labelled_patches(scene, half_width, self.device, fitted))
        rows = slice(0, len(scene.labels))
        return Seen(fitted, scene_patches(scene, rows, half_width, self.device, fitted))

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
            spectra = patches.at(patches.positions(pixels))
            pretrain(model, spectra, self.settings, task.seed, task.title, task.directory)
        training = Training(
            model,
            Data(patches, self.scene.labels.ravel(), task.split),
            self.settings,
            task.seed,
            self._checkpoint(task),
            self.recipe,
        )
        done = tuple(training.progress.history)
        training.on_epoch = bars.enter_context(
            epoch_progress(task.title, self.settings, self.recipe, done)
        )
        return training

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
        used, classes = (training.model, training.patches), self.scene.classes

        def found(patches: Patches, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return classify(training.model, patches, pixels)

        def probable(patches: Patches, pixels: np.ndarray) -> np.ndarray:
            return probabilities(training.model, patches, classes, pixels)

        pretraining = read_pretraining_seconds(task.directory)
        return Trained(
            self._of_any_pixels(found, training.patches, preprocessing),
            len(progress.history),
            pretraining + sum(epoch.seconds for epoch in progress.history),
            probabilities=self._of_any_pixels(probable, training.patches, preprocessing),
            inspect=functools.partial(weights_per_class, *used, classes),
            history=tuple(progress.history),
            weights=weights,
        )

    def _of_any_pixels(
        self,
        function: Callable[[Patches, np.ndarray], T],
        patches: Patches,
        preprocessing: Preprocessing,
    ) -> Callable[[np.ndarray], T]:
        """Let a function of patches and flat indices take any pixels of the scene."""
        if self.scene.is_in_memory:
            return functools.partial(function, patches)
        return in_any_rows(function, self.scene, patches, preprocessing)

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
