"""A feature map with what is known of its gradient, and how tensors become maps and back."""

import math

import numba
import numpy as np
import torch
from torch import Tensor

from common.fast.codegen.vectors import LANES
from common.fast.cpu import passes
from common.fast.cpu.reading import Gradient, Norm

LINE = 64  # bytes of a line of the cache
_SINGLE, _DOUBLE, _HALF = (np.dtype(kind) for kind in (np.float32, np.float64, np.uint16))
_NUMBERS = {_SINGLE: _SINGLE, _DOUBLE: _DOUBLE, _HALF: _SINGLE}  # that maps' numbers are read as


def _as_it_is(kind: np.dtype) -> Norm:
    nothing = np.empty(0, kind)  # where an array is asked for but not used
    return Norm(False, nothing, nothing, kind.type(0), kind.type(0))


def _worked_out(kind: np.dtype) -> Gradient:
    nothing, number, norm = np.empty(0, kind), np.empty(0, _NUMBERS[kind]), _AS_IT_IS[kind]
    return Gradient(nothing, False, number, number, norm, nothing, number, number, own=False)


_AS_IT_IS = {kind: _as_it_is(number) for kind, number in _NUMBERS.items()}
_WORKED_OUT = {kind: _worked_out(kind) for kind in _NUMBERS}


class Store:
    """A feature map: its numbers, how they are read, and the gradients that reached it so far.

    Attributes
    ----------
    array : array (rows, cols, kernels, bands, lanes)
        float32, float64, or bfloat16 given as its bits in uint16.
    used : int
        Lanes that hold patches; what finite numbers the others hold is of no effect.
    norm : Norm
    gradients : list of Gradient
    array_sums : array (threads, kernels, lanes), optional
        Sums over places and bands of what was written to `array`, where found in passing.
    sums : tuple (array, array), optional
        A gradient's numbers, and `passes.gradient_sums` of it.
    weighs : bool
        Whether a sum weighs this map.
    weighed : tuple (array, array), optional
        Gradient of a sum that this map goes into, and its weight there.
    """

    def __init__(self, array: np.ndarray, used: int, norm: Norm | None = None) -> None:
        self.array, self.used = array, used
        self.norm = norm or _AS_IT_IS[array.dtype]
        self.array_sums, self.gradients, self.sums = None, [], None
        self.weighs, self.weighed = False, None

    @classmethod
    def of(cls, x: Tensor, kind: torch.dtype | None = None) -> "Store":
        """Return a copy of a tensor (batch, kernels, rows, cols, bands), of its type or another."""
        (batch, kernels, rows, cols, bands), kind = x.shape, kind or x.dtype
        lanes_ = -(-batch // LANES) * LANES
        make = torch.empty if lanes_ == batch else torch.zeros
        array = make(rows, cols, kernels, bands, lanes_, dtype=kind)
        array[..., :batch].copy_(x.detach().permute(2, 3, 1, 4, 0))
        return cls((array.view(torch.uint16) if kind == torch.bfloat16 else array).numpy(), batch)

    def like(self, kernels: int, rows: int, cols: int, bands: int) -> "Store":
        """Return room for another map of the same patches."""
        shape = (rows, cols, kernels, bands, self.array.shape[4])
        return Store(_empty(shape, self.array.dtype), self.used)

    def tensor(self) -> Tensor:
        """Look at the map as it is read: a tensor (batch, kernels, rows, cols, bands)."""
        array = torch.from_numpy(self.worked_out())
        array = array.view(torch.bfloat16).float() if array.dtype == torch.uint16 else array
        return array.permute(4, 2, 0, 1, 3)[: self.used]

    @property
    def kind(self) -> torch.dtype:
        """The type of its numbers."""
        bits = self.array.dtype == _HALF
        return torch.bfloat16 if bits else torch.from_numpy(self.array[:0]).dtype

    @property
    def flat(self) -> np.ndarray:
        """The numbers one after another."""
        return self.array.reshape(-1)

    @property
    def numbers(self) -> int:
        """How many numbers of each kernel a patch has."""
        rows, cols, _, bands, _ = self.array.shape
        return rows * cols * bands

    def worked_out(self) -> np.ndarray:
        """Return the map as it is read."""
        if not self.norm.used:
            return self.array
        out = self.empty()
        passes.work_out(out.shape, tuple(self.norm), self.flat, out.reshape(-1), threads())
        return out

    def empty(self) -> np.ndarray:
        """Room for an array of the map's shape."""
        return _empty(self.array.shape, self.array.dtype)

    def per_lane(self, weights: np.ndarray | None, otherwise: float = 1) -> np.ndarray:
        """Weights (batch, kernels), or a number in their stead, as flat (kernels, lanes)."""
        shape = self.array.shape[2], self.array.shape[4]
        array = np.full(shape, otherwise, _NUMBERS[self.array.dtype])
        if weights is not None:
            array[:, : self.used] = weights.T
        return array.reshape(-1)

    def patch_sums(self, times: np.ndarray | None = None) -> np.ndarray:
        """Sum of the map, or of its product with an array, over each patch: (batch, kernels)."""
        return self.lane_sums(times).T[: self.used]

    def lane_sums(self, times: np.ndarray | None = None) -> np.ndarray:
        """The same as (kernels, lanes)."""
        other = self.flat if times is None else times.reshape(-1)
        norm, with_other = self.norm, times is not None
        linear = not norm.used or max(norm.floor, norm.floor_out) == -math.inf
        if linear and not with_other and self.array_sums is not None:
            sums = self.array_sums.sum(axis=0)
            if norm.used:
                sums = norm.scale[:, None] * sums + norm.offset[:, None] * self.numbers
        else:
            sums = passes.patch_sums(
                self.array.shape, tuple(norm), self.flat, with_other, other, threads()
            ).sum(axis=0)
        return sums

    def add_gradient(self, array: np.ndarray, **how) -> None:
        """Add a gradient, of which `how` says how far it is worked out; see `Gradient`."""
        self.gradients.append(_WORKED_OUT[array.dtype]._replace(array=array.reshape(-1), **how))

    def take_gradient(self) -> Gradient:
        """Return the sum of the gradients, worked out only where there are several."""
        if len(self.gradients) != 1:
            self.add_gradient(self.take_gradient_array(), own=True)
        return self.gradients.pop()

    def take_gradient_array(self, where_positive: np.ndarray | None = None) -> np.ndarray:
        """Return the sum of the gradients worked out; zero where an output is not positive."""
        left, masked = sorted(self.gradients, key=_is_worked_out), where_positive is not None
        self.gradients, total = [], None
        if not left:
            return np.zeros_like(self.array)
        if _is_worked_out(left[-1]) and (len(left) > 1 or not masked):
            total = left.pop()
        while left:
            gradient, last = left.pop(), total
            own = next((g.array for g in (gradient, last) if g and g.own), None)
            out = self.empty().reshape(-1) if own is None else own
            passes.work_out_gradient(
                self.array.shape, gradient.flat(),
                last is not None, gradient.array if last is None else last.array,
                masked and not left, where_positive.reshape(-1) if masked else out, out, threads(),
            )  # fmt: skip
            total = gradient._replace(array=out, own=True)
        return total.array.reshape(self.array.shape)


def threads() -> int:
    """How many threads compiled code uses here."""
    return numba.get_num_threads()


def floors(array: np.ndarray, *relus: bool) -> list[np.floating]:
    """What ReLUs, or none, leave at least, in the type of an array."""
    number = _NUMBERS[array.dtype].type
    return [number(0 if relu else -math.inf) for relu in relus]


def _is_worked_out(gradient: Gradient) -> bool:
    return not gradient.weighted and not gradient.norm.used


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room for numbers that begins at a line of the cache.

    Asked of malloc as it is: rooms that malloc aligns itself leave splinters around them, which
    others then fill, so that no later map fits where one has been and the heap grows.
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)
