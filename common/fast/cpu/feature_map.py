"""A feature map with what is known of its gradient, and how tensors become maps and back."""

import math

import numba
import numpy as np
import torch
from torch import Tensor

from common.fast.codegen.vectors import LANES
from common.fast.cpu import passes
from common.fast.cpu.reading import Gradient, Norm, Source, new_map

_SINGLE, _DOUBLE, _HALF = (np.dtype(kind) for kind in (np.float32, np.float64, np.uint16))
_NUMBERS = {_SINGLE: _SINGLE, _DOUBLE: _DOUBLE, _HALF: _SINGLE}  # that maps' numbers are read as


def _as_it_is(kind: np.dtype) -> Norm:
    nothing = np.empty(0, kind)  # where an array is asked for but not used
    return Norm(False, nothing, nothing, kind.type(0), kind.type(0))


def _materialised(kind: np.dtype) -> Gradient:
    norm, no_map = _AS_IT_IS[kind], np.empty((0,) * 5, kind)
    no_lanes = np.empty((0, 0), _NUMBERS[kind])
    return Gradient(no_map, False, no_lanes, no_lanes, *norm, no_map, norm.scale, norm.scale, False)


_AS_IT_IS = {kind: _as_it_is(number) for kind, number in _NUMBERS.items()}
_MATERIALISED = {kind: _materialised(kind) for kind in _NUMBERS}


class Store:
    """A feature map: its numbers, how they are read, and the gradients that reached it so far.

    Attributes
    ----------
    array : array (rows, cols, channels, bands, lanes)
        float32, float64, or bfloat16 given as its bits in uint16.
    patches : int
        How many of the batch lanes hold patches; what finite numbers the others hold is of no
        effect.
    norm : Norm
    gradients : list of Gradient
    array_sums : array (threads, channels, lanes), optional
        Sums over places and bands of what was written to `array`, where found in passing.
    sums : array (threads, 2, channels, lanes), optional
        `passes.gradient_sums` of the only gradient, where found in passing.
    weighs : bool
        Whether a sum weighs this map.
    weighed : tuple (array, array), optional
        Gradient of a sum that this map goes into, and its weight there.
    """

    def __init__(self, array: np.ndarray, patches: int, norm: Norm | None = None) -> None:
        self.array, self.patches = array, patches
        self.norm = norm or _AS_IT_IS[array.dtype]
        self.array_sums, self.gradients, self.sums = None, [], None
        self.weighs, self.weighed = False, None

    @classmethod
    def of(cls, x: Tensor, kind: torch.dtype | None = None) -> "Store":
        """Return a copy of a tensor (batch, channels, rows, cols, bands), in its type or `kind`."""
        (batch, channels, rows, cols, bands), kind = x.shape, kind or x.dtype
        lanes_ = -(-batch // LANES) * LANES
        make = torch.empty if lanes_ == batch else torch.zeros
        array = make(rows, cols, channels, bands, lanes_, dtype=kind)
        array[..., :batch].copy_(x.detach().permute(2, 3, 1, 4, 0))
        return cls((array.view(torch.uint16) if kind == torch.bfloat16 else array).numpy(), batch)

    def like(self, channels: int, rows: int, cols: int, bands: int) -> "Store":
        """Return a store, not filled, for another map of the same patches."""
        shape = (rows, cols, channels, bands, self.array.shape[4])
        return Store(new_map(shape, self.array.dtype), self.patches)

    def tensor(self) -> Tensor:
        """Look at the map as it is read: a tensor (batch, channels, rows, cols, bands)."""
        array = torch.from_numpy(self.materialised())
        array = array.view(torch.bfloat16).float() if array.dtype == torch.uint16 else array
        return array.permute(4, 2, 0, 1, 3)[: self.patches]

    @property
    def kind(self) -> torch.dtype:
        """The type of its numbers."""
        bits = self.array.dtype == _HALF
        return torch.bfloat16 if bits else torch.from_numpy(self.array[:0]).dtype

    @property
    def source(self) -> Source:
        """The map as compiled code reads it."""
        return Source(self.array, self.patches, *self.norm)

    @property
    def numbers(self) -> int:
        """How many numbers of each channel a patch has."""
        rows, cols, _, bands, _ = self.array.shape
        return rows * cols * bands

    def materialised(self) -> np.ndarray:
        """Return the map as it is read, in an array."""
        if not self.norm.normalised:
            return self.array
        out = self.empty()
        passes.materialise(self.source, out, threads())
        return out

    def empty(self) -> np.ndarray:
        """An array of the map's shape, not filled."""
        return new_map(self.array.shape, self.array.dtype)

    def per_lane(self, weights: np.ndarray | None, otherwise: float = 1) -> np.ndarray:
        """Weights (batch, channels), or a number in their stead, as (channels, lanes)."""
        shape = self.array.shape[2], self.array.shape[4]
        array = np.full(shape, otherwise, _NUMBERS[self.array.dtype])
        if weights is not None:
            array[:, : self.patches] = weights.T
        return array

    def patch_sums(self, times: np.ndarray | None = None) -> np.ndarray:
        """Sum of the map, or of its product with an array, over each patch: (batch, channels)."""
        return self.lane_sums(times).T[: self.patches]

    def lane_sums(self, times: np.ndarray | None = None) -> np.ndarray:
        """The same as (channels, lanes)."""
        norm, with_other = self.norm, times is not None
        linear = not norm.normalised or max(norm.floor, norm.floor_out) == -math.inf
        if linear and not with_other and self.array_sums is not None:
            sums = self.array_sums.sum(axis=0)
            if norm.normalised:
                sums = norm.scale[:, None] * sums + norm.offset[:, None] * self.numbers
        else:
            other = times if with_other else self.array
            sums = passes.patch_sums(self.source, with_other, other, threads()).sum(axis=0)
        return sums

    def add_gradient(self, array: np.ndarray, **how) -> None:
        """Add a gradient, of which `how` says how far it is materialised; see `Gradient`."""
        self.gradients.append(_MATERIALISED[array.dtype]._replace(array=array, **how))

    def take_gradient(self) -> Gradient:
        """Return the sum of the gradients, materialised only where there are several."""
        if len(self.gradients) != 1:
            self.add_gradient(self.take_gradient_array(), own=True)
        return self.gradients.pop()

    def take_gradient_array(self, where_positive: np.ndarray | None = None) -> np.ndarray:
        """Return the sum of the gradients materialised; zero where an output is not positive."""
        left, masked = sorted(self.gradients, key=_is_materialised), where_positive is not None
        self.gradients, self.sums, total = [], None, None
        if not left:
            return np.zeros_like(self.array)
        if _is_materialised(left[-1]) and (len(left) > 1 or not masked):
            total = left.pop()
        while left:
            gradient, last = left.pop(), total
            own = next((g.array for g in (gradient, last) if g and g.own), None)
            out = self.empty() if own is None else own
            passes.materialise_gradient(
                gradient, last is not None, gradient.array if last is None else last.array,
                masked and not left, where_positive if masked else out, out, threads(),
            )  # fmt: skip
            total = gradient._replace(array=out, own=True)
        return total.array


def threads() -> int:
    """How many threads compiled code uses here."""
    return numba.get_num_threads()


def floors(array: np.ndarray, *relus: bool) -> list[np.floating]:
    """What ReLUs, or none, leave at least, in the type of an array."""
    number = _NUMBERS[array.dtype].type
    return [number(0 if relu else -math.inf) for relu in relus]


def _is_materialised(gradient: Gradient) -> bool:
    return not gradient.weighted and not gradient.normalised
