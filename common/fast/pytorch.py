"""PyTorch's own layers in the layout that is fastest on a GPU, for where no other form serves."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.fast.feature_map import FeatureMap
from common.layers import WeightedSum

CHANNELS_LAST = torch.channels_last_3d


class Map(FeatureMap):
    """A feature map as a tensor (batch, channels, rows, cols, bands), its kernels innermost.

    `sums`, where known, are what the layer before found in passing; see `gpu/norm_kernels.py`.
    """

    def __init__(self, x: Tensor, sums: Tensor | None = None) -> None:
        self.x, self.sums = x, sums

    @classmethod
    def of(cls, x: Tensor | FeatureMap) -> "Map":
        """Return a map as it is, or one of a tensor."""
        return (
            x
            if isinstance(x, Map) and not x.is_seen
            else cls(x.seen() if isinstance(x, Map) else x)
        )

    def own(self) -> Tensor:
        return self.x.float() if self.x.dtype == torch.bfloat16 else self.x

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    @property
    def requires_grad(self) -> bool:
        return self.x.requires_grad

    def mean(self, *arguments, **keywords) -> Tensor:
        if self.x.dtype == torch.bfloat16 and not self.is_seen:
            return self.x.mean(*arguments, **{"dtype": torch.float32} | keywords)
        return super().mean(*arguments, **keywords)

    def transpose(self, one: int, other: int) -> "Map | Tensor":
        """Exchange two axes; of kernels and bands, one of them single, nothing is moved."""
        if self.is_seen or {one, other} != {1, 4} or 1 not in (self.shape[1], self.shape[4]):
            return self.seen().transpose(one, other)
        return Map(self.x.transpose(one, other))


def conv(module: nn.Conv3d, x: Tensor | Map) -> Map:
    """`nn.Conv3d`, in the module's ``compute_dtype``."""
    return Map(convolved(module, Map.of(x).x))


def batch_norm_relu(
    module: nn.BatchNorm3d, x: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`BatchNormReLU`, or a batch norm alone."""
    own = (x,) if shortcut is None else (x, shortcut)
    return Map(type(module).forward(module, *(Map.of(z).x for z in own)))


def weighted_sum(
    module: WeightedSum, *maps: Tensor | Map, shortcut: Tensor | Map | None = None
) -> Map:
    """`WeightedSum`."""
    shortcut = None if shortcut is None else Map.of(shortcut).x
    return Map(type(module).forward(module, *(Map.of(x).x for x in maps), shortcut=shortcut))


def convolved(module: nn.Conv3d, x: Tensor) -> Tensor:
    """Convolve a tensor, to one with its kernels innermost."""
    # contiguous() would not do: with one input channel the two layouts look alike to it.
    x = x.to(module.compute_dtype, memory_format=CHANNELS_LAST)
    weight, bias = (t if t is None else t.to(x.dtype) for t in (module.weight, module.bias))
    if not is_2d(module, x.shape[4]):
        return module._conv_forward(x, weight, bias)
    return conv_2d(module, x, weight, bias)


def conv_2d(module: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with a kernel that fits once into the band axis: over rows and columns only.

    Each (band, kernel) pair of the input is a channel of a 2-D convolution, which is faster.
    """
    x = x[..., : weight.shape[4]]
    x, weight = (t.movedim(1, -1).flatten(3).movedim(-1, 1) for t in (x, weight))
    padding = module.padding if isinstance(module.padding, str) else module.padding[:2]
    return F.conv2d(x, weight, bias, module.stride[:2], padding).unsqueeze(4)


def is_2d(module: nn.Conv3d, bands: int) -> bool:
    """Whether the output is one band deep, and the convolution of the kinds used here."""
    depth, stride = module.kernel_size[2], module.stride[2]
    same, valid = (module.padding == name for name in ("same", "valid"))
    pads_bands = depth > 1 if same else not valid and module.padding[2] > 0
    return is_plain(module) and not pads_bands and depth <= bands < depth + stride


def is_plain(module: nn.Conv3d) -> bool:
    """Whether a convolution has no dilation, no groups and pads with zeros."""
    return module.dilation == (1, 1, 1) and module.groups == 1 and module.padding_mode == "zeros"
