"""The networks as classifiers: built, trained, kept as weights, used."""

import dataclasses
import functools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.attention import weights_per_class
from common.checkpoint import Checkpoint
from common.classifier import Trained
from common.device import PRECISIONS, choose_device, choose_precision, make_deterministic
from common.errors import InputError
from common.fused import compile_kernels, use_fast_form
from common.patches import Patches
from common.predict import classify
from common.preprocess import Preprocessing, fit_pca_scaling
from common.progress import epoch_progress
from common.recipe import RECIPES
from common.report import describe_environment
from common.results import write_history
from common.scene import Scene, check_for_unstated_nodata, has_data, valid_pixels
from common.settings import Settings
from common.split import Split
from common.train import DivergenceError, Epoch, train
from common.weights import Weights, save_weights

TRAINING_FLAGS = ("epoch", "optimizer", "batch_size", "lr", "lr_decay", "recipe", "patch")


class NetworkClassifier:
    """A network class on a scene; see `common.classifier.Classifier`.

    Parameters
    ----------
    network : class of torch.nn.Module
        ``network(bands, classes, **settings.network_arguments())`` builds it.
    settings : Settings
    scene : Scene
        With its cube in memory.

    Raises
    ------
    InputError
        No such device, or patches too wide for the scene.
    """

    def __init__(self, network: type[nn.Module], settings: Settings, scene: Scene) -> None:
        device = choose_device(settings.device)
        rows, _, bands = scene.cube.shape
        check_patch(settings.patch, scene)
        make_deterministic()
        self.settings, self.scene = settings, scene
        self.preprocessing = fit_pca_scaling(scene.cube, has_data(scene.cube, scene.nodata))
        self.patches = scene_patches(
            scene, slice(0, rows), settings.patch, device, self.preprocessing
        )
        self.environment = network_environment(settings, device)
        self.arguments = {"bands": bands, "classes": scene.classes} | settings.network_arguments()
        self.network = network

    def fit(self, split: Split, seed: int, directory: Path, title: str) -> Trained:
        """Train with the settings; write ``history.csv`` and ``weights.pt``.

        Raises
        ------
        DivergenceError
            The files then hold the best epoch until it did, if there was one.
        """
        start = time.perf_counter()
        torch.manual_seed(seed)
        model = build(self.network, self.arguments, self.environment["precision"], self.patches)
        labels, checkpoint = self.scene.labels.ravel(), self._checkpoint(split, seed, directory)
        try:
            with epoch_progress(title, self.settings) as show:
                history = train(
                    model, self.patches, labels, split, self.settings, seed, show, checkpoint
                )
        except DivergenceError as divergence:
            progress = divergence.progress
            if progress.best_weights is not None:
                model.load_state_dict(progress.best_weights)
                self._keep(directory, model, progress.history, seed, split)
            raise
        seconds = time.perf_counter() - start
        self._keep(directory, model, history, seed, split)
        return Trained(
            functools.partial(classify, model, self.patches),
            len(history),
            seconds,
            functools.partial(weights_per_class, model, self.patches, self.scene.classes),
        )

    def _checkpoint(self, split: Split, seed: int, directory: Path) -> Checkpoint:
        """Return where this training is kept, and is read from if it was interrupted."""
        flags = {name: getattr(self.settings, name) for name in TRAINING_FLAGS}
        flags["recipe"] = dataclasses.asdict(RECIPES[self.settings.recipe])
        identity = [flags, self.arguments, seed, split.sha256(), self.environment["precision"]]
        return Checkpoint(directory, json.dumps(identity))

    def _keep(
        self, directory: Path, model: nn.Module, history: list[Epoch], seed: int, split: Split
    ) -> None:
        """Write what training gave."""
        write_history(directory, history)
        save_weights(directory / "weights.pt", self._weights(model, seed, split))

    def _weights(self, model: nn.Module, seed: int, split: Split) -> Weights:
        """Bundle a trained network with all that is needed to use it."""
        scene = self.scene
        return Weights(
            model=self.settings.model,
            network=self.arguments,
            settings=dataclasses.asdict(self.settings),
            seed=seed,
            class_names=list(scene.class_names),
            colours=list(scene.colours),
            wavelengths=list(scene.wavelengths or ()),
            scene_name=scene.name,
            scene_shape=list(scene.cube.shape),
            labels_sha256=scene.labels_sha256(),
            split=split,
            preprocessing=self.preprocessing,
            state=model.state_dict(),
        )


def network_environment(settings: Settings, device: torch.device) -> dict:
    """Versions, machine, commit and the precision of the convolutions."""
    environment = describe_environment(device)
    return environment | {"precision": choose_precision(settings.precision, device)}


def check_patch(half_width: int, scene: Scene) -> None:
    """Raise InputError where every patch would hold the whole scene with zeros all around."""
    rows, cols = scene.labels.shape
    widest = max(rows, cols) - 1
    if half_width > widest:
        cure = f"use -p {widest} or less" if widest > 1 else "the scene is too small"
        raise InputError(
            f"-p {half_width}: patches wider than the scene, {rows}×{cols} pixels, on all sides of "
            f"every pixel; {cure}"
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
        check_finite(spectra, scene)
        return spectra

    cube = scene.read_rows(rows.start, rows.stop)
    if scene.nodata_unstated:
        check_for_unstated_nodata(scene.key, cube, rows.start)
    valid_pixels(cube, scene.nodata, scene.source, rows.start)
    return Patches.of_cube(cube, half_width, device, preprocess)


def build(network: type[nn.Module], arguments: dict, precision: str, patches: Patches) -> nn.Module:
    """Make the network with initial weights, in its fast form where the patches are."""
    device = patches.spectra.device
    model = use_fast_form(network(**arguments), device, PRECISIONS[precision])
    if device.type == "cpu":
        compile_kernels(model, patches.gather(torch.arange(2)))
    return model
