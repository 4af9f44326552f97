"""PyTorch's own convolutions, for the kinds that no faster form serves."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS_LAST = torch.channels_last_3d


def conv(module: nn.Conv3d, x: Tensor) -> Tensor:
    """`nn.Conv3d` with channels-last output, in the module's ``compute_dtype``."""
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
