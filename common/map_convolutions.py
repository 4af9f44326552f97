"""`nn.Conv3d` on feature maps: which form of it is fastest, and its place in PyTorch's graph."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from common import convolution, fourier, spatial
from common.channels_last import conv_2d, is_2d, is_plain
from common.convolution import KERNELS
from common.graph import Map, as_tensor
from common.store import Store, threads
from common.transforms import OUTPUTS, TAPS, weights_transform


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map | Tensor:
    """`nn.Conv3d`; of the kinds that are rare or little work, PyTorch's own."""
    weight, bias, padding, stride = module.weight, module.bias, _padding(module), module.stride[2]
    if not is_plain(module) or module.stride[:2] != (1, 1):
        return module._conv_forward(as_tensor(x), weight, bias)
    if module.kernel_size == (1, 1, 1) and stride == 1 and padding == (0, 0, 0):
        return F.linear(as_tensor(x).movedim(1, 4), weight.flatten(1), bias).movedim(4, 1)
    in_bfloat16 = getattr(module, "compute_dtype", None) == torch.bfloat16
    x = Map.of(x, getattr(module, "map_dtype", None))
    (kernels, of_x, *size), (rows, cols, _, bands, _) = weight.shape, x.store.array.shape
    sizes = [n + 2 * p - s + 1 for n, p, s in zip((rows, cols, bands), padding, size, strict=True)]
    evenly = module.padding != "same" or all(s % 2 for s in size)
    if not evenly or min(sizes) < 1 or any(p >= s for p, s in zip(padding, size, strict=True)):
        return module._conv_forward(x.tensor(), weight, bias)
    if (
        size[2] == bands
        and sizes[2] == stride == 1
        and min(kernels, of_x * bands) >= spatial.KERNELS
    ):
        out = x.store.like(kernels, *sizes)
        how = x.store, out, padding, in_bfloat16 and of_x * bands % 2 == kernels % 2 == 0
        return Map(_SpatialConvolution.apply(x.token, weight, bias, *how), out)
    if size[2] > 1 and is_2d(module, bands):
        return conv_2d(module, x.tensor(), weight, bias)
    if kernels < KERNELS or (x.token.requires_grad and (stride > 1 or of_x < KERNELS)):
        return F.conv3d(x.tensor(), weight, bias, (1, 1, stride), padding)
    out = x.store.like(kernels, *sizes[:2], -(-sizes[2] // stride))
    by_fourier = [*size, stride] == [1, 1, TAPS, 1] and sizes[2] >= OUTPUTS
    if by_fourier and of_x >= fourier.PRODUCTS:
        how = x.store, out, padding[2], in_bfloat16 and of_x % 2 == kernels % 2 == 0
        return Map(_FourierConvolution.apply(x.token, weight, bias, *how), out)
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
    convolution.convolve(
        x.array, tuple(x.norm), padding, tuple(weight.shape[2:]), stride, _kernels_last(weight),
        _bias(weight, bias), out, threads(),
    )  # fmt: skip


def _bias(weight: Tensor, bias: Tensor | None) -> np.ndarray:
    """A bias as compiled code takes it; zeros where there is none."""
    return (weight.new_zeros(len(weight)) if bias is None else bias).detach().numpy()


def _kernels_last(weight: Tensor) -> np.ndarray:
    """Arrange weights for `common/convolution.py`: (kernels out, rows, cols, kernels in, bands)."""
    return weight.detach().permute(0, 2, 3, 1, 4).contiguous().numpy()


class _FourierConvolution(torch.autograd.Function):
    """The same with kernels of `TAPS` bands, by short Fourier transforms."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding, in_pairs):
        transform = torch.from_numpy(weights_transform(x.norm.scale.dtype))
        transformed = (transform @ weight.reshape(-1, TAPS).t()).view(-1, *weight.shape[:2])
        ctx.stores, ctx.padding, ctx.has_bias = (x, out), padding, bias is not None
        ctx.weights, ctx.in_pairs = (transform, transformed), in_pairs
        out.array_sums = fourier.convolve(
            x.array, tuple(x.norm), padding, _numbers(transformed.transpose(1, 2), 1, in_pairs),
            _bias(weight, bias), out.array, threads(),
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
            out.array.shape, _numbers(transformed, 1, ctx.in_pairs)[: None if with_x else 0],
            of_x, threads(),
        )  # fmt: skip
        if with_x:
            x.add_gradient(of_x, own=True)
            x.sums = x.gradients[-1].array, sums
        of_weight = torch.from_numpy(of_weight)
        of_weight = (of_weight.flatten(1).t() @ transform).view(*of_weight.shape[1:], 1, 1, TAPS)
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight, of_bias, None, None, None, None


def _numbers(weights: Tensor, axis: int, in_pairs: bool) -> np.ndarray:
    """Weights as compiled code takes them: as they are, or in bfloat16 pairs along an axis."""
    if not in_pairs:
        return weights.detach().contiguous().numpy()
    pairs = weights.detach().to(torch.bfloat16).unflatten(axis, (-1, 2)).movedim(axis + 1, -1)
    return pairs.contiguous().view(torch.int32).squeeze(-1).numpy()


class _SpatialConvolution(torch.autograd.Function):
    """The same with kernels that fill the band axis."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding, in_pairs):
        ctx.save_for_backward(weight)
        ctx.stores, ctx.has_bias, ctx.in_pairs = (x, out), bias is not None, in_pairs
        ctx.how = padding[:2], tuple(weight.shape[2:4])
        spatial.convolve(
            x.array, tuple(x.norm), *ctx.how, _numbers(_by_places(weight), 2, in_pairs),
            _bias(weight, bias), out.array, threads(),
        )  # fmt: skip
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (weight,), (x, out) = ctx.saved_tensors, ctx.stores
        of_x = x.empty() if ctx.needs_input_grad[0] else x.array[:0]
        of_weight, of_bias = spatial.gradients(
            x.array, tuple(x.norm), x.used, *ctx.how, out.take_gradient().flat(),
            out.array.shape, _numbers(_by_places(weight), 0, ctx.in_pairs), of_x, threads(),
        )  # fmt: skip
        if ctx.needs_input_grad[0]:
            x.add_gradient(of_x, own=True)
        kernels, of_kernels, rows, cols, bands = weight.shape
        of_weight = torch.from_numpy(of_weight).view(kernels, rows, cols, of_kernels, bands)
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight.permute(0, 3, 1, 2, 4), of_bias, None, None, None, None


def _by_places(weight: Tensor) -> Tensor:
    """Arrange weights for `common/spatial.py`: (kernels out, rows * cols, kernels in * bands)."""
    kernels, _, rows, cols, _ = weight.shape
    return weight.detach().permute(0, 2, 3, 1, 4).reshape(kernels, rows * cols, -1)
