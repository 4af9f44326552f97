"""Feature maps in PyTorch's graph of operations.

Between the fast layers of a network go `Map`s instead of tensors.  PyTorch's autograd sees of each
a token, a tensor without content: it calls the backward passes in the right order and takes the
gradients of the parameters, while those of the maps go from layer to layer beside it.  To any
function of PyTorch but these layers a map is the tensor it stands for.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map

from common.store import Store


class Map:
    """What a fast layer returns: a feature map and its token in PyTorch's graph."""

    def __init__(self, token: Tensor, store: Store) -> None:
        self.token, self.store = token, store

    @classmethod
    def of(cls, x: "Tensor | Map", kind: torch.dtype | None = None) -> "Map":
        """Return the map that a tensor (batch, kernels, rows, cols, bands) holds.

        Its numbers are of the given kind, or of the tensor's.
        """
        if isinstance(x, Map):
            return x
        store = Store.of(x, kind)
        with_gradient = torch.is_grad_enabled() and x.requires_grad
        return cls(_Enter.apply(x, store) if with_gradient else x.new_zeros(()), store)

    def as_read(self) -> "Map":
        """Return the same map, worked out."""
        if not self.store.norm.used:
            return self
        store = Store(self.store.worked_out(), self.store.used)
        return Map(_WorkOut.apply(self.token, self.store, store), store)

    def tensor(self) -> Tensor:
        """Return the tensor (batch, kernels, rows, cols, bands) that this map stands for."""
        return _Leave.apply(self.token, self.store)

    def transpose(self, one: int, other: int) -> "Map | Tensor":
        """Exchange two axes; where kernels or bands are one, these two stay where they are."""
        rows, cols, kernels, bands, lanes_ = self.store.array.shape
        if {one, other} != {1, 4} or min(kernels, bands) > 1:
            return self.tensor().transpose(one, other)
        array = self.store.worked_out().reshape(rows, cols, bands, kernels, lanes_)
        store = Store(array, self.store.used)
        return Map(_WorkOut.apply(self.token, self.store, store), store)

    def __getattr__(self, name: str):
        return getattr(self.tensor(), name)

    def __len__(self) -> int:
        return self.store.used

    @classmethod
    def __torch_function__(cls, function, kinds, arguments=(), keywords=None):
        arguments, keywords = tree_map(as_tensor, (arguments, keywords or {}))
        return function(*arguments, **keywords)


def as_tensor(x):
    """Return the tensor that a map stands for; anything else as it is."""
    return x.tensor() if isinstance(x, Map) else x


def _operator(name: str):
    """Make a method of `Map` out of that of a tensor."""
    return lambda self, *others: getattr(self.tensor(), name)(*map(as_tensor, others))


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "neg", "getitem"):
    setattr(Map, f"__{_name}__", _operator(f"__{_name}__"))


class _Enter(torch.autograd.Function):
    """From a tensor to the token of a map."""

    @staticmethod
    def forward(ctx, x, store):
        ctx.store = store
        return x.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        return Store(ctx.store.take_gradient_array(), ctx.store.used).tensor(), None


class _Leave(torch.autograd.Function):
    """From the token of a map to the tensor."""

    @staticmethod
    def forward(ctx, token, store):
        ctx.store = store
        return store.tensor()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        ctx.store.add_gradient(Store.of(gradient, ctx.store.kind).array)
        return gradient.new_zeros(()), None


class _WorkOut(torch.autograd.Function):
    """From a map that is read through a norm to the same map worked out."""

    @staticmethod
    def forward(ctx, token, store, out):
        ctx.stores = store, out
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        store, out = ctx.stores
        store.add_gradient(out.take_gradient_array())
        return token, None, None
