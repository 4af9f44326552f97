"""What a run needs of a classifier, be it a network or not."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from common.samples.random_split import Split
from common.training.history import Epoch

if TYPE_CHECKING:  # it loads PyTorch
    from common.training.weights_file import Weights

# Flat pixel indices in; labels 1..C (int64) and confidence 0..1 (float32, or None) of each out.
Classify = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Cost:
    """What a classifier costs; None where it is no network, or cannot be counted.

    Attributes
    ----------
    parameters : int
        Learned numbers: weights and biases, of batch norms too, but not their running averages.
    macs_per_pixel : int
        Multiply-adds of convolutions and matrix products to classify one pixel by its patch, as
        papers count them.
    macs_per_pixel_dense : int
        The same where all pixels of a scene are classified and what neighbouring patches share is
        computed once, as `common.training.predict.dense_logits` does; None where nothing is shared.
    """

    parameters: int | None = None
    macs_per_pixel: int | None = None
    macs_per_pixel_dense: int | None = None


@dataclass(frozen=True)
class Trained:
    """A classifier that one iteration trained.

    Attributes
    ----------
    classify : callable
        Classifies any pixels of the scene; see `Classify`.
    epochs : int
        Epochs trained; 0 for a classifier without.
    seconds : float
        Wall time of training, validation included, compilation of kernels not; over all processes
        that an interrupted training took.
    probabilities : callable, optional
        Given flat pixel indices, returns float32 (pixels, C): how probable it thinks each class.
        None of a classifier that knows no probabilities.
    inspect : callable
        Given flat pixel indices and their labels, returns arrays by name that tell how the
        classifier came to its results, for ``attention.npz``.
    history : tuple of Epoch
        Empty of a classifier without epochs.
    weights : Weights, optional
        What ``weights.pt`` holds; None of a classifier that is no network.
    """

    classify: Classify
    epochs: int
    seconds: float
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None
    inspect: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]] = field(
        default=lambda pixels, labels: {}
    )
    history: tuple[Epoch, ...] = ()
    weights: "Weights | None" = None


@dataclass(frozen=True)
class Task:
    """What one iteration is to train: on a split, from a seed.

    Attributes
    ----------
    directory : Path
        Where it leaves what is worth keeping.
    title : str
        What it is called on the terminal, for example "iteration 1/3".
    """

    split: Split
    seed: int
    directory: Path
    title: str


class Classifier(Protocol):
    """A classifier of one scene, made by calling its class with (settings, scene)."""

    environment: dict  # what `describe_environment` gave, and the precision
    facts: dict  # further keys of ``report.json``
    cost: Cost

    def fit(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        """Train for each task, in this order; when the result is asked for, or before."""
