"""The layers' fast form in float32 (and float64) on the CPU.

Between the layers of a network go `Map`s instead of tensors: feature maps that lie in memory as
`common/maps.py` says, and that are worked out as late as can be.  PyTorch's autograd sees of each a
token, a tensor without content: it calls the backward passes in the right order and takes the
gradients of the parameters, while those of the maps go from layer to layer beside it, not worked out
either.  To any function of PyTorch but these layers a map is the tensor it stands for.
"""

import math

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from common import convolution, lanes
from common.convolution import KERNELS
from common.layers import BatchNormReLU, WeightedSum
from common.maps import Gradient, Norm
from common.vectors import LANES


class Store:
    """A feature map: its numbers, how they are read, and the gradients that reached it so far.

    Attributes
    ----------
    array : float array (rows, cols, kernels, bands, lanes)
    used : int
        Lanes that hold patches; what the others hold is of no effect.
    norm : Norm
    gradients : list of Gradient
    """

    def __init__(self, array: np.ndarray, used: int, norm: Norm | None = None) -> None:
        self.array, self.used = array, used
        self.norm = norm or Norm(
            False, _nothing(array), _nothing(array), *_floors(array, False, False)
        )
        self.gradients, self.weighed = [], None

    @property
    def flat(self) -> np.ndarray:
        return self.array.reshape(-1)

    def worked_out(self) -> np.ndarray:
        """Return the map as it is read."""
        if not self.norm.used:
            return self.array
        out = _empty_like(self.array)
        lanes.work_out(out.shape, tuple(self.norm), self.flat, out.reshape(-1), _threads())
        return out

    def add_gradient(self, array: np.ndarray, **how) -> None:
        """Add a gradient, of which `how` says how far it is worked out; see `Gradient`."""
        none = _nothing(array)
        norm = Norm(False, none, none, *_floors(array, False, False))
        fields = {"weighted": False, "weight": none, "constant": none, "norm": norm}
        fields |= {"map": none, "slope": none, "shift": none} | how
        self.gradients.append(Gradient(array=array.reshape(-1), **fields))

    def take_gradient(self) -> Gradient:
        """Return the sum of the gradients, worked out only where there are several."""
        if len(self.gradients) != 1:
            array = self.take_gradient_array()
            self.add_gradient(array)
        return self.gradients.pop()

    def take_gradient_array(self, where_positive: np.ndarray | None = None) -> np.ndarray:
        """Return the sum of the gradients worked out; zero where an output is not positive."""
        left = sorted(self.gradients, key=_is_worked_out)
        self.gradients = []
        if not left:
            return np.zeros_like(self.array)
        total, masked = None, where_positive is not None
        if _is_worked_out(left[-1]) and (len(left) > 1 or not masked):
            total = left.pop().array
        while left:
            gradient, last, out = left.pop(), not left, _empty_like(self.array)
            lanes.work_out_gradient(
                self.array.shape, gradient.flat(), total is not None,
                gradient.array if total is None else total, masked and last,
                where_positive.reshape(-1) if masked else gradient.array, out.reshape(-1), _threads(),
            )  # fmt: skip
            total = out.reshape(-1)
        return total.reshape(self.array.shape)


class Map:
    """What a fast layer returns: a feature map and its token in PyTorch's graph."""

    def __init__(self, token: Tensor, store: Store) -> None:
        self.token, self.store = token, store

    @classmethod
    def of(cls, x: "Tensor | Map") -> "Map":
        """Return the map that a tensor (batch, kernels, rows, cols, bands) holds."""
        if isinstance(x, Map):
            return x
        store = Store(_as_array(x), len(x))
        return cls(_Enter.apply(x, store) if _needs_gradient(x) else x.new_zeros(()), store)

    def as_read(self) -> "Map":
        """Return the same map, worked out."""
        if not self.store.norm.used:
            return self
        store = Store(self.store.worked_out(), self.store.used)
        return Map(_WorkOut.apply(self.token, self.store, store), store)

    def tensor(self) -> Tensor:
        """Return the tensor (batch, kernels, rows, cols, bands) that this map stands for."""
        return _Leave.apply(self.token, self.store)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tensor(), name)

    def __len__(self) -> int:
        return self.store.used

    @classmethod
    def __torch_function__(cls, function, kinds, arguments=(), keywords=None):
        arguments = torch.utils._pytree.tree_map(_plain_tensor, arguments)
        return function(*arguments, **torch.utils._pytree.tree_map(_plain_tensor, keywords or {}))


def _plain_tensor(x):
    return x.tensor() if isinstance(x, Map) else x


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "getitem", "neg"):
    setattr(
        Map,
        f"__{_name}__",
        lambda self, *x, _n=f"__{_name}__": getattr(self.tensor(), _n)(*map(_plain_tensor, x)),
    )


class _Enter(torch.autograd.Function):
    """From a tensor to the token of a map."""

    @staticmethod
    def forward(ctx, x, store):
        ctx.store = store
        return x.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        return _as_tensor(ctx.store.take_gradient_array(), ctx.store.used), None


class _Leave(torch.autograd.Function):
    """From a map's token to the tensor."""

    @staticmethod
    def forward(ctx, token, store):
        ctx.store = store
        return _as_tensor(store.worked_out(), store.used)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        ctx.store.add_gradient(_as_array(gradient))
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


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map | Tensor:
    """`nn.Conv3d`; of the kinds that these networks do not use, PyTorch's own."""
    x, weight, bias, padding = Map.of(x), module.weight, module.bias, _padding(module)
    plain = module.dilation == (1, 1, 1) and module.groups == 1 and module.padding_mode == "zeros"
    if not plain or module.stride[:2] != (1, 1):
        return module._conv_forward(x.tensor(), weight, bias)
    (kernels, of_x, *size), stride, bands = weight.shape, module.stride[2], x.store.array.shape[3]
    if padding[2] == 0 and size[2] <= bands < size[2] + stride:
        # A kernel that fits once into the band axis sees each (band, kernel) as a kernel.
        if size == [1, 1, bands] and padding[:2] == (0, 0):
            return _product(x, weight, bias)
        tensor, weight = (
            t.movedim(4, 1).flatten(1, 2) for t in (x.tensor()[..., : size[2]], weight)
        )
        return F.conv2d(tensor, weight, bias, 1, padding[:2]).unsqueeze(4)
    gradient = x.token.requires_grad
    if kernels < KERNELS or (gradient and (stride > 1 or of_x < KERNELS)):
        return F.conv3d(x.tensor(), weight, bias, (1, 1, stride), padding)
    rows, cols, _, bands, count = x.store.array.shape
    sizes = [n + 2 * p - s + 1 for n, p, s in zip((rows, cols, bands), padding, size, strict=True)]
    shape = (*sizes[:2], kernels, -(-sizes[2] // stride), count)
    out = Store(_empty_array(shape, x.store.array.dtype), x.store.used)
    return Map(_Convolution.apply(x.token, weight, bias, x.store, out, padding, stride), out)


def _padding(module: nn.Conv3d) -> tuple[int, int, int]:
    if module.padding == "same":
        return tuple(size // 2 for size in module.kernel_size)
    return (0, 0, 0) if module.padding == "valid" else module.padding


class _Convolution(torch.autograd.Function):
    """`nn.functional.conv3d` with a stride along the bands only."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out, padding, stride):
        ctx.save_for_backward(weight)
        ctx.stores, ctx.how, ctx.has_bias = (x, out), (padding, stride), bias is not None
        _convolve(x, weight, bias, padding, stride, out.array)
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (weight,), (x, out), (padding, stride) = ctx.saved_tensors, ctx.stores, ctx.how
        size, dtype, of_x = tuple(weight.shape[2:]), x.array.dtype, x.array
        turned, back = weight.flip(2, 3, 4).transpose(0, 1), np.empty((0, 0, 0, 0, 0), dtype)
        if ctx.needs_input_grad[0]:  # the convolution of the output's gradient, turned around
            of_x = _empty_like(x.array)
            if size[:2] == (1, 1):
                back = _kernels_last(turned)
            else:
                array = out.take_gradient_array()
                out.add_gradient(array)
                around = tuple(s - 1 - p for s, p in zip(size, padding, strict=True))
                _convolve(Store(array, out.used), turned, None, around, 1, of_x)
        of_weight, of_bias = convolution.weight_gradient(
            x.array, tuple(x.norm), x.used, padding, size, stride, out.take_gradient().flat(),
            out.array.shape, back, of_x, _threads(),
        )  # fmt: skip
        if ctx.needs_input_grad[0]:
            x.add_gradient(of_x)
        kernels, of_kernels, rows, cols, bands = weight.shape
        of_weight = torch.from_numpy(of_weight).view(kernels, rows, cols, of_kernels, bands)
        of_bias = torch.from_numpy(of_bias) if ctx.has_bias else None
        return token, of_weight.permute(0, 3, 1, 2, 4), of_bias, None, None, None, None


def _convolve(
    x: Store, weight: Tensor, bias: Tensor | None, padding: tuple, stride: int, out: np.ndarray
) -> None:
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    convolution.convolve(
        x.array, tuple(x.norm), padding, tuple(weight.shape[2:]), stride, _kernels_last(weight),
        bias.numpy(), out, _threads(),
    )  # fmt: skip


def _kernels_last(weight: Tensor) -> np.ndarray:
    """Weights as `common/convolution.py` takes them: (kernels out, rows, cols, kernels in, bands)."""
    return weight.detach().permute(0, 2, 3, 1, 4).contiguous().numpy()


def _product(x: Map, weight: Tensor, bias: Tensor | None) -> Map:
    """Convolve with kernels of one row and col that fill the band axis."""
    x = x.as_read()
    rows, cols, _, _, count = x.store.array.shape
    shape = (rows, cols, len(weight), 1, count)
    out = Store(_empty_array(shape, x.store.array.dtype), x.store.used)
    return Map(_Product.apply(x.token, weight, bias, x.store, out), out)


class _Product(torch.autograd.Function):
    """`_product`: one product of matrices per place."""

    @staticmethod
    def forward(ctx, token, weight, bias, x, out):
        ctx.save_for_backward(weight)
        ctx.stores, ctx.has_bias = (x, out), bias is not None
        product = _matrices(out.array)
        torch.matmul(weight.flatten(1), _matrices(x.array), out=product)
        if bias is not None:
            product += bias[:, None]
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        (weight,), (x, out) = ctx.saved_tensors, ctx.stores
        matrix, gradient = weight.flatten(1), _matrices(out.take_gradient_array())
        if ctx.needs_input_grad[0]:
            of_x = _empty_like(x.array)
            torch.matmul(matrix.t(), gradient, out=_matrices(of_x))
            x.add_gradient(of_x)
        by_kernel = [
            t[:, :, : x.used].transpose(0, 1).flatten(1) for t in (gradient, _matrices(x.array))
        ]
        of_bias = by_kernel[0].sum(1) if ctx.has_bias else None
        return token, (by_kernel[0] @ by_kernel[1].t()).view_as(weight), of_bias, None, None


def _matrices(array: np.ndarray) -> Tensor:
    """Look at a map as matrices, one per place: (places, kernels * bands, lanes)."""
    rows, cols, kernels, bands, count = array.shape
    return torch.from_numpy(array).view(rows * cols, kernels * bands, count)


def batch_norm_relu(
    module: nn.BatchNorm3d | BatchNormReLU, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone: one pass for the statistics, and a way to read.

    Only where a shortcut is added is the result worked out.
    """
    x = Map.of(x).as_read()
    relu_before, relu = (getattr(module, name, False) for name in ("relu_before", "relu"))
    floor, floor_out = _floors(x.store.array, relu_before, relu and shortcut is None)
    parameters = (t.detach().numpy() for t in (module.weight, module.bias))
    *statistics, scale, offset = lanes.batch_norm(
        x.store.array, x.store.used, floor, *parameters, module.running_mean.numpy(),
        module.running_var.numpy(), module.momentum if module.training else 0.0, module.eps, _threads(),
    )  # fmt: skip
    module.num_batches_tracked += module.training
    store = Store(x.store.array, x.store.used, Norm(True, scale, offset, floor, floor_out))
    how = x.store, store, statistics, module.training
    normalised = Map(_Normalise.apply(x.token, module.weight, module.bias, *how), store)
    return normalised if shortcut is None else _add(normalised, Map.of(shortcut), relu)


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
        gradient = out.take_gradient()
        of_weight, of_bias, slope, shift = lanes.batch_norm_backward(
            x.array, x.used, tuple(out.norm), *ctx.statistics, ctx.training, gradient.flat(),
            _threads(),
        )  # fmt: skip
        x.gradients.append(gradient._replace(norm=out.norm, map=x.flat, slope=slope, shift=shift))
        of_parameters = (torch.from_numpy(g) for g in (of_weight, of_bias))
        return token, *of_parameters, None, None, None, None


def _add(x: Map, y: Map, relu: bool) -> Map:
    """relu?(x + y)."""
    out = Store(_empty_like(x.store.array), x.store.used)
    lanes.add(
        out.array.shape, tuple(x.store.norm), x.store.flat, tuple(y.store.norm), y.store.flat,
        *_floors(out.array, relu), out.flat, _threads(),
    )  # fmt: skip
    return Map(_Add.apply(x.token, y.token, x.store, y.store, out, relu), out)


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
    maps = [Map.of(x) for x in maps]
    tokens, averages = zip(*(_Average.apply(x.token, x.store) for x in maps), strict=True)
    weights = list(module.weights(torch.stack(averages)))
    if shortcut is not None:
        maps.append(Map.of(shortcut))
        tokens = (*tokens, maps[-1].token)
        weights.append(None)
    stores = [x.store for x in maps]
    out = Store(_empty_like(stores[0].array), stores[0].used)
    return Map(_Weigh.apply(*tokens, *weights, stores, out), out)


class _Average(torch.autograd.Function):
    """A map's token as it is, and the map's averages (batch, kernels).

    Their gradients meet here: `_Weigh`, alone to use the map, leaves its own in `weighed`.
    """

    @staticmethod
    def forward(ctx, token, store):
        ctx.store = store
        return token.new_zeros(()), _patch_sums(store) / _numbers(store)

    @staticmethod
    @once_differentiable
    def backward(ctx, token, of_averages):
        store, (gradient, weight) = ctx.store, ctx.store.weighed
        constant = _per_lane(of_averages / _numbers(store), store)
        store.add_gradient(gradient, weighted=True, weight=weight, constant=constant)
        store.weighed = None
        return token, None


class _Weigh(torch.autograd.Function):
    """x * weight + y * weight_y, weights (batch, kernels), None for 1."""

    @staticmethod
    def forward(ctx, token, token_y, weight, weight_y, stores, out):
        x, y = stores
        ctx.stores, ctx.weights = (x, y, out), [_per_lane(w, x) for w in (weight, weight_y)]
        lanes.weigh(
            out.array.shape, tuple(x.norm), x.flat, ctx.weights[0], tuple(y.norm), y.flat, ctx.weights[1], out.flat,
            _threads(),
        )  # fmt: skip
        return token.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx, token):
        x, y, out = ctx.stores
        gradient = out.take_gradient_array()
        x.weighed, of_y = (gradient, ctx.weights[0]), None
        if ctx.needs_input_grad[3]:
            y.weighed, of_y = (gradient, ctx.weights[1]), _patch_sums(y, gradient)
        else:
            y.add_gradient(gradient)
        return token, token, _patch_sums(x, gradient), of_y, None, None


def _patch_sums(x: Store, y: np.ndarray | None = None) -> Tensor:
    """Sum of a map, or of its product with an array, over each patch: (batch, kernels)."""
    sums = np.zeros((_threads(), x.array.shape[2], x.array.shape[4]), x.array.dtype)
    times = y is not None
    lanes.patch_sums(
        x.array.shape, tuple(x.norm), x.flat, times, y.reshape(-1) if times else x.flat, sums
    )
    return torch.from_numpy(sums.sum(0)).t()[: x.used]


def _numbers(x: Store) -> int:
    """How many numbers of each kernel a patch has."""
    rows, cols, _, bands, _ = x.array.shape
    return rows * cols * bands


def _per_lane(weights: Tensor | None, x: Store) -> np.ndarray:
    """Weights (batch, kernels), or ones, as a flat array (kernels, lanes)."""
    array = np.ones((x.array.shape[2], x.array.shape[4]), x.array.dtype)
    if weights is not None:
        array[:, : x.used] = weights.detach().numpy().T
    return array.reshape(-1)


def _needs_gradient(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _threads() -> int:
    return numba.get_num_threads()


def _is_worked_out(gradient: Gradient) -> bool:
    return not gradient.weighted and not gradient.norm.used


def _empty_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room for a map, from PyTorch's allocator: it begins at a line of the cache."""
    return torch.empty(shape, dtype=getattr(torch, dtype.name)).numpy()


def _empty_like(array: np.ndarray) -> np.ndarray:
    return _empty_array(array.shape, array.dtype)


def _as_array(x: Tensor) -> np.ndarray:
    """Copy a tensor (batch, kernels, rows, cols, bands) into (rows, cols, kernels, bands, lanes)."""
    batch, kernels, rows, cols, bands = x.shape
    count = -(-batch // LANES) * LANES
    make = torch.empty if count == batch else torch.zeros
    array = make(rows, cols, kernels, bands, count, dtype=x.dtype)
    array[..., :batch].copy_(x.detach().permute(2, 3, 1, 4, 0))
    return array.numpy()


def _as_tensor(array: np.ndarray, used: int) -> Tensor:
    """Look at a map as a tensor (batch, kernels, rows, cols, bands)."""
    return torch.from_numpy(array).permute(4, 2, 0, 1, 3)[:used]


def _nothing(array: np.ndarray) -> np.ndarray:
    """No numbers of an array's type, where a compiled function asks for an array it will not use."""
    return np.empty(0, array.dtype)


def _floors(array: np.ndarray, *relus: bool) -> list[np.floating]:
    """What ReLUs, or none, leave at least, in the type of an array."""
    return [array.dtype.type(0 if relu else -math.inf) for relu in relus]
