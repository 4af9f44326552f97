"""From Python: a model that is trained, or loaded, to be used in memory."""

import contextlib
import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from common.reporting.pictures import false_colour
from common.reporting.read_results import IterationFiles, Outcome
from common.reporting.report import build_report, report_json
from common.run.experiment import check_labelled, classify_asked
from common.run.keywords import class_of, classifier_of, of_scene, settings_of_keywords
from common.run.map_scene import environment_of, model_of, read_use
from common.samples.make_splits import make_splits
from common.samples.preprocess import check_components
from common.samples.random_split import Split
from common.scenes.array_scene import scene_of_arrays
from common.scenes.bands import Bands
from common.scenes.nodata import has_data
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.device import choose_device, peak_memory_mb
from common.system.errors import InputError
from common.system.memory import keep_freed_memory, told_if_memory_is_short
from common.training.attention_maps import weights_per_class
from common.training.classifier import Cost, Task, Trained
from common.training.cost import network_cost
from common.training.history import Epoch
from common.training.network_input import check_finite, scene_patches
from common.training.predict import classify, probabilities
from common.training.trained_network import network_class
from common.training.weights_file import Weights, load_weights, save_weights

OF_LOADED = ("map", "probabilities", "device", "precision")  # what a trained network leaves open


@dataclass(frozen=True)
class Model:
    """A trained classifier on a scene, in memory; what `train` and `load` return.

    Attributes
    ----------
    scene : Scene
    settings : Settings
    split : Split
        The pixels that it was trained, validated and is tested on.
    trained : Trained
        What it computes with.
    environment : dict
        Versions, machine and precision.
    cost : Cost
    facts : dict
        Further keys of its report.
    """

    scene: Scene
    settings: Settings
    split: Split
    trained: Trained
    environment: dict
    cost: Cost
    facts: dict

    def classify(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Classify pixels of the scene, given as flat indices (row * cols + col), int (n,).

        Returns
        -------
        labels : int64 array (n,)
            1..C; the class of label k is ``scene.class_names[k - 1]``.
        confidence : float32 array (n,) or None
            The largest of the softmax over classes, 0..1; None of an SVM.
        """
        with told_if_memory_is_short():
            labels, confidence = self.trained.classify(np.asarray(pixels, np.int64))
        if confidence is not None:
            check_finite(confidence, self.scene)
        return labels, confidence

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Softmax over the C classes of flat pixel indices (n,): float32 array (n, C).

        Raises
        ------
        InputError
            It is no network, and knows none.
        """
        if self.trained.probabilities is None:
            raise InputError(f"{self.settings.model} knows no probabilities; a network does")
        with told_if_memory_is_short():
            return self.trained.probabilities(np.asarray(pixels, np.int64))

    def map(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Classify every pixel of the scene that holds data, as ``--map all`` does.

        Returns
        -------
        labels : int64 array (rows, cols)
            1..C; 0 where there is no data.
        confidence : float32 array (rows, cols) or None
            NaN where there is no data; None of an SVM.
        """
        scene = self.scene
        asked = has_data(scene.read_rows(0, len(scene.labels)), scene.nodata)
        labels = np.zeros(asked.shape, np.int64)
        labels[asked], found = self.classify(np.flatnonzero(asked))
        if found is None:
            return labels, None
        confidence = np.full(asked.shape, np.nan, np.float32)
        confidence[asked] = found
        return labels, confidence

    def test(self) -> Outcome:
        """Classify the test pixels, and those that the setting `map` asks for; score and keep all.

        Returns
        -------
        Outcome
            What `common.read_outcome` reads of a results directory: `report` with OA, AA, kappa
            and the confusion matrix, and the maps, curves and attention that `draw_figures` draws.
        """
        with told_if_memory_is_short():
            drawn = _MapInMemory()
            iteration, attention = classify_asked(
                self.scene, self.trained, self.split, self.settings, drawn.open
            )
        labels, confidence, probabilities = drawn.arrays()
        peak = peak_memory_mb(self.environment["device"])
        iteration = dataclasses.replace(iteration, peak_memory_mb=peak)
        report = build_report(self.settings, self.scene, [iteration], self.environment, self.cost)
        report |= self.facts
        if "trained_with" in report:  # then it also says what became of unlabelled pixels
            mapped = iteration.predicted if labels is None else labels
            counts = np.bincount(mapped.ravel(), minlength=1 + self.scene.classes)
            report["mapped_per_class"] = counts[1:].tolist()
        report = json.loads(report_json(report))  # as a file has it
        scene, values, split = self.scene, self.scene.values_in_maps, self.split
        labelled = scene.labels.any()
        files = IterationFiles(
            None if labels is None else values[labels],
            split.as_map(scene.labels.shape) if labelled else None,
            confidence,
            probabilities,
            _columns(self.history),
            attention,
        )
        truth = values[scene.labels] if labelled else None
        return Outcome(report, truth, false_colour(scene), [files])

    @property
    def history(self) -> tuple[Epoch, ...]:
        """What each epoch of training gave, as in ``history.csv``; empty of a loaded network."""
        return self.trained.history

    @property
    def weights(self) -> Weights:
        """What ``weights.pt`` holds; raises InputError where it is no network."""
        if self.trained.weights is None:
            raise InputError(f"{self.settings.model} has no weights; a network does")
        return self.trained.weights

    def save(self, file: str | os.PathLike) -> None:
        """Write ``weights.pt``, for `load` and for ``--weights``."""
        save_weights(Path(file), self.weights)


class _MapInMemory:
    """Keeps a map that is written by rows; see `common.reporting.results_folder.map_files`."""

    def __init__(self) -> None:
        self.rows: list[tuple[np.ndarray | None, ...]] = []

    @contextlib.contextmanager
    def open(
        self, *, with_confidence: bool, with_probabilities: bool
    ) -> Iterator[Callable[..., None]]:
        """Yield ``write_rows(start, labels, confidence, probabilities)``."""
        yield lambda start, *arrays: self.rows.append(arrays)

    def arrays(self) -> list[np.ndarray | None]:
        """Labels, confidence and probabilities of all rows; None of what was not written."""
        if not self.rows:
            return [None] * 3
        columns = zip(*self.rows, strict=True)
        return [None if parts[0] is None else np.concatenate(parts) for parts in columns]


def train(
    scene: Scene,
    settings: Settings,
    split: Split | None = None,
    iteration: int = 0,
    network: type | None = None,
) -> Model:
    """Train one iteration; a line on stderr says how it goes.  Nothing is written.

    PyTorch is set to its deterministic kernels, for the whole process.

    Parameters
    ----------
    split : Split, optional
        In place of the one that the settings ask for.
    iteration : int
        Counted from 0: split, initial weights and order of the pixels come from ``settings.seed``
        + `iteration`.
    network : class, optional
        Where the network is not one of this repository.

    Raises
    ------
    InputError
        What the command line refuses, in the same words; `DivergenceError`, which is one, where
        the loss is no number any more.
    """
    if iteration not in range(settings.iter):
        raise InputError(f"iteration {iteration}: 'iter' is {settings.iter}, counted from 0")
    if settings.dataset != scene.dataset:
        raise InputError(
            f"{scene.dataset}: the settings are made for the scene {settings.dataset}; make them "
            f"for this one"
        )
    check_labelled(scene)
    seed = settings.seed + iteration
    if split is None:
        [split] = make_splits(scene, dataclasses.replace(settings, seed=seed, iter=1))
    else:
        _check_split(split, scene)
    check_components(settings, scene.cube.shape[2], [split])
    keep_freed_memory()
    title = f"iteration {iteration + 1}/{settings.iter}"
    with told_if_memory_is_short(), tempfile.TemporaryDirectory() as folder:
        classifier = classifier_of(network or class_of(settings.model), settings, scene)
        [trained] = classifier.fit([Task(split, seed, Path(folder), title)])
    about = classifier.environment, classifier.cost, classifier.facts
    return Model(scene, settings, split, trained, *about)


def load(
    file: str | os.PathLike,
    scene: Scene | np.ndarray,
    network: type[nn.Module] | None = None,
    **flags,
) -> Model:
    """Load a trained network to use it on a scene, as ``--weights`` does.

    On the scene it was trained on, its own test pixels test it; on any other scene with ground
    truth all labelled pixels do.

    Parameters
    ----------
    file : path
        ``weights.pt`` of a run, or what `Model.save` has written.
    scene : Scene, or real array (rows, cols, bands)
        Raw spectra, in the units that it was trained on.
    network : class, optional
        Where the network is not one of this repository.
    **flags
        ``map``, ``probabilities``, ``device`` and ``precision``, as in `make_settings`.

    Raises
    ------
    InputError
        The file cannot be used, or the scene is of another kind than the network was trained on.
    """
    weights = load_weights(Path(file))
    network = network or network_class(weights.model)
    if wrong := [name for name in flags if name not in OF_LOADED]:
        raise InputError(
            f"{wrong[0]}: no setting of a trained network, which has {', '.join(OF_LOADED)}"
        )
    if isinstance(scene, np.ndarray):
        bands = Bands(tuple(weights.bands), weights.file_bands)
        scene = scene_of_arrays({"name": "array"}, scene, to_train=False, trained=bands)
    keep_freed_memory()
    settings = settings_of_keywords(network, flags | of_scene(scene) | {"weights": os.fspath(file)})
    weights, settings, scene, split = use = read_use(network, settings, scene)
    with told_if_memory_is_short():
        model, device = model_of(network, use), choose_device(settings.device)
        rows = slice(0, len(scene.labels))
        patches = scene_patches(scene, rows, settings.patch, device, weights.preprocessing)
    trained = Trained(
        functools.partial(classify, model, patches),
        epochs=0,
        seconds=0.0,
        probabilities=functools.partial(probabilities, model, patches, scene.classes),
        inspect=functools.partial(weights_per_class, model, patches, scene.classes),
        weights=weights,
    )
    cost = network_cost(network, weights.network, settings.patch)
    facts = {"trained_with": weights.settings | {"seed": weights.seed}}
    return Model(scene, settings, split, trained, environment_of(use), cost, facts)


def _check_split(split: Split, scene: Scene) -> None:
    """Raise InputError unless the split's sets are labelled pixels, and each pixel is in one."""
    for part, pixels in vars(split).items():
        if not (isinstance(pixels, np.ndarray) and (pixels.dtype, pixels.ndim) == (np.int64, 1)):
            raise InputError(f"split: '{part}' is no int64 array of flat pixel indices")
        if not len(pixels):
            raise InputError(f"split: '{part}' is empty")
        inside = (pixels >= 0) & (pixels < scene.labels.size)
        if not (inside.all() and (scene.labels.flat[pixels] > 0).all()):
            raise InputError(f"split: '{part}' holds pixels that have no label")
    everything = np.concatenate(list(vars(split).values()))
    if len(np.unique(everything)) < len(everything):
        raise InputError("split: a pixel is in it twice")


def _columns(history: tuple[Epoch, ...]) -> dict[str, np.ndarray]:
    """The columns of ``history.csv``; none without epochs."""
    if not history:
        return {}
    names = [field.name for field in dataclasses.fields(Epoch)]
    return {name: np.array([getattr(e, name) for e in history], np.float64) for name in names}
