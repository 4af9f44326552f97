"""Both networks as the released code writes them: `nn.Conv3d`, one operation after another.

They stand in for the released code in benchmarks and pass the same golden tests as the networks of
this repository, from which they are independent; parameters have the same names.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainA2S2KResNet(nn.Module):
    """A2S2K-ResNet with layers and order of the released code."""

    def __init__(self, bands: int, classes: int, attention: str = "paper") -> None:
        super().__init__()
        self.kernel_1x1x7 = stem(1, 24, (1, 1, 7), stride=(1, 1, 2))
        self.kernel_3x3x7 = stem(1, 24, (3, 3, 7), stride=(1, 1, 2), padding=(1, 1, 0))
        self.attention = nn.Module()
        self.attention.squeeze = nn.Conv3d(24, bands // 2, 1)
        self.attention.excite_3x3x7 = nn.Conv3d(bands // 2, 24, 1)
        if attention == "paper":
            self.attention.excite_1x1x7 = nn.Conv3d(bands // 2, 24, 1)
        self.spectral_block_1 = EFRBlock((1, 1, 7), "start")
        self.spectral_block_2 = EFRBlock((1, 1, 7), "middle")
        self.spectral_collapse = stem(24, 128, (1, 1, (bands - 7) // 2 + 1))
        self.spatial_stem = stem(1, 24, (3, 3, 128))
        self.spatial_block_1 = EFRBlock((3, 3, 1), "middle")
        self.spatial_block_2 = EFRBlock((3, 3, 1), "end")
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        branches = [conv_bn_relu(self.kernel_1x1x7, x), conv_bn_relu(self.kernel_3x3x7, x)]
        branches = torch.stack(branches, dim=1)
        u = branches.sum(dim=1)
        z = F.relu(self.attention.squeeze(F.adaptive_avg_pool3d(u, 1)))
        second = self.attention.excite_3x3x7
        first = getattr(self.attention, "excite_1x1x7", second)
        weights = torch.stack([first(z), second(z)], dim=1).softmax(dim=1)
        x = (branches * weights).sum(dim=1)
        x = self.spectral_block_2(self.spectral_block_1(x))
        x = conv_bn_relu(self.spectral_collapse, x).permute(0, 4, 2, 3, 1)
        x = conv_bn_relu(self.spatial_stem, x)
        x = self.spatial_block_2(self.spatial_block_1(x))
        return self.classifier(self.pool(x).flatten(1))


class EFRBlock(nn.Module):
    """Residual block of the improved residual network, with EFR."""

    def __init__(self, size: tuple[int, int, int], form: str) -> None:
        super().__init__()
        self.form = form
        padding = tuple(n // 2 for n in size)
        if form != "start":
            self.bn0 = nn.BatchNorm3d(24)
        self.conv1 = nn.Conv3d(24, 24, size, padding=padding)
        self.bn1 = nn.BatchNorm3d(24)
        self.conv2 = nn.Conv3d(24, 24, size, padding=padding)
        if form != "middle":
            self.bn2 = nn.BatchNorm3d(24)
        self.efr = nn.Module()
        self.efr.weight = nn.Parameter(torch.zeros(1, 1, 3))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        if self.form != "start":
            out = F.relu(self.bn0(out))
        out = F.relu(self.conv1(out))
        out = self.conv2(F.relu(self.bn1(out)))
        if self.form == "start":
            out = self.bn2(out)
        average = F.adaptive_avg_pool3d(out, 1).flatten(2).transpose(1, 2)
        gate = F.conv1d(average, self.efr.weight, padding=1).sigmoid()
        out = x + out * gate.transpose(1, 2)[..., None, None].expand_as(out)
        return F.relu(self.bn2(out)) if self.form == "end" else out


class PlainSSRN(nn.Module):
    """SSRN in the form that the A2S2K-ResNet comparison used."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.spectral_stem = stem(1, 24, (1, 1, 7), stride=(1, 1, 2))
        self.spectral_block_1 = SSRNBlock((1, 1, 7))
        self.spectral_block_2 = SSRNBlock((1, 1, 7))
        self.spectral_collapse = stem(24, 128, (1, 1, (bands - 7) // 2 + 1))
        self.spatial_stem = stem(1, 24, (3, 3, 128))
        self.spatial_block_1 = SSRNBlock((3, 3, 1))
        self.spatial_block_2 = SSRNBlock((3, 3, 1))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = conv_bn_relu(self.spectral_stem, x)
        x = self.spectral_block_2(self.spectral_block_1(x))
        x = conv_bn_relu(self.spectral_collapse, x).permute(0, 4, 2, 3, 1)
        x = conv_bn_relu(self.spatial_stem, x)
        x = self.spatial_block_2(self.spatial_block_1(x))
        return self.classifier(self.dropout(self.pool(x).flatten(1)))


class SSRNBlock(nn.Module):
    """Residual block of SSRN."""

    def __init__(self, size: tuple[int, int, int]) -> None:
        super().__init__()
        padding = tuple(n // 2 for n in size)
        self.conv1 = nn.Conv3d(24, 24, size, padding=padding)
        self.bn1 = nn.BatchNorm3d(24)
        self.conv2 = nn.Conv3d(24, 24, size, padding=padding)
        self.bn2 = nn.BatchNorm3d(24)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(F.relu(self.conv1(x))))
        return F.relu(self.bn2(self.conv2(out)) + x)


def stem(in_channels: int, out_channels: int, size: tuple, **conv) -> nn.ModuleDict:
    """Convolution and batch norm, for `conv_bn_relu`."""
    conv = nn.Conv3d(in_channels, out_channels, size, **conv)
    return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm3d(out_channels, eps=1e-3)})


def conv_bn_relu(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """Convolution → batch norm → ReLU."""
    return F.relu(layers["bn"](layers["conv"](x)))


PLAIN = {"A2S2KResNet": PlainA2S2KResNet, "SSRN": PlainSSRN}
