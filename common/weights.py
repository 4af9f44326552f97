"""Trained networks as files: the weights with all that is needed to use them."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.errors import InputError
from common.files import write_file
from common.preprocess import Preprocessing
from common.split import Split


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
    class_names, colours : list of str
    wavelengths : list of float
        Band centres in nm; empty where they are not known.
    scene_name, scene_shape : str, list of int
        The scene's name and (rows, cols, bands), to recognise it with other labels.
    labels_sha256 : str
        Checksum of the ground truth, to recognise the scene.
    split : Split
        Which of its pixels the network was trained, validated and tested on.
    preprocessing : Preprocessing
    state : dict of str to tensor
        The network's ``state_dict()``.
    """

    model: str
    network: dict
    settings: dict
    seed: int
    class_names: list[str]
    colours: list[str]
    wavelengths: list[float]
    scene_name: str
    scene_shape: list[int]
    labels_sha256: str
    split: Split
    preprocessing: Preprocessing
    state: dict[str, torch.Tensor]


def save_weights(path: Path, weights: Weights) -> None:
    """Write tensors and plain values only: ``torch.load(path, weights_only=True)`` opens them."""
    content = vars(weights) | {
        "preprocessing": _tensors(weights.preprocessing),
        "split": _tensors(weights.split),
        "state": {name: tensor.cpu() for name, tensor in weights.state.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def _tensors(arrays: Preprocessing | Split) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in vars(arrays).items()}


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
        for part, of_arrays in (("preprocessing", Preprocessing), ("split", Split)):
            arrays = {key: tensor.numpy() for key, tensor in content[part].items()}
            content[part] = of_arrays(**arrays)
        weights = Weights(**content)
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise InputError(f"{name}: not a weights file of this project") from error
    if model and weights.model != model:
        raise InputError(f"{name}: weights of {weights.model}, but this is {model}")
    return weights
