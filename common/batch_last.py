"""The layers' fast form on the CPU: in float32, float64, and bfloat16 by AVX512-BF16.

Feature maps lie in memory as `common/maps.py` says, and are worked out as late as can be: a batch
norm with its ReLUs is only a way to read a map, and so is its gradient.  In bfloat16 they are
rounded where they are kept, and so is what the large convolutions multiply; sums, statistics,
parameters and their gradients are float32.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from common import lanes
from common.graph import Map
from common.layers import BatchNormReLU, WeightedSum
from common.map_convolutions import conv as conv  # a form of its own for each kind
from common.maps import Norm
from common.store import Store, floors, threads


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone: one pass for the statistics, and a way to read.

    Only where a shortcut is added is the result worked out.
    """
    kind = getattr(module, "map_dtype", None)
    x = Map.of(x, kind).as_read()
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
    store.array_sums = x.store.array_sums
    how = x.store, store, statistics, module.training
    normalised = Map(_Normalise.apply(x.token, module.weight, module.bias, *how), store)
    return normalised if shortcut is None else _add(normalised, Map.of(shortcut, kind), relu)


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
    kind = getattr(module, "map_dtype", None)
    maps = [Map.of(x, kind) for x in maps]
    tokens, averages = zip(*(_Average.apply(x.token, x.store) for x in maps), strict=True)
    weights = list(module.weights(torch.stack(averages)))
    if shortcut is not None:
        maps.append(Map.of(shortcut, kind))
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
