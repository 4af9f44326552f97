"""The layers' fast form in float32 (and float64) on the CPU.

Feature maps lie in memory as `common/maps.py` says, and are worked out as late as can be: a batch
norm with its ReLUs is only a way to read a map, and so is its gradient.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from common import convolution, fourier, lanes, spatial
from common.channels_last import conv_2d, is_2d, is_plain
from common.convolution import KERNELS
from common.graph import Map, as_tensor
from common.layers import BatchNormReLU, WeightedSum
from common.maps import Norm
from common.store import Store, floors, threads
from common.transforms import OUTPUTS, TAPS, weights_transform


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map | Tensor:
    """`nn.Conv3d`; of the kinds that are rare or little work, PyTorch's own."""
    weight, bias, padding, stride = module.weight, module.bias, _padding(module), module.stride[2]
    sees_zeros_alone = any(p >= s for p, s in zip(padding, module.kernel_size, strict=True))
    if not is_plain(module) or module.stride[:2] != (1, 1) or sees_zeros_alone:
        return module._conv_forward(as_tensor(x), weight, bias)
    if module.kernel_size == (1, 1, 1) and stride == 1 and padding == (0, 0, 0):
        return F.linear(as_tensor(x).movedim(1, 4), weight.flatten(1), bias).movedim(4, 1)
    x = Map.of(x)
    (kernels, of_x, *size), (rows, cols, _, bands, _) = weight.shape, x.store.array.shape
    sizes = [n + 2 * p - s + 1 for n, p, s in zip((rows, cols, bands), padding, size, strict=True)]
    if (
        size[2] == bands
        and sizes[2] == stride == 1
        and min(kernels, of_x * bands) >= spatial.KERNELS
    ):
        out = x.store.like(kernels, *sizes)
        return Map(_SpatialConvolution.apply(x.token, weight, bias, x.store, out, padding), out)
    if size[2] > 1 and is_2d(module, bands):
        return conv_2d(module, x.tensor(), weight, bias)
    if kernels < KERNELS or (x.token.requires_grad and (stride > 1 or of_x < KERNELS)):
        return F.conv3d(x.tensor(), weight, bias, (1, 1, stride), padding)
    out = x.store.like(kernels, *sizes[:2], -(-sizes[2] // stride))
    if [*size, stride] == [1, 1, TAPS, 1] and sizes[2] >= OUTPUTS:
        return Map(_FourierConvolution.apply(x.token, weight, bias, x.store, out, padding[2]), out)
    return Map(_Convolution.apply(x.token, weight, bias, x.store, out, padding, stride), out)


def _padding(module: nn.Conv3d) -> tuple[int, int, int]:
    if module.padding == "same":
        return tuple(size // 2 for size in module.kernel_size)
    return (0, 0, 0) if module.padding == "valid" else module.padding


class _Convolution(torch.autograd.Function):
    """`nn.functional.conv3d` with a stride along the bands only."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding, stride):
        ctx.save_for_backward(weight)
        ctx.stores, ctx.how, ctx.has_bias = (x, out), (padding, stride), bias is not None
        _convolve(x, weight, bias, padding, stride, out.array)
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (weight,), (x, out), (padding, stride) = ctx.saved_tensors, ctx.stores, ctx.how
        size, of_x = tuple(weight.shape[2:]), x.array
        turned = weight.flip(2, 3, 4).transpose(0, 1)
        in_passing = turned[:0]
        if ctx.needs_input_grad[0]:  # the convolution of the output's gradient, turned around
            of_x = x.empty()
            if size[:2] == (1, 1):
                in_passing = turned
            else:
                array = out.take_gradient_array()
                out.add_gradient(array)
                around = tuple(s - 1 - p for s, p in zip(size, padding, strict=True))
                _convolve(Store(array, out.used), turned, None, around, 1, of_x)
        of_weight, of_bias, sums = convolution.weight_gradient(
            x.array, tuple(x.norm), x.used, padding, size, stride,
            out.take_gradient().flat(), out.array.shape, _kernels_last(in_passing), of_x, threads(),
        )  # fmt: skip
        if ctx.needs_input_grad[0]:
            x.add_gradient(of_x, own=True)
            x.sums = (x.gradients[-1].array, sums) if len(in_passing) else None
        kernels, of_kernels, *_ = weight.shape
        of_weight = torch.from_numpy(of_weight).view(kernels, *size[:2], of_kernels, size[2])
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight.permute(0, 3, 1, 2, 4), of_bias, None, None, None, None


def _convolve(
    x: Store, weight: Tensor, bias: Tensor | None, padding: tuple, stride: int, out: np.ndarray
) -> None:
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    convolution.convolve(
        x.array, tuple(x.norm), padding, tuple(weight.shape[2:]), stride, _kernels_last(weight),
        bias.detach().numpy(), out, threads(),
    )  # fmt: skip


def _kernels_last(weight: Tensor) -> np.ndarray:
    """Arrange weights for `common/convolution.py`: (kernels out, rows, cols, kernels in, bands)."""
    return weight.detach().permute(0, 2, 3, 1, 4).contiguous().numpy()


class _FourierConvolution(torch.autograd.Function):
    """The same with kernels of `TAPS` bands, by short Fourier transforms."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding):
        transform = torch.from_numpy(weights_transform(x.array.dtype))
        transformed = (transform @ weight.reshape(-1, TAPS).t()).view(-1, *weight.shape[:2])
        ctx.stores, ctx.padding, ctx.has_bias = (x, out), padding, bias is not None
        ctx.weights = transform, transformed
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        fourier.convolve(
            x.array, tuple(x.norm), padding, transformed.transpose(1, 2).contiguous().numpy(),
            bias.detach().numpy(), out.array, threads(),
        )  # fmt: skip
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (x, out), (transform, transformed) = ctx.stores, ctx.weights
        with_x, gradient = ctx.needs_input_grad[0], out.take_gradient()
        of_x = x.array
        if with_x:
            in_place = gradient.own and out.array.shape == x.array.shape
            of_x = gradient.array.reshape(x.array.shape) if in_place else x.empty()
        of_weight, of_bias, sums = fourier.weight_gradient(
            x.array, tuple(x.norm), x.used, ctx.padding, gradient.flat(),
            out.array.shape, (transformed if with_x else transformed[:0]).numpy(), of_x, threads(),
        )  # fmt: skip
        if with_x:
            x.add_gradient(of_x, own=True)
            x.sums = x.gradients[-1].array, sums
        of_weight = torch.from_numpy(of_weight)
        of_weight = (of_weight.flatten(1).t() @ transform).view(*of_weight.shape[1:], 1, 1, TAPS)
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight, of_bias, None, None, None


class _SpatialConvolution(torch.autograd.Function):
    """The same with kernels that fill the band axis."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding):
        kernels, _, *size, _ = weight.shape
        weights = _kernels_last(weight).reshape(kernels, size[0] * size[1], -1)
        ctx.stores, ctx.has_bias = (x, out), bias is not None
        ctx.how = padding[:2], tuple(size), weights
        bias = weight.new_zeros(kernels) if bias is None else bias
        spatial.convolve(
            x.array, tuple(x.norm), *ctx.how, bias.detach().numpy(), out.array, threads()
        )
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (x, out), (padding, size, weights) = ctx.stores, ctx.how
        of_x = x.empty() if ctx.needs_input_grad[0] else x.array[:0]
        of_weight, of_bias = spatial.gradients(
            x.array, tuple(x.norm), x.used, padding, size, out.take_gradient().flat(),
            out.array.shape, weights, of_x, threads(),
        )  # fmt: skip
        if ctx.needs_input_grad[0]:
            x.add_gradient(of_x, own=True)
        of_kernels, bands = x.array.shape[2:4]
        of_weight = torch.from_numpy(of_weight).view(len(weights), *size, of_kernels, bands)
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight.permute(0, 3, 1, 2, 4), of_bias, None, None, None


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone: one pass for the statistics, and a way to read.

    Only where a shortcut is added is the result worked out.
    """
    x = Map.of(x).as_read()
    relu_before, relu = (getattr(module, name, False) for name in ("relu_before", "relu"))
    floor, floor_out = floors(x.store.array, relu_before, relu and shortcut is None)
    of_norm = (module.weight, module.bias, module.running_mean, module.running_var)
    momentum = module.momentum if module.training else 0.0
    *statistics, scale, offset = lanes.batch_norm(
        x.store.array, x.store.used, floor, *(t.detach().numpy() for t in of_norm),
        momentum, module.eps, threads(),
    )  # fmt: skip
    if module.training:
        module.num_batches_tracked.add_(1)
    store = Store(x.store.array, x.store.used, Norm(True, scale, offset, floor, floor_out))
    how = x.store, store, statistics, module.training
    normalised = Map(_Normalise.apply(x.token, module.weight, module.bias, *how), store)
    return normalised if shortcut is None else _add(normalised, Map.of(shortcut), relu)


class _Normalise(torch.autograd.Function):
    """From a map to the same map read through a batch norm with its ReLUs."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, statistics, training):
        ctx.stores, ctx.statistics, ctx.training = (x, out), statistics, training
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        x, out = ctx.stores
        gradient, norm = out.take_gradient(), tuple(out.norm)
        of, sums = out.sums or (None, None)
        if of is not gradient.array or gradient.weighted:  # not worked out in passing
            sums = lanes.gradient_sums(x.array, norm, gradient.flat(), threads())
        of_weight, of_bias, slope, shift = lanes.batch_norm_backward(
            x.array, x.used, norm, *ctx.statistics, ctx.training, sums
        )
        x.gradients.append(gradient._replace(norm=out.norm, map=x.flat, slope=slope, shift=shift))
        of_parameters = (torch.from_numpy(g) for g in (of_weight, of_bias))
        return token, *of_parameters, None, None, None, None


def _add(x: Map, y: Map, relu: bool) -> Map:
    """relu?(x + y)."""
    out, one = Store(x.store.empty(), x.store.used), x.store.per_lane(None)
    _write_sum(x.store, one, y.store, one, relu, out)
    return Map(_Add.apply(x.token, y.token, x.store, y.store, out, relu), out)


def _write_sum(
    x: Store, weight: np.ndarray, y: Store, weight_y: np.ndarray, relu: bool, out: Store
) -> None:
    """Write relu?(x * weight + y * weight_y) to `out`; weights as `Store.per_lane` gives them."""
    lanes.weigh(
        out.array.shape, tuple(x.norm), x.flat, weight, tuple(y.norm), y.flat, weight_y,
        *floors(out.array, relu), out.flat, threads(),
    )  # fmt: skip


class _Add(torch.autograd.Function):
    """relu?(x + y)."""

    @staticmethod
    def forward(ctx, token, token_y, x, y, out, relu):
        ctx.stores, ctx.relu = (x, y, out), relu
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        *stores, out = ctx.stores
        gradient = out.take_gradient_array(out.array if ctx.relu else None)
        for store in stores:
            store.add_gradient(gradient)
        return token, token, None, None, None, None


def weighted_sum(
    module: WeightedSum, *maps: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`WeightedSum` of two maps, or of one and a shortcut."""
    maps = [Map.of(x) for x in maps]
    tokens, averages = zip(*(_Average.apply(x.token, x.store) for x in maps), strict=True)
    weights = list(module.weights(torch.stack(averages)))
    if shortcut is not None:
        maps.append(Map.of(shortcut))
        tokens = (*tokens, maps[-1].token)
        weights.append(None)
    stores = [x.store for x in maps]
    out = Store(stores[0].empty(), stores[0].used)
    return Map(_Weigh.apply(*tokens, *weights, stores, out), out)


class _Average(torch.autograd.Function):
    """A map's token as it is, and the map's averages (batch, kernels).

    Their gradients meet here: `_Weigh`, alone to use the map, leaves its own in `weighed`.
    """

    @staticmethod
    def forward(ctx, token, store):
        ctx.store = store
        return token.new_zeros(()), store.patch_sums() / store.numbers

    @staticmethod
    @once_differentiable
    def backward(ctx, token, of_averages):
        store, (gradient, weight) = ctx.store, ctx.store.weighed
        constant = store.per_lane(of_averages / store.numbers)
        store.add_gradient(gradient, weighted=True, weight=weight, constant=constant)
        store.weighed = None
        return token, None


class _Weigh(torch.autograd.Function):
    """x * weight + y * weight_y, weights (batch, kernels), None for 1."""

    @staticmethod
    def forward(ctx, token, token_y, weight, weight_y, stores, out):
        x, y = stores
        ctx.stores, ctx.weights = (x, y, out), [x.per_lane(w) for w in (weight, weight_y)]
        _write_sum(x, ctx.weights[0], y, ctx.weights[1], False, out)
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        x, y, out = ctx.stores
        gradient = out.take_gradient_array()
        x.weighed, of_y = (gradient, ctx.weights[0]), None
        if ctx.needs_input_grad[3]:
            y.weighed, of_y = (gradient, ctx.weights[1]), y.patch_sums(gradient)
        else:
            y.add_gradient(gradient)
        return token, token, x.patch_sums(gradient), of_y, None, None
