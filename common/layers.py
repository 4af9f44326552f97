"""What the layer tables of both networks share, in plain `torch.nn`.

`common/fast/__init__.py` has faster forms of these and of convolutions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNormReLU(nn.BatchNorm3d):
    """Batch norm with the ReLUs around it: [ReLU →] BN [→ + shortcut] [→ ReLU].

    Parameters
    ----------
    kernels : int
        Kernels of the feature map.
    relu_before, relu : bool
        Whether there is a ReLU before the batch norm, and one at the end.
    """

    def __init__(
        self, kernels: int, eps: float = 1e-5, *, relu_before: bool = False, relu: bool = True
    ) -> None:
        super().__init__(kernels, eps=eps)
        self.relu_before = relu_before
        self.relu = relu

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        x = super().forward(F.relu(x) if self.relu_before else x)
        x = x if shortcut is None else x + shortcut
        return F.relu(x) if self.relu else x


class ConvBNReLU(nn.Module):
    """3-D convolution → batch norm (eps 1e-3) → ReLU: the stems and the spectral collapse.

    Kernel sizes, strides and paddings are in the order (rows, cols, bands).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple, **conv) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, **conv)
        self.bn = BatchNormReLU(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class WeightedSum(nn.Module):
    """Feature maps times a weight per patch and kernel, added up: x₁ w₁ + x₂ w₂ + … [+ shortcut].

    What the weights are is for a subclass to say: `weights` gets the maps' global averages over
    rows, cols and bands, ``(maps, batch, kernels)``, and returns as many weights.
    """

    def weights(self, averages: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, *maps: Tensor, shortcut: Tensor | None = None) -> Tensor:
        averages = torch.stack([x.mean(dim=(2, 3, 4), dtype=_wide(x.dtype)) for x in maps])
        weights = self.weights(averages)[..., None, None, None]
        total = sum(x * w for x, w in zip(maps, weights, strict=True))
        return (total if shortcut is None else shortcut + total).to(maps[0].dtype)


class GatedSum(WeightedSum):
    """The same with weights between 0 and 1: a gate per kernel.

    A gate sees its kernel's global average and those of the two neighbouring kernels: it is the
    sigmoid of a 1-D convolution of size 3, without bias, along the kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, 1, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as torch.nn.Conv1d does

    def weights(self, averages: Tensor) -> Tensor:
        """Gates of ``(maps, batch, kernels)`` averages, as many."""
        neighbours = F.pad(averages, (1, 1)).unfold(-1, 3, 1)
        return (neighbours @ self.weight.flatten()).sigmoid()


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Type to sum up in."""
    return torch.promote_types(dtype, torch.float32)


def check_patches(network: nn.Module, arguments: tuple[Tensor]) -> None:
    """Raise ValueError unless patches ``(batch, 1, P, P, bands)`` have odd P, 5 at least.

    Others have no central pixel, or fewer pixels than the spatial convolutions reach over.
    """
    (patches,) = arguments
    channels, rows, cols = patches.shape[1:4]
    if channels != 1 or rows != cols or rows % 2 == 0 or rows < 5:
        raise ValueError(
            f"patches are {tuple(patches.shape)}; they must be (batch, 1, P, P, bands), P odd and "
            f"at least 5"
        )


def kernels_as_bands(x: Tensor) -> Tensor:
    """Read the kernels of a collapsed feature map as a new band axis.

    ``(batch, kernels, rows, cols, 1)`` becomes ``(batch, 1, rows, cols, kernels)``: the step
    between the spectral and the spatial half of both networks.
    """
    return x.transpose(1, 4)


def spectral_length(bands: int) -> int:
    """Length of the band axis after the first convolution: 7 bands wide, stride 2, no padding."""
    return (bands - 7) // 2 + 1
