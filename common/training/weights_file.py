"""Trained networks as files: the weights with all that is needed to use them."""

import io
import itertools
import math
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from common.samples.preprocess import Preprocessing
from common.samples.random_split import Split
from common.scenes.scene import Scene
from common.system.errors import InputError
from common.system.files import check_is_file, write_file

# What a pickle of tensors and plain values calls; PyTorch itself also allows, for one, a
# bytearray of any length.
CALLED = re.compile(r"torch\._utils _rebuild_tensor_v2|collections OrderedDict|torch \w+Storage")
MOST_BANDS = 1 << 24
SAME_BAND_NM = 5.0
USED_SETTINGS = {"patch", "kernel", "attention", "valid_split", "split", "per_class", "dataset"}


@dataclass(frozen=True)
class Weights:
    """What ``weights.pt`` holds.

    Attributes
    ----------
    model : str
        The network's class name.
    network : dict
        Arguments of its constructor: bands (those that the preprocessing leaves), classes,
        kernels, attention.
    settings : dict
        All flags of the run that trained it.
    seed : int
        Seed of its iteration.
    class_names, colours : list of str
    bands, file_bands : list of int, int
        Which bands of the scene's file these are, 0-based and ascending, and how many it has.
    wavelengths : list of float
        Centres of these bands in nm; empty where they are not known.
    scene_name, scene_shape : str, list of int
        The scene's name and (rows, cols, bands), to recognise it with other labels.
    labels_sha256 : str
        Checksum of the ground truth, to recognise the scene.
    split : Split
        Which of its pixels the network was trained, validated and tested on.
    preprocessing : Preprocessing
    state : dict of str to tensor
        The network's ``state_dict()``.
    labels : list of int
        The ground truth file's own label of each class, ascending; 1..C where left out.
    """

    model: str
    network: dict
    settings: dict
    seed: int
    class_names: list[str]
    colours: list[str]
    bands: list[int]
    file_bands: int
    wavelengths: list[float]
    scene_name: str
    scene_shape: list[int]
    labels_sha256: str
    split: Split
    preprocessing: Preprocessing
    state: dict[str, torch.Tensor]
    labels: list[int] | None = None

    def __post_init__(self) -> None:
        if self.labels is None:
            object.__setattr__(self, "labels", _usual_labels(self.network["classes"]))


def save_weights(path: Path, weights: Weights) -> None:
    """Write tensors and plain values only: ``torch.load(path, weights_only=True)`` opens them."""
    content = vars(weights) | {
        "preprocessing": _tensors(weights.preprocessing),
        "split": _tensors(weights.split),
        "state": {name: tensor.cpu() for name, tensor in weights.state.items()},
    }
    if weights.labels == _usual_labels(weights.network["classes"]):
        del content["labels"]
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def _usual_labels(classes: int) -> list[int]:
    """Return the labels that a file of weights need not hold."""
    return list(range(1, classes + 1))


def _tensors(arrays: Preprocessing | Split) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in vars(arrays).items()}


def load_weights(path: Path, model: str | None = None, flag: str = "--weights") -> Weights:
    """Read weights of the network class `model`, or of any; no code in the file can run.

    Reading takes about twice the file's size of memory, whatever the file says.  `flag` is the
    training scripts' that names the file, for messages.

    Raises
    ------
    InputError
        No such file, not a weights file or a damaged one, or weights of another network.
    """
    name = f"{flag} {path}" if model else str(path)
    check_is_file(path, name)
    try:
        content = plain_content(path)
        content.setdefault("labels", None)
        _check_version(content, name)
        for part, of_arrays in (("preprocessing", Preprocessing), ("split", Split)):
            arrays = {key: tensor.numpy() for key, tensor in content[part].items()}
            content[part] = of_arrays(**arrays)
        weights = Weights(**content)
        wrong = next((part for part, fits in _checks(weights) if not fits), None)
    except InputError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise InputError(f"{name}: not a weights file of this project") from error
    if wrong:
        raise InputError(f"{name}: not a weights file of this project: '{wrong}' is damaged")
    if model and weights.model != model:
        raise InputError(f"{name}: weights of {weights.model}, but this is {model}")
    return weights


def check_state(network: type[nn.Module], weights: Weights, name: str) -> None:
    """Raise InputError unless tensors and patches are `network`'s, before it takes any memory."""
    try:
        with torch.device("meta"):
            expected = network(**weights.network).state_dict()
        fits = shapes(expected) == shapes(weights.state)
        fits &= weights.settings["patch"] >= getattr(network, "least_half_width", 2)
    except Exception as error:  # the network's own, on arguments that it does not take
        raise InputError(f"{name}: does not fit the network {weights.model}") from error
    if not fits:
        raise InputError(f"{name}: does not fit the network {weights.model}")


def check_wavelengths(weights: Weights, scene: Scene, name: str) -> bool:
    """Raise InputError where band centres are farther apart than `SAME_BAND_NM`.

    The scene has as many bands as the weights.  Returns whether both state where their bands are.
    """
    if not (weights.wavelengths and scene.wavelengths):
        return False
    apart = np.abs(np.subtract(weights.wavelengths, scene.wavelengths))
    if apart.max() > SAME_BAND_NM:
        raise InputError(
            f"{name}: band {weights.bands[apart.argmax()]} was at "
            f"{weights.wavelengths[apart.argmax()]:g} nm in training, but is at "
            f"{scene.wavelengths[apart.argmax()]:g} nm in {scene.title}; resample the scene"
        )
    return True


def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Shape of every tensor of a ``state_dict()``, by name."""
    return {name: tensor.shape for name, tensor in state.items()}


def plain_content(path: Path) -> object:
    """Unpickle a PyTorch file that is uncompressed and holds but tensors and plain values.

    It runs no code, and takes about twice the file's size of memory.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("holds more than it has bytes")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                check_pickle(archive.read(entry))
    return torch.load(path, map_location="cpu", weights_only=True)


def check_pickle(pickled: bytes | BinaryIO) -> None:
    """Raise ValueError where a pickle calls what one of tensors and plain values does not."""
    for operation, argument, _ in pickletools.genops(pickled):
        called = argument if operation.name == "GLOBAL" else "torch FloatStorage"
        if operation.name in ("STACK_GLOBAL", "INST") or not CALLED.fullmatch(called):
            raise ValueError(f"calls {called}")


def _check_version(content: dict, name: str) -> None:
    """Raise InputError where it is a weights file, but of another version of this project."""
    expected = {field.name for field in fields(Weights)}
    differing = sorted(expected ^ content.keys())
    if differing and {"model", "state"} <= content.keys():
        raise InputError(
            f"{name}: written by another version of this project ('{differing[0]}' is "
            f"{'missing' if differing[0] in expected else 'unknown'}); train with this one"
        )


def _checks(weights: Weights) -> Iterator[tuple[str, bool]]:
    """Yield each part's name, and whether it holds what `Weights` says: all else relies on it."""
    bands, classes = weights.network["bands"], weights.network["classes"]
    yield "network", all(map(_plain, weights.network.values())) and _counts([bands, classes])
    settings = weights.settings
    yield "settings", settings.keys() >= USED_SETTINGS and all(map(_plain, settings.values()))
    yield "settings", _counts([settings["patch"]]) and 2 <= settings["patch"] <= 10**6
    yield "model", _text(weights.model) and weights.model.isidentifier()
    yield "seed", _counts([weights.seed + 1]) and weights.seed < 2**32
    names, colours = weights.class_names, weights.colours
    yield "class_names", all(map(_text, names)) and len(names) == classes
    colour = re.compile("#[0-9a-f]{6}", re.ASCII)
    yield "colours", all(map(colour.fullmatch, colours)) and len(colours) == classes
    used = weights.bands
    yield "bands", len(used) >= bands and _counts([band + 1 for band in used]) and used[0] >= 0
    yield "bands", all(a < b for a, b in itertools.pairwise([*used, weights.file_bands]))
    yield "file_bands", _counts([weights.file_bands]) and weights.file_bands <= MOST_BANDS
    labels = weights.labels
    yield "labels", all(type(label) is int and 0 <= label < 2**32 for label in labels)
    yield "labels", len(labels) == classes and labels == sorted(set(labels))
    yield "wavelengths", all(isinstance(w, float) and math.isfinite(w) for w in weights.wavelengths)
    yield "wavelengths", len(weights.wavelengths) in (0, len(used))
    yield "scene_name", _text(weights.scene_name) and _text(weights.labels_sha256)
    yield "scene_shape", _counts(weights.scene_shape) and len(weights.scene_shape) == 3
    pixels = math.prod(weights.scene_shape[:2])
    for part in vars(weights.split).values():
        yield "split", part.dtype == np.int64 and part.ndim == 1
        yield "split", not part.size or (part.min() >= 0 and part.max() < pixels)
    fitted = weights.preprocessing
    yield "preprocessing", fitted.mean.dtype == fitted.matrix.dtype == np.float64
    shapes = (len(used),), (len(used), bands)
    yield "preprocessing", (fitted.mean.shape, fitted.matrix.shape) == shapes
    yield "preprocessing", bool(np.isfinite(fitted.mean).all() and np.isfinite(fitted.matrix).all())
    for name, tensor in weights.state.items():
        stored = tensor.untyped_storage().nbytes()
        yield "state", isinstance(name, str) and tensor.numel() * tensor.itemsize <= stored
        yield "state", bool(tensor.isfinite().all())


def _counts(values: list) -> bool:
    return all(type(value) is int and 0 < value < 2**63 for value in values)


def _text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _plain(value: object) -> bool:
    """Whether it is one value, or the two names of a fixed split."""
    if type(value) in (list, tuple):
        return len(value) == 2 and all(map(_text, value))
    is_number = isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    return value is None or type(value) is bool or _text(value) or is_number
