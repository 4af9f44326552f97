"""What a run needs of a classifier, be it a network or not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from common.split import Split

# Flat pixel indices in; labels 1..C (int64) and confidence 0..1 (float32, or None) of each out.
Classify = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


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
        Wall time of training, validation included.
    inspect : callable
        Given flat pixel indices and their labels, returns arrays by name that tell how the
        classifier came to its results, for ``attention.npz``.
    """

    classify: Classify
    epochs: int
    seconds: float
    inspect: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]] = field(
        default=lambda pixels, labels: {}
    )


class Classifier(Protocol):
    """A classifier of one scene, made by calling its class with (settings, scene)."""

    environment: dict  # what `describe_environment` gave, and the precision

    def fit(self, split: Split, seed: int, directory: Path, title: str) -> Trained:
        """Train on a split, and leave what is worth keeping in the iteration's directory."""
