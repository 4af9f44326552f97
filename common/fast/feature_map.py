"""What the fast layers hand from one to the next, and what anything else sees of it: a tensor."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class FeatureMap:
    """A feature map as one form of the layers keeps it, in its own layout and type.

    To anything but these layers, be it a function of PyTorch or a network's own code, it is the
    tensor (batch, channels, rows, cols, bands) that PyTorch's layer would have returned.  Once one
    has looked at that tensor, the fast layers read it too, no longer what the form had kept: what
    has become of it, be it a change in place or a hook on its gradient, counts.
    """

    _seen: Tensor | None = None

    def own(self) -> Tensor:
        """Return a tensor (batch, channels, rows, cols, bands) in any layout, for a look at it.

        Its type is the parameters'.  It may share the map's memory.
        """
        raise NotImplementedError

    @property
    def shape(self) -> torch.Size:
        """(batch, channels, rows, cols, bands)."""
        raise NotImplementedError

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is led back through it."""
        raise NotImplementedError

    @property
    def is_seen(self) -> bool:
        """Whether others have looked at it, so that it is a tensor from now on."""
        return self._seen is not None

    def tensor(self) -> Tensor:
        """Return the tensor that this map is, in any layout, only to read it."""
        return self.own() if self._seen is None else self._seen

    def seen(self) -> Tensor:
        """Return the tensor that this map is to others from now on: contiguous, not shared."""
        if self._seen is None:
            with torch.enable_grad():  # who looks at it first may only want to write a log
                self._seen = self.own().clone(memory_format=torch.contiguous_format)
        return self._seen

    def size(self, axis: int | None = None) -> torch.Size | int:
        return self.shape if axis is None else self.shape[axis]

    def dim(self) -> int:
        return 5

    @property
    def ndim(self) -> int:
        return 5

    def mean(self, *arguments, **keywords) -> Tensor:
        """Averages, which need no tensor of the map's size."""
        return self.tensor().mean(*arguments, **keywords)

    def __len__(self) -> int:
        return self.shape[0]

    def __getattr__(self, name: str):
        return getattr(self.seen(), name)

    @classmethod
    def __torch_function__(cls, function, kinds, arguments=(), keywords=None):
        arguments, keywords = tree_map(as_seen, (arguments, keywords or {}))
        return function(*arguments, **keywords)

    __hash__ = object.__hash__  # which __eq__ below would take away


def as_seen(x):
    """Return the tensor that a map is to others; anything else as it is."""
    return x.seen() if isinstance(x, FeatureMap) else x


def _operator(name: str):
    """Make a method of `FeatureMap` out of that of a tensor."""
    return lambda self, *others: getattr(self.seen(), name)(*map(as_seen, others))


_BOTH_WAYS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_OTHERS = ("neg", "abs", "getitem", "setitem", "iter", "bool")
for _name in (
    *(f"{way}{name}" for name in _BOTH_WAYS for way in ("", "r", "i")), *_COMPARISONS, *_OTHERS
):  # fmt: skip
    if hasattr(Tensor, f"__{_name}__"):
        setattr(FeatureMap, f"__{_name}__", _operator(f"__{_name}__"))


def as_tensor(x):
    """Return the tensor that a map is, in any layout; anything else as it is."""
    return x.tensor() if isinstance(x, FeatureMap) else x
