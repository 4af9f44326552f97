"""Reading trained weights of SSRN that others released: which form they are, and every tensor.

A form is recognised by the names and shapes in the file, never by the file's name.  Reading runs
no code, and takes a few times the file's size of memory, whatever the file says.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from common.system.errors import damage_in_one_line
from common.system.files import check_is_file
from common.training.weights_file import check_pickle, plain_content
from SSRN.SSRN import SSRN
from SSRN.SSRNKeras import SSRNKeras
from SSRN.SSRNLeaky import SSRNLeaky

LARGEST_FILE = 1 << 25  # bytes, of the file and of its arrays; the released ones have 2.9 million
PYTORCH_STARTS = (b"PK", b"\x80")  # a zip archive, or pickles as before PyTorch 1.6
ENTRIES = 1000  # of a file, at most
LEGACY_PICKLES = 5  # of which a file of PyTorch before 1.6 consists, and the tensors' bytes


@dataclass(frozen=True)
class Released:
    """What a checkpoint holds.

    Attributes
    ----------
    network : class of torch.nn.Module
        The form: `SSRNKeras`, `SSRNLeaky`, or `SSRN` for the comparison's.
    length : int
        Bands after the spectral stem, ``spectral_length(bands)`` of the scene it was made for.
    classes, kernels : int
    state : dict of str to tensor
        The network's ``state_dict()``.
    """

    network: type[nn.Module]
    length: int
    classes: int
    kernels: int
    state: dict[str, Tensor]


def read_released(path: Path) -> Released:
    """Read a checkpoint in Keras's HDF5 or PyTorch's format, old or new.

    Raises
    ------
    InputError
        No such file, a damaged one, or one of another network.
    """
    check_is_file(path, largest=LARGEST_FILE)
    with damage_in_one_line(path, "checkpoint of SSRN"):
        if h5py.is_hdf5(path):
            network, state = SSRNKeras, _keras_state(path)
        elif not _start(path).startswith(PYTORCH_STARTS):
            raise ValueError("neither an HDF5 file nor one of PyTorch")
        else:
            network, state = _recognised(_tensors(path))
        return _checked(network, state)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


# Keras: what the layers of one kind are here, in the order of their numbers.
KERAS_LAYERS = {
    "conv3d": (
        "spectral_stem.conv",
        "spectral_block.conv1",
        "spectral_block.conv2",
        "spectral_collapse.conv",
        "spatial_stem.conv",
        "spatial_block.conv1",
        "spatial_block.conv2",
        "spatial_block.shortcut",
    ),
    "batch_normalization": (
        "spectral_stem.bn",
        "spectral_block.bn",
        "spectral_bn_1",
        "spectral_bn_2",
        "spectral_collapse.bn",
        "spatial_stem.bn",
        "spatial_block.bn",
        "spatial_bn_1",
        "spatial_bn_2",
    ),
    "dense": ("classifier",),
}
KERAS_LEAVES = {
    "kernel:0": "weight",
    "bias:0": "bias",
    "gamma:0": "weight",
    "beta:0": "bias",
    "moving_mean:0": "running_mean",
    "moving_variance:0": "running_var",
}


def _keras_state(path: Path) -> dict[str, Tensor]:
    """Read a Keras model's arrays, with the axes that PyTorch has."""
    found = {}
    with h5py.File(path, "r") as file:
        layers = _group(file, "model_weights") if "model_weights" in file else file
        names = [name for name in layers if name.rpartition("_")[0] in KERAS_LAYERS]
        if len(layers) > ENTRIES or not names:
            raise ValueError("no layers of Keras")
        for kind, ours in KERAS_LAYERS.items():
            numbered = [name for name in names if re.fullmatch(rf"{kind}_[0-9]{{1,9}}", name)]
            numbered.sort(key=lambda name: int(name.rpartition("_")[2]))
            if len(numbered) != len(ours):
                raise ValueError(f"{len(numbered)} layers {kind}, not {len(ours)}")
            for name, here in zip(numbered, ours, strict=True):
                arrays = _group(_group(layers, name), name)
                for leaf in arrays:
                    found[f"{here}.{KERAS_LEAVES[leaf]}"] = _array(arrays, leaf)
        if sum(array.nbytes for array in found.values()) > LARGEST_FILE:
            raise ValueError("its arrays are too large")
        return {name: _keras_tensor(array) for name, array in found.items()}


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group of this very file."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"no group {name}")
    if not isinstance(parent[name], h5py.Group):
        raise ValueError(f"{name} is no group")
    return parent[name]


def _array(arrays: h5py.Group, name: str) -> h5py.Dataset:
    """Return an array of numbers that this very file holds."""
    if not isinstance(arrays.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is in another file")
    item = arrays[name]
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise ValueError(f"{name} is in another file")
    if item.dtype.kind != "f" or not 1 <= item.ndim <= 5:
        raise ValueError(f"{name} is no array of weights")
    return item


def _keras_tensor(array: h5py.Dataset) -> Tensor:
    """Read an array; kernels are (rows, cols, bands, in, out) or (in, out) there."""
    tensor = torch.from_numpy(array[()].astype(np.float32))
    axes = {5: (4, 3, 0, 1, 2), 2: (1, 0)}.get(array.ndim)
    return tensor.permute(axes) if axes else tensor


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read a PyTorch file that holds a dictionary of tensors."""
    data = path.read_bytes()
    if data[:4] == b"PK\x03\x04":
        content = plain_content(path)
    else:
        stream = io.BytesIO(data)
        for _ in range(LEGACY_PICKLES):
            check_pickle(stream)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or len(content) > ENTRIES:
        raise ValueError("no dictionary of tensors")
    for name, tensor in content.items():
        whole = isinstance(name, str) and isinstance(tensor, Tensor)
        if not whole or tensor.numel() * tensor.itemsize > len(data):
            raise ValueError("no dictionary of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _bands_last(weight: Tensor) -> Tensor:
    """From (out, in, bands, rows, cols), or without bands, to (out, in, rows, cols, bands)."""
    return weight.movedim(2, 4) if weight.ndim == 5 else weight.unsqueeze(4)


def _bands_of_all_kernels(weight: Tensor) -> Tensor:
    """From (out, in, bands, rows, cols) to (out, 1, rows, cols, in bands)."""
    return weight.permute(0, 3, 4, 1, 2).flatten(3).unsqueeze(1)


def _same(weight: Tensor) -> Tensor:
    return weight


Layout = dict[str, tuple[str, Callable[[Tensor], Tensor]]]  # their layer → ours, and its weight


def _sstn() -> Layout:
    """The names of the authors' later PyTorch code."""
    layers: Layout = {
        "layer1.s1": ("spectral_stem", _bands_last),
        "layer4.s1": ("spatial_stem.conv", _bands_of_all_kernels),
        "bn4": ("spatial_stem.bn", _same),
        "fc": ("classifier", _same),
    }
    blocks = {"layer2": "spectral_block_1", "layer3": "spectral_block_2"}
    blocks |= {"layer5": "spatial_block_1", "layer6": "spatial_block_2"}
    for theirs, ours in blocks.items():
        part = "spc" if ours.startswith("spectral") else "spa"
        layers[f"{theirs}.{part}1.0"] = f"{ours}.first.conv", _bands_last
        layers[f"{theirs}.{part}1.2"] = f"{ours}.first.bn", _same
        layers[f"{theirs}.{part}2.0"] = f"{ours}.second.conv", _bands_last
        layers[f"{theirs}.bn2"] = f"{ours}.second.bn", _same
    return layers


def _comparison() -> Layout:
    """The names of the code that the comparison in the A2S2K-ResNet paper ran."""
    names = {"full_connection.0": "classifier"}
    stages = ("spectral_stem", "spectral_collapse", "spatial_stem")
    for number, stage in enumerate(stages, start=1):
        names |= {f"conv{number}": f"{stage}.conv", f"batch_norm{number}.0": f"{stage}.bn"}
    blocks = ("spectral_block_1", "spectral_block_2", "spatial_block_1", "spatial_block_2")
    for number, block in enumerate(blocks, start=1):
        names[f"res_net{number}.conv1.0"] = f"{block}.conv1"
        names |= {f"res_net{number}.{part}": f"{block}.{part}" for part in ("conv2", "bn1", "bn2")}
    return {theirs: (ours, _same) for theirs, ours in names.items()}


def _recognised(tensors: dict[str, Tensor]) -> tuple[type[nn.Module], dict[str, Tensor]]:
    """Return the form that has layers of these names, and its state under the names here."""
    found = {name.rpartition(".")[0] for name in tensors}
    for network, layout in ((SSRNLeaky, _sstn()), (SSRN, _comparison())):
        if found == layout.keys():
            state = {}
            for name, tensor in tensors.items():
                layer, _, leaf = name.rpartition(".")
                ours, convert = layout[layer]
                state[f"{ours}.{leaf}"] = convert(tensor) if leaf == "weight" else tensor
            return network, state
    raise ValueError("its layers are those of no form of SSRN")


def _checked(network: type[nn.Module], state: dict[str, Tensor]) -> Released:
    """Return the checkpoint, if every tensor is there, has its shape and is finite."""
    classes, kernels = state["classifier.weight"].shape
    over_bands = "spatial_stem.conv" if network is SSRNLeaky else "spectral_collapse.conv"
    length = state[f"{over_bands}.weight"].shape[4]
    if network is SSRNLeaky:
        length //= kernels
    with torch.device("meta"):
        expected = network(2 * length + 5, classes, kernels).state_dict()
    for name in expected:
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, torch.tensor(0))
    if missing := sorted(expected.keys() ^ state.keys()):
        raise ValueError(f"{missing[0]} is {'missing' if missing[0] in expected else 'unknown'}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
    if any((tensor < 0).any() for name, tensor in state.items() if name.endswith("running_var")):
        raise ValueError("a variance is negative")
    state = {name: state[name].to(expected[name].dtype).contiguous() for name in expected}
    return Released(network, length, classes, kernels, state)
