"""The layers' form in bfloat16 on a CPU with AMX or without AVX512-BF16.

On a GPU its convolutions are those that `common/triton_conv.py` has no form of.

PyTorch's convolutions over (batch, 24, rows, cols, bands) are several times as fast where the
kernels of one position lie next to each other in memory, and in bfloat16 they use the processor's
units for it.  What stands between two convolutions then takes most of a step, unless it makes few
passes over memory: `common/kernels.py`.  Statistics, sums, parameters and their gradients stay
float32.
"""

import math

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from common import kernels
from common.layers import BatchNormReLU, WeightedSum

CHANNELS_LAST = torch.channels_last_3d


def conv(module: nn.Conv3d, x: Tensor) -> Tensor:
    """`nn.Conv3d` with channels-last output."""
    # contiguous() would not do: with one input channel the two layouts look alike to it.
    x = x.to(module.compute_dtype, memory_format=CHANNELS_LAST)
    weight, bias = (t if t is None else t.to(x.dtype) for t in (module.weight, module.bias))
    if not is_2d(module, x.shape[4]):
        return module._conv_forward(x, weight, bias)
    return conv_2d(module, x, weight, bias)


def conv_2d(module: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with a kernel that fits once into the band axis: over rows and columns only.

    Each (band, kernel) pair of the input is a channel of a 2-D convolution, which is faster.
    """
    x = x[..., : weight.shape[4]]
    x, weight = (t.movedim(1, -1).flatten(3).movedim(-1, 1) for t in (x, weight))
    padding = module.padding if isinstance(module.padding, str) else module.padding[:2]
    return F.conv2d(x, weight, bias, module.stride[:2], padding).unsqueeze(4)


def is_2d(module: nn.Conv3d, bands: int) -> bool:
    """Whether the output is one band deep, and the convolution of the kinds used here."""
    depth, stride = module.kernel_size[2], module.stride[2]
    same, valid = (module.padding == name for name in ("same", "valid"))
    pads_bands = depth > 1 if same else not valid and module.padding[2] > 0
    return is_plain(module) and not pads_bands and depth <= bands < depth + stride


def is_plain(module: nn.Conv3d) -> bool:
    """Whether a convolution has no dilation, no groups and pads with zeros."""
    return module.dilation == (1, 1, 1) and module.groups == 1 and module.padding_mode == "zeros"


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor, shortcut: Tensor | None = None
) -> Tensor:
    """`BatchNormReLU`, or a batch norm alone, in two passes over memory each way."""
    return _BatchNormReLU.apply(x, shortcut, module.weight, module.bias, module)


class _BatchNormReLU(torch.autograd.Function):
    """relu?(BN(relu?(x)) [+ shortcut])."""

    @staticmethod
    def forward(ctx, x, shortcut, weight, bias, module):
        x = x.contiguous(memory_format=CHANNELS_LAST)
        out = torch.empty_like(x)
        relus = (getattr(module, name, False) for name in ("relu_before", "relu"))
        floors = [_floor(relu, weight) for relu in relus]
        parameters = (t.detach().numpy() for t in (weight, bias))
        running = module.running_mean.numpy(), module.running_var.numpy()
        momentum = module.momentum if module.training else 0.0
        rows, shortcut_rows = _rows(x), None if shortcut is None else _rows(shortcut)
        saved = kernels.batch_norm(
            rows, floors[0], *parameters, *running, momentum, module.eps, shortcut_rows, floors[1],
            _rows(out), numba.get_num_threads(),
        )  # fmt: skip
        module.num_batches_tracked += module.training
        ctx.save_for_backward(x, None if shortcut is None else out)
        ctx.floors, ctx.saved, ctx.training = floors, saved, module.training
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (x, out), (floor, floor_out) = ctx.saved_tensors, ctx.floors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        shortcut_gradient = None
        if out is not None:  # the shortcut joins before the last ReLU
            passed = torch.empty_like(gradient)
            kernels.relu_backward(_rows(out), floor_out, _rows(gradient), _rows(passed))
            gradient = shortcut_gradient = passed
            floor_out = type(floor_out)(-math.inf)
        x_gradient = torch.empty_like(x)
        of_parameters = kernels.batch_norm_backward(
            _rows(x), floor, ctx.saved, floor_out, ctx.training, _rows(gradient), _rows(x_gradient),
            numba.get_num_threads(),
        )  # fmt: skip
        of_parameters = (torch.from_numpy(g) for g in of_parameters)
        return x_gradient, shortcut_gradient, *of_parameters, None


def weighted_sum(module: WeightedSum, *maps: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """`WeightedSum` of two maps, or of one and a shortcut, in few passes over memory."""
    links = [{} for _ in maps]
    maps, averages = zip(*map(_Average.apply, maps, links), strict=True)
    weights = module.weights(torch.stack(averages))
    second = (shortcut, None) if len(maps) == 1 else (maps[1], weights[1])
    return _Weigh.apply(maps[0], weights[0], *second, links)


class _Average(torch.autograd.Function):
    """A map as it is, and its averages (batch, kernels).

    Their gradients meet here: `_Weigh`, alone to use the map, leaves its part to be done in the
    same pass over memory, and its weight in `link`.
    """

    @staticmethod
    def forward(ctx, x, link):
        x = x.contiguous(memory_format=CHANNELS_LAST)
        ctx.count, ctx.link, ctx.dtype = x[0, 0].numel(), link, x.dtype
        return x.view_as(x), _patch_sums(x) / ctx.count

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, of_averages):
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        constant = (of_averages / ctx.count).contiguous().numpy()
        out = torch.empty_like(gradient, dtype=ctx.dtype)
        kernels.scale_and_shift(_rows(gradient), ctx.link["weight"], constant, _rows(out))
        return out, None


class _Weigh(torch.autograd.Function):
    """x * weight + y * weight_y, weights (batch, kernels), weight_y None for 1."""

    @staticmethod
    def forward(ctx, x, weight, y, weight_y, links):
        ctx.save_for_backward(x, y)
        out = torch.empty_like(x)
        weights = [None if w is None else w.contiguous().numpy() for w in (weight, weight_y)]
        for link, array in zip(links, weights, strict=False):
            link["weight"] = array
        kernels.weigh(_rows(x), weights[0], _rows(y), weights[1], _rows(out))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        x, y = ctx.saved_tensors
        of_weight_y = _patch_sums(gradient, y) if ctx.needs_input_grad[3] else None
        return gradient, _patch_sums(gradient, x), gradient, of_weight_y, None


def _patch_sums(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Sum of x, or of x * y, over the positions and bands of each patch: (batch, kernels)."""
    sums = torch.empty(x.shape[:2], dtype=_wide(x))
    kernels.patch_sums(_rows(x), None if y is None else _rows(y), sums.numpy())
    return sums


def _rows(x: Tensor) -> np.ndarray:
    """Look at (batch, kernels, rows, cols, bands) as kernels.py does: (positions, columns)."""
    x = x.detach()
    array = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    array = array.transpose(0, 2, 3, 4, 1)
    return array.reshape(-1, array.shape[3] * array.shape[4])  # a view: kernels lie innermost


def _wide(x: Tensor) -> torch.dtype:
    """Type that sums over `x` are made in."""
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


def _floor(relu: bool, like: Tensor) -> np.floating:
    """What a ReLU, or none, leaves at least, in the type of `like`."""
    number = np.float64 if like.dtype == torch.float64 else np.float32
    return number(0 if relu else -math.inf)
