"""What the layer tables of both networks share."""

from torch import Tensor, nn
from torch.nn import functional as F


class ConvBNReLU(nn.Module):
    """3-D convolution → batch norm (eps 1e-3) → ReLU: the stems and the spectral collapse.

    Kernel sizes, strides and paddings are in the order (rows, cols, bands).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple, **conv) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, **conv)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def kernels_as_bands(x: Tensor) -> Tensor:
    """Read the kernels of a collapsed feature map as a new band axis.

    ``(batch, kernels, rows, cols, 1)`` becomes ``(batch, 1, rows, cols, kernels)``: the step
    between the spectral and the spatial half of both networks.
    """
    return x.transpose(1, 4)


def spectral_length(bands: int) -> int:
    """Length of the band axis after the first convolution: 7 bands wide, stride 2, no padding."""
    return (bands - 7) // 2 + 1
