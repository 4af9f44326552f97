"""Convolutions on a GPU, compiled by Triton; see `layers.py`."""

import math

import torch
import triton
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from common.fast import pytorch
from common.fast.gpu import conv_kernels
from common.fast.gpu.conv_kernels import Geometry
from common.fast.gpu.grid import Grid, kept, power_of_2
from common.fast.pytorch import CHANNELS_LAST, Map, is_plain

WIDEST, MOST_COLUMNS = 32, 256  # kernels, and taps times kernels, that fit into a program
MOST_TAPS = 64  # of a convolution of the input
NUMBERS_AT_A_TIME = 64  # of a weight's gradient; a bias has no more


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map:
    """`nn.Conv3d`; of the kinds that are rare, PyTorch's own."""
    x = Map.of(x).x
    if is_same(module):
        return Map(*_Same.apply(x, module.weight, module.bias, module.compute_dtype))
    if is_stem(module) and not x.requires_grad:
        return Map(*_Stem.apply(x, module.weight, module.bias, module))
    if is_plain(module) and module.kernel_size == (1, 1, x.shape[4]) and no_padding(module):
        return Map(_FullDepth.apply(x, module.weight, module.bias, module.compute_dtype))
    return Map(pytorch.convolved(module, x))


def try_out(kind: torch.dtype) -> None:
    """Raise an exception unless the largest kernel can be compiled for this GPU and run there."""
    module = nn.Conv3d(24, 24, (1, 1, 7), padding="same", device="cuda")
    module.compute_dtype = kind
    with torch.enable_grad():
        x = torch.zeros(1, 24, 1, 1, 128, device="cuda", requires_grad=True)
        conv(module, x).seen().sum().backward()
    torch.cuda.synchronize()


def is_same(module: nn.Conv3d) -> bool:
    """Whether a convolution has as many kernels and places before as after it."""
    return (
        is_plain(module)
        and module.padding == "same"
        and all(size % 2 for size in module.kernel_size)
        and module.stride == (1, 1, 1)
        and module.in_channels == module.out_channels <= WIDEST
        and math.prod(module.kernel_size) * module.in_channels <= MOST_COLUMNS
        and module.bias is not None
        and module.weight.dtype == torch.float32
    )


def is_stem(module: nn.Conv3d) -> bool:
    """Whether a convolution reads one kernel and pads rows and columns to stay as many."""
    height, width, depth = module.kernel_size
    return (
        is_plain(module)
        and module.in_channels == 1
        and module.out_channels <= WIDEST
        and module.stride[:2] == (1, 1)
        and height * width * depth <= MOST_TAPS
        and height % 2 == width % 2 == 1
        and module.padding == (height // 2, width // 2, 0)
        and module.bias is not None
        and module.weight.dtype == torch.float32
    )


def no_padding(module: nn.Conv3d) -> bool:
    """Whether a convolution reads only what there is."""
    return module.padding in ("valid", (0, 0, 0))


class _Same(torch.autograd.Function):
    """A convolution with as many kernels and places before as after it."""

    @staticmethod
    def forward(ctx, x, weight, bias, kind):
        x = x.contiguous(memory_format=CHANNELS_LAST)
        out = torch.empty_like(x, dtype=kind)
        taps = tuple(weight.shape[2:])
        columns = power_of_2(math.prod(taps) * x.shape[1])
        grid = Grid(out.shape, largest_block(columns, kind))
        sums = grid.sums(x, 4, grid.kernels)
        ctx.geometry = Geometry(
            grid.size, taps, x_bands=grid.size[2], x_kernels=grid.kernels, stride=1,
            pad=taps[2] // 2, columns=columns, kind=dtype(kind),
        )  # fmt: skip
        grid.run(conv_kernels.conv, x, weight, bias, out, sums, geometry=ctx.geometry)
        return kept(ctx, grid, out, sums, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        (x, weight), grid = ctx.saved_tensors, ctx.grid
        g = g.contiguous(memory_format=CHANNELS_LAST)
        x_gradient = torch.empty_like(x)
        parts = grid.sums(x, weight[0].numel() * grid.kernels), grid.sums(x, grid.kernels)
        grid.run(conv_kernels.conv_backward, g, x, weight, x_gradient, parts, geometry=ctx.geometry)
        return x_gradient, *of_parameters(weight, parts), None


class _Stem(torch.autograd.Function):
    """A convolution of the input, whose gradient nobody needs."""

    @staticmethod
    def forward(ctx, x, weight, bias, module):
        x = x.contiguous()
        kind, (*taps,), stride = module.compute_dtype, weight.shape[2:], module.stride[2]
        bands = (x.shape[4] - taps[2]) // stride + 1
        shape = (len(x), weight.shape[0], *x.shape[2:4], bands)
        out = torch.empty(shape, dtype=kind, device=x.device, memory_format=CHANNELS_LAST)
        grid = Grid(out.shape)
        sums = grid.sums(x, 4, grid.kernels)
        ctx.geometry = Geometry(
            grid.size, tuple(taps), x_bands=x.shape[4], x_kernels=1, stride=stride, pad=0,
            columns=power_of_2(math.prod(taps)), kind=dtype(kind),
        )  # fmt: skip
        grid.run(conv_kernels.conv, x, weight, bias, out, sums, geometry=ctx.geometry)
        return kept(ctx, grid, out, sums, x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        (x, weight), grid = ctx.saved_tensors, ctx.grid
        g = g.contiguous(memory_format=CHANNELS_LAST)
        parts = grid.sums(x, weight.numel()), grid.sums(x, grid.kernels)
        grid.run(conv_kernels.stem_backward, g, x, parts, geometry=ctx.geometry)
        return None, *of_parameters(weight, parts), None


class _FullDepth(torch.autograd.Function):
    """A convolution with a kernel as deep as the map, (1, 1, bands): a product of matrices."""

    @staticmethod
    def forward(ctx, x, weight, bias, kind):
        x = x.to(kind, memory_format=CHANNELS_LAST)
        batch, kernels, rows, cols, bands = x.shape
        positions = x.permute(0, 2, 3, 4, 1).reshape(batch * rows * cols, bands * kernels)
        matrix = _copied(weight.flatten(2).transpose(1, 2), kind)
        out = F.linear(positions, matrix.flatten(1), None if bias is None else bias.to(kind))
        ctx.save_for_backward(positions, matrix)
        ctx.shape, ctx.with_bias = x.shape, bias is not None
        return out.view(batch, rows, cols, -1, 1).movedim(3, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        positions, matrix = ctx.saved_tensors
        batch, kernels, rows, cols, bands = ctx.shape
        g = g.contiguous(memory_format=CHANNELS_LAST).movedim(1, 3).reshape(len(positions), -1)
        of_x = (g @ matrix.flatten(1)).view(batch, rows, cols, bands, kernels).movedim(4, 1)
        of_matrix = (g.T @ positions).view_as(matrix).transpose(1, 2)
        of_weight = _copied(of_matrix, torch.float32).view(-1, kernels, 1, 1, bands)
        ones = g.new_ones(1, len(g))  # a product of matrices is faster than a sum
        return of_x, of_weight, (ones @ g)[0].float() if ctx.with_bias else None, None


def _copied(x: Tensor, kind: torch.dtype) -> Tensor:
    """Bring numbers into the order of their axes and another type at once."""
    if x.dtype == kind and x.is_contiguous():
        return x
    return x.new_empty(x.shape, dtype=kind).copy_(x)


def of_parameters(weight: Tensor, parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Add up partial gradients of a convolution's weight and bias."""
    gradients = torch.empty_like(weight), weight.new_empty(len(weight))
    numbers = NUMBERS_AT_A_TIME
    conv_kernels.add_parts[triton.cdiv(weight.numel(), numbers),](
        parts, gradients, parts[0].shape[0] * parts[0].shape[1], x_kernels=weight.shape[1],
        kernels=len(weight), taps=weight[0, 0].numel(), numbers=numbers, num_warps=8,
    )  # fmt: skip
    return gradients


def largest_block(columns: int, kind: torch.dtype) -> int:
    """Places at a time, so that what the taps see of them fits into a processor."""
    return max(16, min(128, 65536 // columns // kind.itemsize))


def dtype(kind: torch.dtype):
    """Triton's name of a type."""
    return triton.language.bfloat16 if kind == torch.bfloat16 else triton.language.float32
