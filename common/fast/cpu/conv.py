"""`nn.Conv3d` on feature maps: which loops for it are fastest, and its place in PyTorch's graph."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.fast.codegen.short_fourier import OUTPUTS, TAPS, weights_transform
from common.fast.cpu import conv_direct, conv_fourier, conv_spatial
from common.fast.cpu.conv_direct import CHANNELS, Geometry
from common.fast.cpu.feature_map import Store, threads
from common.fast.cpu.tape import Map, record
from common.fast.cpu.weight_tiles import made_once, tiles_of
from common.fast.feature_map import as_tensor
from common.fast.pytorch import conv_2d, is_2d, is_plain


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map | Tensor:
    """`nn.Conv3d`; of the kinds that are rare or little work, PyTorch's own."""
    weight, bias, padding, stride = module.weight, module.bias, _padding(module), module.stride[2]
    if not is_plain(module) or module.stride[:2] != (1, 1):
        return module._conv_forward(as_tensor(x), weight, bias)
    if module.kernel_size == (1, 1, 1) and stride == 1 and padding == (0, 0, 0):
        return F.linear(as_tensor(x).movedim(1, 4), weight.flatten(1), bias).movedim(4, 1)
    in_bfloat16 = getattr(module, "compute_dtype", None) == torch.bfloat16
    x = Map.of(x, getattr(module, "map_dtype", None))
    (channels, of_x, *size), (rows, cols, _, bands, _) = weight.shape, x.store.array.shape
    sizes = [n + 2 * p - s + 1 for n, p, s in zip((rows, cols, bands), padding, size, strict=True)]
    evenly = module.padding != "same" or all(s % 2 for s in size)
    if not evenly or min(sizes) < 1 or any(p >= s for p, s in zip(padding, size, strict=True)):
        return module._conv_forward(x.tensor(), weight, bias)
    geometry = Geometry(*size, *padding, stride)
    if (
        size[2] == bands
        and sizes[2] == stride == 1
        and min(channels, of_x * bands) >= conv_spatial.CHANNELS
    ):
        out = x.store.like(channels, *sizes)
        in_pairs = in_bfloat16 and of_x * bands % 2 == channels % 2 == 0
        return _spatial(module, x, out, geometry, in_pairs)
    if size[2] > 1 and is_2d(module, bands):
        return conv_2d(module, x.tensor(), weight, bias)
    if channels < CHANNELS or (x.tape and (stride > 1 or of_x < CHANNELS)):
        return F.conv3d(x.tensor(), weight, bias, (1, 1, stride), padding)
    out = x.store.like(channels, *sizes[:2], -(-sizes[2] // stride))
    by_fourier = [*size, stride] == [1, 1, TAPS, 1] and sizes[2] >= OUTPUTS
    if by_fourier and of_x >= conv_fourier.PRODUCTS:
        in_pairs = in_bfloat16 and of_x % 2 == channels % 2 == 0
        return _by_fourier(module, x, out, padding[2], in_pairs)
    in_pairs = in_bfloat16 and stride == 2 and x.tape is None
    return _direct(module, x, out, geometry, in_pairs)


def _padding(module: nn.Conv3d) -> tuple[int, int, int]:
    if module.padding == "same":
        return tuple(size // 2 for size in module.kernel_size)
    return (0, 0, 0) if module.padding == "valid" else module.padding


def _direct(module: nn.Conv3d, x: Map, out: Store, geometry: Geometry, in_pairs: bool) -> Map:
    """The same with a stride along the bands only."""
    weight, bias = module.weight, module.bias
    tiles = made_once(module, lambda: _tiles(weight, in_pairs))
    conv_direct.convolve(x.store.source, geometry, tiles, _bias(weight, bias), out.array, threads())
    how = x.tape is not None, weight, bias is not None, geometry, in_pairs
    return record(out, [x], partial(direct_backward, x.store, out, *how), weight, bias)


def direct_backward(
    x: Store, out: Store, with_x: bool, weight: Tensor, has_bias: bool, geometry: Geometry,
    in_pairs: bool,
) -> list[Tensor | None]:  # fmt: skip
    """Gradients of weight and bias; to `x` its own, if `with_x`."""
    channels, of_channels, *size = weight.shape
    number, of_x = x.norm.scale.dtype, x.array
    tiles = np.empty((0, 0, 0, CHANNELS), np.int32 if in_pairs else number)
    if with_x:  # the convolution of the output's gradient, turned around
        of_x = x.empty()
        turned = _tiles(weight.detach().flip(2, 3, 4).transpose(0, 1))
        if size[:2] == [1, 1]:
            tiles = turned  # in passing
        else:
            array, no_bias = out.take_gradient_array(), np.zeros(of_channels, number)
            out.add_gradient(array)
            padding = geometry.pad_rows, geometry.pad_cols, geometry.pad_bands
            around = (s - 1 - p for s, p in zip(size, padding, strict=True))
            turned_geometry, gradient = Geometry(*size, *around, 1), Store(array, out.patches)
            conv_direct.convolve(gradient.source, turned_geometry, turned, no_bias, of_x, threads())
    of_weight, of_bias, sums = conv_direct.weight_gradient(
        x.source, geometry, out.take_gradient(), tiles, of_x, threads()
    )
    if with_x:
        x.add_gradient(of_x, own=True)
        x.sums = sums if tiles.size else None
    of_weight = torch.from_numpy(of_weight).view(channels, *size[:2], of_channels, size[2])
    return [of_weight.permute(0, 3, 1, 2, 4), torch.from_numpy(of_bias) if has_bias else None]


def _tiles(weight: Tensor, in_pairs: bool = False) -> np.ndarray:
    """Arrange weights for `conv_direct.py`."""
    by_bands = _by_places(weight).transpose(1, 2).reshape(-1, weight.shape[4], len(weight))
    return tiles_of(by_bands, CHANNELS, in_pairs)


def _by_fourier(module: nn.Conv3d, x: Map, out: Store, padding: int, in_pairs: bool) -> Map:
    """The same with kernels of `TAPS` bands, by short Fourier transforms."""
    weight, bias = module.weight, module.bias
    transform = torch.from_numpy(weights_transform(x.store.norm.scale.dtype))

    def arrange() -> tuple[Tensor, np.ndarray]:
        transformed = transform @ weight.detach().reshape(-1, TAPS).t()
        transformed = transformed.view(-1, *weight.shape[:2])
        return transformed, tiles_of(transformed.transpose(1, 2), conv_fourier.CHANNELS, in_pairs)

    transformed, tiles = made_once(module, arrange)
    out.array_sums = conv_fourier.convolve(
        x.store.source, padding, tiles, _bias(weight, bias), out.array, threads()
    )
    how = x.tape is not None, transform, transformed, bias is not None, padding, in_pairs
    return record(out, [x], partial(fourier_backward, x.store, out, *how), weight, bias)


def fourier_backward(
    x: Store, out: Store, with_x: bool, transform: Tensor, transformed: Tensor, has_bias: bool,
    padding: int, in_pairs: bool,
) -> list[Tensor | None]:  # fmt: skip
    """Gradients of weight and bias; to `x` its own, if `with_x`."""
    gradient, of_x = out.take_gradient(), x.array
    if with_x:
        in_place = gradient.own and gradient.array.shape == x.array.shape
        of_x = gradient.array if in_place else x.empty()
    tiles = tiles_of(transformed, conv_fourier.CHANNELS, in_pairs)[: None if with_x else 0]
    of_weight, of_bias, sums = conv_fourier.weight_gradient(
        x.source, padding, gradient, tiles, of_x, threads()
    )
    if with_x:
        x.add_gradient(of_x, own=True)
        x.sums = sums
    of_weight = torch.from_numpy(of_weight)
    of_weight = (of_weight.flatten(1).t() @ transform).view(*of_weight.shape[1:], 1, 1, TAPS)
    return [of_weight, torch.from_numpy(of_bias) if has_bias else None]


def _spatial(module: nn.Conv3d, x: Map, out: Store, geometry: Geometry, in_pairs: bool) -> Map:
    """The same with kernels that fill the band axis."""
    weight, bias, width = module.weight, module.bias, conv_spatial.CHANNELS
    tiles = made_once(module, lambda: tiles_of(_by_places(weight).transpose(1, 2), width, in_pairs))
    conv_spatial.convolve(
        x.store.source, geometry, tiles, _bias(weight, bias), out.array, threads()
    )
    how = x.tape is not None, weight, bias is not None, geometry, in_pairs
    return record(out, [x], partial(spatial_backward, x.store, out, *how), weight, bias)


def spatial_backward(
    x: Store, out: Store, with_x: bool, weight: Tensor, has_bias: bool, geometry: Geometry,
    in_pairs: bool,
) -> list[Tensor | None]:  # fmt: skip
    """Gradients of weight and bias; to `x` its own, if `with_x`."""
    of_x = x.empty() if with_x else x.array[:0]
    tiles = tiles_of(_by_places(weight), conv_spatial.CHANNELS, in_pairs, in_reverse=True)
    of_weight, of_bias = conv_spatial.gradients(
        x.source, geometry, out.take_gradient(), tiles, of_x, threads()
    )
    if with_x:
        x.add_gradient(of_x, own=True)
    channels, of_channels, rows, cols, bands = weight.shape
    of_weight = torch.from_numpy(of_weight).view(channels, rows, cols, of_channels, bands)
    return [of_weight.permute(0, 3, 1, 2, 4), torch.from_numpy(of_bias) if has_bias else None]


def _by_places(weight: Tensor) -> Tensor:
    """View weights as (rows * cols, channels out, channels in * bands)."""
    channels, _, rows, cols, _ = weight.shape
    by_places = weight.detach().permute(2, 3, 0, 1, 4)
    return by_places.reshape(rows * cols, channels, -1)


def _bias(weight: Tensor, bias: Tensor | None) -> np.ndarray:
    """A bias as compiled code takes it; zeros where there is none."""
    return (weight.new_zeros(len(weight)) if bias is None else bias).detach().numpy()
