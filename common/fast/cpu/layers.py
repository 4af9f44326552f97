"""The layers' backend for the CPU: in float32, float64, and bfloat16 by AVX512-BF16.

Feature maps lie in memory as `reading.py` says, and are materialised as late as can be: a batch
norm with its ReLUs is only a way to read a map, and so is its gradient.  In bfloat16 they are
rounded where they are kept, and so is what the large convolutions multiply; sums, statistics,
parameters and their gradients are float32.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from common.fast.cpu import passes
from common.fast.cpu.conv import conv as conv  # loops of its own for each kind
from common.fast.cpu.feature_map import Store, floors, threads
from common.fast.cpu.reading import Norm, Source
from common.fast.cpu.tape import Map, open_tape, record
from common.fast.cpu.weight_tiles import made_once
from common.fast.replaced import has_gates
from common.layers import BatchNormReLU, WeightedSum


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone: one pass for the statistics, and a way to read.

    Only where a shortcut is added is the result materialised.
    """
    kind = getattr(module, "map_dtype", None)
    x = Map.of(x, kind)
    x = x.materialised() if x.store.norm.normalised else x
    relu_before, relu = (getattr(module, name, False) for name in ("relu_before", "relu"))
    floor, floor_out = floors(x.store.array, relu_before, relu and shortcut is None)
    of_norm = (module.weight, module.bias, module.running_mean, module.running_var)
    momentum = module.momentum if module.training else 0.0

    def statistics_and_factors() -> tuple[np.ndarray, ...]:
        arrays = (tensor.detach().numpy() for tensor in of_norm)
        own = passes.BatchNorm(*arrays, momentum, module.eps)
        return passes.batch_norm(x.store.array, x.store.patches, floor, own, threads())

    if module.training:
        *statistics, scale, offset = statistics_and_factors()
        module.num_batches_tracked.add_(1)
    else:
        *statistics, scale, offset = made_once(module, statistics_and_factors)
    store = Store(x.store.array, x.store.patches, Norm(True, scale, offset, floor, floor_out))
    store.array_sums = x.store.array_sums
    step = partial(_normalise_backward, x.store, store, statistics, module.training)
    normalised = record(store, [x], step, module.weight, module.bias)
    return normalised if shortcut is None else _add(normalised, Map.of(shortcut, kind), relu)


def _normalise_backward(
    x: Store, out: Store, statistics: list[np.ndarray], training: bool
) -> list[Tensor]:
    """From a map read through a batch norm with its ReLUs to the same map."""
    gradient, read = out.take_gradient(), Source(x.array, x.patches, *out.norm)
    sums = out.sums
    if sums is None:  # not found in passing
        sums = passes.gradient_sums(read, gradient, threads())
    of_weight, of_bias, slope, shift = passes.batch_norm_backward(read, *statistics, training, sums)
    led_back = {"map": x.array, "slope": slope, "shift": shift}
    x.gradients.append(gradient._replace(**out.norm._asdict(), **led_back))
    return [torch.from_numpy(of_weight), torch.from_numpy(of_bias)]


def _add(x: Map, y: Map, relu: bool) -> Map:
    """relu?(x + y)."""
    out, one = Store(x.store.empty(), x.store.patches), x.store.per_lane(None)
    _write_sum(x.store, one, y.store, one, relu, out)
    return record(out, [x, y], partial(_add_backward, x.store, y.store, out, relu))


def _add_backward(x: Store, y: Store, out: Store, relu: bool) -> list[Tensor]:
    gradient = out.take_gradient_array(out.array if relu else None)
    for store in (x, y):
        store.add_gradient(gradient)
    return []


def _write_sum(
    x: Store, weight: np.ndarray, y: Store, weight_y: np.ndarray, relu: bool, out: Store
) -> None:
    """Write relu?(x * weight + y * weight_y) to `out`; weights as `Store.per_lane` gives them."""
    (floor,) = floors(out.array, relu)
    passes.weigh(x.source, weight, y.source, weight_y, floor, out.array, threads())


def weighted_sum(
    module: WeightedSum, *maps: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`WeightedSum` of two maps, or of one and a shortcut."""
    kind = getattr(module, "map_dtype", None)
    maps = [Map.of(x, kind) for x in maps]
    if shortcut is not None and has_gates(module):
        return _gated(maps[0], module.weight, Map.of(shortcut, kind))
    for number, x in enumerate(maps):
        if x.store.weighs:  # in another sum already: see `_averages_backward`
            maps[number] = x.materialised()
        maps[number].store.weighs = True
    averages = _averages(maps)
    weights = module.weights(averages).expand(averages.shape)
    both = maps if shortcut is None else [*maps, Map.of(shortcut, kind)]
    x, y = (z.store for z in both)
    in_lanes = [x.per_lane(w) for w in (*weights.detach().numpy(), None)[:2]]
    out = Store(x.empty(), x.patches)
    _write_sum(x, in_lanes[0], y, in_lanes[1], False, out)
    return record(out, both, partial(_weigh_backward, x, y, len(maps), in_lanes, out), weights)


def _gated(map_: Map, weight: nn.Parameter, shortcut: Map) -> Map:
    """x * its gates + shortcut, and no more in PyTorch's graph than other layers."""
    x, y, taps = map_.store, shortcut.store, weight.detach().view(-1).numpy()
    averages, gates = passes.gates(x.lane_sums(), x.numbers, taps)
    out = Store(x.empty(), x.patches)
    _write_sum(x, gates, y, y.per_lane(None), False, out)
    step = partial(_gated_backward, x, y, out, averages, gates, weight)
    return record(out, [map_, shortcut], step, weight)


def _gated_backward(
    x: Store, y: Store, out: Store, averages: np.ndarray, gates: np.ndarray, weight: Tensor
) -> list[Tensor]:
    gradient, taps = out.take_gradient_array(), weight.detach().view(-1).numpy()
    constant, of_taps = passes.gates_backward(
        x.lane_sums(gradient), averages, gates, x.numbers, taps, x.patches
    )
    y.add_gradient(gradient)
    x.add_gradient(gradient, weighted=True, weight=gates, constant=constant)
    return [torch.from_numpy(of_taps).view_as(weight)]


def _averages(maps: list[Map]) -> Tensor:
    """Averages (maps, batch, channels) of maps, in PyTorch's graph."""
    stores = [x.store for x in maps]
    averages = torch.from_numpy(np.stack([x.patch_sums() / x.numbers for x in stores]))
    on_tape = [x for x in maps if x.tape is not None]
    if not torch.is_grad_enabled() or not on_tape:
        return averages
    return open_tape(on_tape).close(averages, partial(_averages_backward, stores))


def _averages_backward(stores: list[Store], of_averages: Tensor | None) -> None:
    """Add to the gradients of maps those of their averages.

    They meet here: `_weigh_backward`, alone to weigh these stores, left its own in `weighed`.
    """
    for number, store in enumerate(stores):
        if store.weighed is not None:
            gradient, weight = store.weighed
            of_store = None if of_averages is None else of_averages[number].numpy() / store.numbers
            constant = store.per_lane(of_store, 0)
            store.add_gradient(gradient, weighted=True, weight=weight, constant=constant)
            store.weighed = None


def _weigh_backward(
    x: Store, y: Store, weighed: int, weights: list[np.ndarray], out: Store
) -> list[Tensor]:
    """From x * weight + y * weight_y to the maps, the first or both `weighed`, and the weights."""
    gradient = out.take_gradient_array()
    if weighed == 1:
        y.add_gradient(gradient)
    stores = [x, y][:weighed]
    for store, weight in zip(stores, weights, strict=False):
        store.weighed = gradient, weight
    return [torch.from_numpy(np.stack([store.patch_sums(gradient) for store in stores]))]
