"""Feature maps in PyTorch's graph of operations.

Between the fast layers of a network go `Map`s instead of tensors.  What such a layer did is noted
on a `Tape`, with how to lead the gradient back; the maps' gradients go from layer to layer beside
PyTorch's graph.  There one node stands for all that was done between a tensor and the next, since a
node takes as long as a small layer: it gets the parameters and gives their gradients.  To any
function of PyTorch but these layers a map is the tensor it stands for.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.fast.cpu.feature_map import Store
from common.fast.feature_map import FeatureMap, as_tensor


class Tape:
    """What the layers did that maps went through, in order, until it is closed.

    Attributes
    ----------
    steps : list of tuple (Store, callable, int)
        What a layer wrote; what leads the gradient from there to the stores it read, and returns
        those of the tensors it took; and how many these are.  Steps hold stores but no maps: those
        hold the tape, and memory in a circle is freed late.
    inputs : list of Tensor or None
        What the steps took, in order.
    before : list of Tensor
        Tokens of the closed tapes whose maps the steps read.
    token : Tensor, optional
        Once closed, what stands for the tape in PyTorch's graph, without content.
    """

    def __init__(self) -> None:
        self.steps, self.inputs, self.before, self.token = [], [], [], None

    def follow(self, other: "Tape") -> None:
        """Note that a map of another tape is read, which ends there."""
        if other.token is None:
            other.close()
        if not any(token is other.token for token in self.before):
            self.before.append(other.token)

    def close(
        self, out: Tensor | None = None, step: Callable[[Tensor | None], None] = lambda _: None
    ) -> Tensor | None:
        """Put the tape into PyTorch's graph; return `out`, whose gradient `step` takes, in it."""
        tensors = *self.before, *self.inputs
        self.token, out = _Node.apply((out,), step, self.steps, len(self.before), *tensors)
        return out


class _Node(torch.autograd.Function):
    """From tokens and tensors to a token and a tensor."""

    @staticmethod
    def forward(ctx, out, last, steps, tokens, *tensors):
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.steps, ctx.last, ctx.tokens = steps, last, tokens
        return torch.zeros(()), *out

    @staticmethod
    @once_differentiable
    def backward(ctx, token, gradient):
        _ = ctx.saved_tensors  # raises an error where one has been changed meanwhile
        ctx.last(gradient)
        of_inputs = []
        for store, step, count in reversed(ctx.steps):  # what nobody used has no gradient
            of_inputs.append(step() if store.gradients else [None] * count)
        return (None,) * (4 + ctx.tokens) + tuple(chain.from_iterable(reversed(of_inputs)))


class Map(FeatureMap):
    """What a fast layer returns: a feature map, and the tape it is on if it needs a gradient."""

    def __init__(self, store: Store, tape: Tape | None = None) -> None:
        self.store, self.tape = store, tape

    @classmethod
    def of(cls, x: "Tensor | Map", kind: torch.dtype | None = None) -> "Map":
        """Return the map that a tensor (batch, channels, rows, cols, bands) holds.

        Its numbers are of the given kind, or of the tensor's.
        """
        if isinstance(x, Map) and not x.is_seen:
            return x
        x = as_tensor(x)
        store = Store.of(x, kind)
        return record(store, [], partial(_enter, store), x)

    def materialised(self) -> "Map":
        """Return the same map with a store of its own, materialised."""
        return self._with(self.store.materialised())

    def own(self) -> Tensor:
        """Return the tensor (batch, channels, rows, cols, bands) that this map stands for."""
        out = self.store.tensor()
        if not torch.is_grad_enabled() or self.tape is None:
            return out
        return open_tape([self]).close(out, partial(_leave, self.store))

    @property
    def shape(self) -> torch.Size:
        rows, cols, channels, bands, _ = self.store.array.shape
        return torch.Size((self.store.patches, channels, rows, cols, bands))

    @property
    def requires_grad(self) -> bool:
        return self.tape is not None

    def transpose(self, one: int, other: int) -> "Map | Tensor":
        """Exchange two axes; where channels or bands are one, these two stay where they are."""
        rows, cols, channels, bands, lanes = self.store.array.shape
        if self.is_seen or {one, other} != {1, 4} or min(channels, bands) > 1:
            return self.seen().transpose(one, other)
        return self._with(self.store.materialised().reshape(rows, cols, bands, channels, lanes))

    def _with(self, array) -> "Map":
        """Return the same map, materialised in an array."""
        store = Store(array, self.store.patches)
        return record(store, [self], partial(_materialise_backward, self.store, store))


def record(
    store: Store,
    maps: Iterable[Map],
    step: Callable[[], Sequence[Tensor | None]],
    *inputs: Tensor | None,
) -> Map:
    """Return the map that a layer made of maps and tensors, noted on their tape; see `Tape.steps`.

    Where no gradient is wanted nothing is noted.
    """
    if not torch.is_grad_enabled():
        return Map(store)
    on_tape = [x for x in maps if x.tape is not None]
    if not on_tape and not any(x is not None and x.requires_grad for x in inputs):
        return Map(store)
    tape = open_tape(on_tape)
    tape.steps.append((store, step, len(inputs)))
    tape.inputs += inputs
    return Map(store, tape)


def open_tape(maps: Iterable[Map]) -> Tape:
    """Return a tape for what reads these maps: the first that is open, or a new one."""
    tapes = [x.tape for x in maps]
    tape = next((tape for tape in tapes if tape.token is None), None) or Tape()
    for other in tapes:
        if other is not tape:
            tape.follow(other)
    return tape


def _enter(store: Store) -> list[Tensor]:
    """Lead the gradient of a map to the tensor that it was made of."""
    return [Store(store.take_gradient_array(), store.patches).tensor()]


def _leave(store: Store, gradient: Tensor | None) -> None:
    """Lead the gradient of a tensor to the map that it stands for."""
    if gradient is not None:
        store.add_gradient(Store.of(gradient, store.kind).array)


def _materialise_backward(x: Store, out: Store) -> list[Tensor]:
    """Lead the gradient of a materialised map to the map that was read."""
    x.add_gradient(out.take_gradient_array().reshape(x.array.shape))
    return []
