"""The layers' form on a GPU, compiled by Triton: every layer takes one to three launches.

A training step of 16 patches is so little work for a GPU that its time is the number of launches,
each of a few microseconds, even from a CUDA graph.  PyTorch's own layers take 400 of them, its
convolutions among them several times what they need with 24 kernels.  Here batch norms go with
their ReLUs and shortcuts, and convolutions, norms and weighted sums give in passing the sums over
their output (`Map.sums`) that the next layer needs.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from common.fast import pytorch
from common.fast.gpu import norm_kernels, sum_kernels
from common.fast.gpu.conv import conv, try_out
from common.fast.gpu.grid import Grid, kept, laid_out, sums_of
from common.fast.gpu.norm_kernels import Backward, BatchNorm, Gradients, Kind
from common.fast.pytorch import CHANNELS_LAST, Map
from common.fast.replaced import has_gates
from common.layers import BatchNormReLU, WeightedSum

__all__ = ["batch_norm_relu", "conv", "try_out", "weighted_sum"]

MOST_KERNELS = 128  # of a map whose kernels a program holds all at once


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone."""
    if module.num_features > MOST_KERNELS:
        return pytorch.batch_norm_relu(module, x, shortcut)
    x, shortcut = laid_out(x), None if shortcut is None else Map.of(shortcut).x
    x_sums = sums_of(x) if module.training else None
    return Map(_Norm.apply(x.x, shortcut, module.weight, module.bias, x_sums, module))


class _Norm(torch.autograd.Function):
    """relu?(BN(relu?(x)) [+ shortcut])."""

    @staticmethod
    def forward(ctx, x, shortcut, weight, bias, x_sums, module):
        if shortcut is not None:
            shortcut = shortcut.contiguous(memory_format=CHANNELS_LAST)
        out, grid = torch.empty_like(x), Grid(x.shape)
        saved = weight.new_empty(2, grid.kernels)
        relus = (getattr(module, name, False) for name in ("relu_before", "relu"))
        ctx.kind = Kind(*relus, module.training)
        statistics = module.running_mean, module.running_var, module.num_batches_tracked
        norm = BatchNorm(weight, bias, *statistics, saved, module.momentum, module.eps)
        programs = x_sums.shape[0] * x_sums.shape[1] if module.training else 0
        share = grid.share._replace(programs=programs)  # of x_sums
        grid.run(norm_kernels.normalise, x, shortcut, out, x_sums, norm, share=share, kind=ctx.kind)
        ctx.grid, ctx.with_shortcut = grid, shortcut is not None
        ctx.save_for_backward(x, out if ctx.with_shortcut else None, weight, bias, saved)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x, out, weight, bias, saved), grid = ctx.saved_tensors, ctx.grid
        g = g.contiguous(memory_format=CHANNELS_LAST)
        norm = Backward(saved, weight, bias, grid.sums(x, 2, grid.kernels))
        grid.run(norm_kernels.normalise_sums, g, x, out, norm, kind=ctx.kind)
        of_shortcut = torch.empty_like(x) if ctx.with_shortcut else None
        of_parameters = torch.empty_like(weight), torch.empty_like(bias)
        gradients = Gradients(torch.empty_like(x), of_shortcut, *of_parameters)
        grid.run(norm_kernels.normalise_backward, g, x, out, norm, gradients, kind=ctx.kind)
        return *gradients, None, None


def weighted_sum(
    module: WeightedSum, *maps: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`WeightedSum` of two maps, or of one and a shortcut."""
    if maps[0].shape[1] > MOST_KERNELS:
        return pytorch.weighted_sum(module, *maps, shortcut=shortcut)
    maps = [laid_out(x) for x in maps]
    shortcut = None if shortcut is None else Map.of(shortcut).x
    if shortcut is not None and has_gates(module):
        return Map(*_Gated.apply(maps[0].x, sums_of(maps[0]), module.weight, shortcut))
    links = [{} for _ in maps]
    pairs = [_Average.apply(x.x, sums_of(x), link) for x, link in zip(maps, links, strict=True)]
    tensors, averages = zip(*pairs, strict=True)
    averages = torch.stack(averages)
    weights = module.weights(averages).expand(averages.shape)
    second = (shortcut, None) if len(maps) == 1 else (tensors[1], weights[1])
    return Map(*_Weigh.apply(tensors[0], weights[0], *second, links))


class _Average(torch.autograd.Function):
    """A map as it is, and its averages (patches, kernels).

    Their gradients meet here: `_Weigh`, alone to use the map, leaves its part to be done in the
    same pass over memory, and its weight in `link`.
    """

    @staticmethod
    def forward(ctx, x, sums, link):
        ctx.grid, ctx.link, ctx.dtype = Grid(x.shape), link, x.dtype
        return x.view_as(x), averages(x, sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, of_averages):
        g, grid = g.contiguous(memory_format=CHANNELS_LAST), ctx.grid
        out = torch.empty_like(g, dtype=ctx.dtype)
        constant = of_averages.contiguous() / grid.places
        weight = ctx.link["weight"]
        grid.run(sum_kernels.weigh_backward, g, weight, constant, out)
        return out, None, None


class _Weigh(torch.autograd.Function):
    """x * weight + y * weight_y, weights (patches, kernels), weight_y None for 1."""

    @staticmethod
    def forward(ctx, x, weight, y, weight_y, links):
        y = y.contiguous(memory_format=CHANNELS_LAST)
        weights = [None if w is None else w.contiguous() for w in (weight, weight_y)]
        for link, array in zip(links, weights, strict=False):
            link["weight"] = array
        out, grid = torch.empty_like(x), Grid(x.shape)
        sums = grid.sums(x, 4, grid.kernels)
        grid.run(sum_kernels.weigh, x, weights[0], y, weights[1], out, sums)
        return kept(ctx, grid, out, sums, x, y if weight_y is not None else None)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        (x, y), grid = ctx.saved_tensors, ctx.grid
        g = g.contiguous(memory_format=CHANNELS_LAST)
        parts = tuple(None if z is None else grid.sums(x, grid.kernels) for z in (x, y))
        grid.run(sum_kernels.products, g, x, y, parts)
        of_weights = (None if p is None else p.sum(1) for p in parts)
        of_weight, of_weight_y = of_weights
        return g, of_weight, g, of_weight_y, None


def averages(x: Tensor, sums: Tensor) -> Tensor:
    """Averages (patches, kernels) of a map."""
    out, grid = x.new_empty(x.shape[:2], dtype=torch.float32), Grid(x.shape)
    grid.run_per_patch(sum_kernels.averages, sums, out, parts=sums.shape[1])
    return out


class _Gated(torch.autograd.Function):
    """x * its gates + shortcut; see `GatedSum`."""

    @staticmethod
    def forward(ctx, x, sums, weight, shortcut):
        shortcut, grid = shortcut.contiguous(memory_format=CHANNELS_LAST), Grid(x.shape)
        averages, gates = (weight.new_empty(x.shape[:2]) for _ in range(2))
        of_maps = sums, weight, averages, gates
        grid.run_per_patch(sum_kernels.gates, *of_maps, parts=sums.shape[1])
        out, out_sums = torch.empty_like(x), grid.sums(x, 4, grid.kernels)
        grid.run(sum_kernels.weigh, x, gates, shortcut, None, out, out_sums)
        return kept(ctx, grid, out, out_sums, x, weight, averages, gates)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, _):
        (x, weight, averages, gates), grid = ctx.saved_tensors, ctx.grid
        g = g.contiguous(memory_format=CHANNELS_LAST)
        products, constant = grid.sums(x, grid.kernels), torch.empty_like(gates)
        grid.run(sum_kernels.products, g, x, None, (products, None))
        parts = weight.new_empty(grid.patches, 3)
        of_sums = products, gates, averages, weight, constant, parts
        grid.run_per_patch(sum_kernels.gates_backward, *of_sums, parts=grid.parts)
        of_x = torch.empty_like(x)
        grid.run(sum_kernels.weigh_backward, g, gates, constant, of_x)
        return of_x, None, parts.sum(0).view_as(weight), g
