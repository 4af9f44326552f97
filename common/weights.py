"""Trained networks as files: the weights with all that is needed to use them."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.errors import InputError
from common.files import write_file
from common.preprocess import Preprocessing


@dataclass(frozen=True)
class Weights:
    """What ``weights.pt`` holds.

    Attributes
    ----------
    model : str
        The network's class name.
    network : dict
        Arguments of its constructor: bands, classes, kernels, attention.
    settings : dict
        All flags of the run that trained it.
    seed : int
        Seed of its iteration.
    class_names : list of str
    train_sha256 : str
        Checksum of the training pixels, to recognise the split.
    preprocessing : Preprocessing
    state : dict of str to tensor
        The network's ``state_dict()``.
    """

    model: str
    network: dict
    settings: dict
    seed: int
    class_names: list[str]
    train_sha256: str
    preprocessing: Preprocessing
    state: dict[str, torch.Tensor]


def save_weights(path: Path, weights: Weights) -> None:
    """Write tensors and plain values only: ``torch.load(path, weights_only=True)`` opens them."""
    content = vars(weights) | {
        "preprocessing": {
            name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in vars(weights.preprocessing).items()
        },
        "state": {name: tensor.cpu() for name, tensor in weights.state.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def load_weights(path: Path, model: str | None = None) -> Weights:
    """Read weights of the network class `model`, or of any; no code in the file can run.

    Raises
    ------
    InputError
        No such file, not a weights file, or weights of another network.
    """
    name = f"--weights {path}" if model else str(path)  # the training scripts' flag
    if not path.is_file():
        raise InputError(f"{name}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        arrays = {name: tensor.numpy() for name, tensor in content.pop("preprocessing").items()}
        weights = Weights(**content, preprocessing=Preprocessing(**arrays))
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise InputError(f"{name}: not a weights file of this project") from error
    if model and weights.model != model:
        raise InputError(f"{name}: weights of {weights.model}, but this is {model}")
    return weights
