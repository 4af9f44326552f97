"""Checkpoints as others released them, with random weights, and what their networks compute.

Each network is written down once more from the released code's layers, straight on the arrays of
its file and with that file's axes, to compare with.
"""

from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = 4
Arrays = dict[str, np.ndarray]


def of_keras(bands: int, classes: int, kernels: int = KERNELS) -> Arrays:
    """Arrays by their path in the file."""
    generator, length, arrays = np.random.default_rng(0), (bands - 7) // 2 + 1, {}
    k = kernels
    shapes = [(1, 1, 7, 1, k), (1, 1, 7, k, k), (1, 1, 7, k, k), (1, 1, length, k, 128)]
    shapes += [(3, 3, 128, 1, k), (3, 3, 1, k, k), (3, 3, 1, k, k), (1, 1, 1, k, k)]
    for number, shape in enumerate(shapes, start=1):
        name = f"conv3d_{number}/conv3d_{number}"
        arrays[f"{name}/kernel:0"] = generator.normal(size=shape) / np.prod(shape[:4]) ** 0.5
        arrays[f"{name}/bias:0"] = generator.normal(size=shape[4])
    for number in range(1, 10):
        name = f"batch_normalization_{number}/batch_normalization_{number}"
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
            values = generator.uniform(0.5, 1.5, 128 if number == 5 else k)
            arrays[f"{name}/{leaf}:0"] = values
    arrays["dense_1/dense_1/kernel:0"] = generator.normal(size=(k, classes))
    arrays["dense_1/dense_1/bias:0"] = generator.normal(size=classes)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def write_keras(path: Path, arrays: Arrays, root: str = "model_weights/", **options) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"{root}{name}", data=array, **options)
        file.create_group(f"{root}activation_1")
        file.attrs["keras_version"] = "2.0.6"
    return path


def keras_logits(arrays: Arrays, patches: Tensor) -> Tensor:
    """What Keras computes of patches (batch, rows, cols, bands), in float64."""

    def array(layer: str, number: int, leaf: str) -> Tensor:
        return torch.from_numpy(arrays[f"{layer}_{number}/{layer}_{number}/{leaf}:0"]).double()

    def conv(x: Tensor, number: int, stride: int = 1, padding: tuple = (0, 0, 0)) -> Tensor:
        kernel = array("conv3d", number, "kernel").permute(4, 3, 0, 1, 2)
        bias = array("conv3d", number, "bias")
        return F.conv3d(x, kernel, bias, (1, 1, stride), padding)

    def bn_relu(x: Tensor, number: int) -> Tensor:
        leaves = ("moving_mean", "moving_variance", "gamma", "beta")
        of_bn = (array("batch_normalization", number, leaf) for leaf in leaves)
        return F.relu(F.batch_norm(x, *of_bn, eps=1e-3))

    x = bn_relu(conv(patches.double()[:, None], 1, stride=2), 1)
    same = (0, 0, 3)
    x = x + conv(bn_relu(conv(x, 2, padding=same), 2), 3, padding=same)
    x = bn_relu(bn_relu(x, 3), 4)
    x = bn_relu(conv(x, 4), 5)
    x = x.squeeze(4).movedim(1, 3)[:, None]  # the 128 kernels as a band axis
    x = bn_relu(conv(x, 5), 6)
    same = (1, 1, 0)
    x = conv(x, 8) + conv(bn_relu(conv(x, 6, padding=same), 7), 7, padding=same)
    x = bn_relu(bn_relu(x, 8), 9).mean(dim=(2, 3, 4))
    dense = (torch.from_numpy(arrays[f"dense_1/dense_1/{leaf}:0"]) for leaf in ("kernel", "bias"))
    kernel, bias = (tensor.double() for tensor in dense)
    return x @ kernel + bias


def of_later_code(bands: int, classes: int, kernels: int = KERNELS) -> dict[str, Tensor]:
    """A state dictionary of the author's later PyTorch code."""
    torch.manual_seed(0)
    k, state = kernels, {}

    def norm(name: str) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{leaf}"] = torch.empty(k).uniform_(0.5, 1.5)
        state[f"{name}.num_batches_tracked"] = torch.tensor(40)

    state["layer1.s1.weight"] = torch.randn(k, 1, 7, 1, 1) / 3
    for layer, part, shape in [(2, "spc", (7, 1, 1)), (3, "spc", (7, 1, 1))]:
        state[f"layer{layer}.{part}1.0.weight"] = torch.randn(k, k, *shape) / 5
        norm(f"layer{layer}.{part}1.2")
        state[f"layer{layer}.{part}2.0.weight"] = torch.randn(k, k, *shape) / 5
        norm(f"layer{layer}.bn2")
    state["layer4.s1.weight"] = torch.randn(k, k, (bands - 7) // 2 + 1, 3, 3) / 9
    norm("bn4")
    for layer in (5, 6):
        for conv in ("spa1.0", "spa2.0"):
            state[f"layer{layer}.{conv}.weight"] = torch.randn(k, k, 3, 3) / 6
            state[f"layer{layer}.{conv}.bias"] = torch.randn(k)
        norm(f"layer{layer}.spa1.2")
        norm(f"layer{layer}.bn2")
    state["fc.weight"], state["fc.bias"] = torch.randn(classes, k), torch.randn(classes)
    return state


def later_logits(state: dict[str, Tensor], patches: Tensor) -> Tensor:
    """What the later code computes of patches (batch, bands, rows, cols), in float64."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        leaves = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{leaf}"] for leaf in leaves), eps=1e-5)

    x = F.leaky_relu(
        F.conv3d(patches.double()[:, None], state["layer1.s1.weight"], None, (2, 1, 1))
    )
    for layer in ("layer2", "layer3"):
        out, same = x, (3, 0, 0)
        for conv, after in (("spc1.0", "spc1.2"), ("spc2.0", "bn2")):
            out = F.conv3d(out, state[f"{layer}.{conv}.weight"], padding=same)
            out = norm(F.leaky_relu(out), f"{layer}.{after}")
        x = F.leaky_relu(out + x)
    x = norm(F.leaky_relu(F.conv3d(x, state["layer4.s1.weight"]).squeeze(2)), "bn4")
    for layer in ("layer5", "layer6"):
        out = x
        for conv, after in (("spa1.0", "spa1.2"), ("spa2.0", "bn2")):
            weight, bias = (state[f"{layer}.{conv}.{leaf}"] for leaf in ("weight", "bias"))
            out = norm(F.leaky_relu(F.conv2d(out, weight, bias, padding=1)), f"{layer}.{after}")
        x = F.leaky_relu(out + x)
    return x.mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]


BLOCKS = {"spectral_block_1": 1, "spectral_block_2": 2, "spatial_block_1": 3, "spatial_block_2": 4}
STAGES = {"spectral_stem": 1, "spectral_collapse": 2, "spatial_stem": 3}


def of_comparison(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """This project's SSRN under the names that the comparison's code gives its layers."""
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if first in BLOCKS:
            rest = rest.replace("conv1.", "conv1.0.")
            renamed[f"res_net{BLOCKS[first]}.{rest}"] = tensor
        elif first in STAGES:
            theirs = rest.replace("conv.", f"conv{STAGES[first]}.")
            renamed[theirs.replace("bn.", f"batch_norm{STAGES[first]}.0.")] = tensor
        else:
            renamed[f"full_connection.0.{rest}"] = tensor
    return renamed
