"""A2S2K-ResNet: attention-based adaptive spectral-spatial kernel residual network.

Roy, Manna, Song, Bruzzone, "Attention-Based Adaptive Spectral-Spatial Kernel ResNet for
Hyperspectral Image Classification", IEEE TGRS 2021, doi 10.1109/TGRS.2020.3043267.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python A2S2KResNet.py -d IN -e 200 -i 3 -p 3 -vs 0.9 -o adam``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="A2S2KResNet",
    epoch=200,
    iter=3,
    patch=3,
    kernel=24,
    valid_split=0.9,
    optimizer="adam",
    lr=1e-3,
    batch_size=16,
    attention="paper",
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import (
    BatchNormReLU,
    ConvBNReLU,
    GatedSum,
    WeightedSum,
    check_patches,
    kernels_as_bands,
    spectral_length,
)


class A2S2KResNet(nn.Module):
    """The whole network, in the paper's order.

    Parameters
    ----------
    bands : int
        Bands B of a patch, at least 7.
    classes : int
        Classes C.
    kernels : int
        Kernels K of every stage but the spectral collapse, which has 128.
    attention : {"paper", "official"}
        How the two selective kernels are weighed; see `KernelAttention`.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 5, to logits
    ``(batch, classes)``.
    """

    def __init__(
        self, bands: int, classes: int, kernels: int = 24, attention: str = "paper"
    ) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        self.kernel_1x1x7 = ConvBNReLU(1, kernels, (1, 1, 7), stride=(1, 1, 2))
        self.kernel_3x3x7 = ConvBNReLU(1, kernels, (3, 3, 7), stride=(1, 1, 2), padding=(1, 1, 0))
        self.attention = KernelAttention(kernels, bands // 2, attention)

        self.spectral_block_1 = ResidualBlock(kernels, (1, 1, 7), form="start")
        self.spectral_block_2 = ResidualBlock(kernels, (1, 1, 7), form="middle")
        self.spectral_collapse = ConvBNReLU(kernels, 128, (1, 1, spectral_length(bands)))

        self.spatial_stem = ConvBNReLU(1, kernels, (3, 3, 128))
        self.spatial_block_1 = ResidualBlock(kernels, (3, 3, 1), form="middle")
        self.spatial_block_2 = ResidualBlock(kernels, (3, 3, 1), form="end")
        self.classifier = nn.Linear(kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        branch_1x1x7, branch_3x3x7 = self.kernel_1x1x7(patches), self.kernel_3x3x7(patches)
        x = self.attention(branch_1x1x7, branch_3x3x7)  # K × P × P × spectral_length(B)
        x = self.spectral_block_1(x)
        x = self.spectral_block_2(x)
        x = self.spectral_collapse(x)  # 128 × P × P × 1
        x = self.spatial_stem(kernels_as_bands(x))  # K × P-2 × P-2 × 1
        x = self.spatial_block_1(x)
        x = self.spatial_block_2(x)
        x = x.mean(dim=(2, 3, 4))  # K
        return self.classifier(x)


class KernelAttention(WeightedSum):
    """Selective kernels: weigh the two branches, kernel by kernel, and add them.

    ``attention="paper"`` has one excitation layer per branch.  ``"official"`` repeats the
    released code, which applies one and the same layer to both, so that the softmax over the
    branches always gives 0.5 / 0.5.
    """

    def __init__(self, kernels: int, squeezed: int, attention: str) -> None:
        super().__init__()
        if attention not in ("paper", "official"):
            raise ValueError(f"attention is {attention!r}; it must be 'paper' or 'official'")
        self.squeeze = nn.Conv3d(kernels, squeezed, 1)
        self.excite_3x3x7 = nn.Conv3d(squeezed, kernels, 1)
        self.excite_1x1x7 = nn.Conv3d(squeezed, kernels, 1) if attention == "paper" else None

    def weights(self, averages: Tensor) -> Tensor:
        """Softmax over the branches (1,1,7) and (3,3,7): ``(2, batch, kernels)``."""
        s = averages.sum(dim=0)[..., None, None, None]  # the average of U, the branches' sum
        z = F.relu(self.squeeze(s))
        shared = self.excite_1x1x7 is None  # "official"
        excite_1x1x7 = self.excite_3x3x7 if shared else self.excite_1x1x7
        return torch.stack([excite_1x1x7(z), self.excite_3x3x7(z)]).softmax(dim=0).flatten(2)


class ResidualBlock(nn.Module):
    """Improved residual block with EFR, in one of the three forms of the iResNet.

    A "start" block normalises after its second convolution; a "middle" block only before its
    convolutions; an "end" block also after the addition.  The ReLU between the first
    convolution and its batch norm stands in the published code.
    """

    def __init__(self, kernels: int, kernel_size: tuple[int, int, int], form: str) -> None:
        super().__init__()
        if form not in ("start", "middle", "end"):
            raise ValueError(f"form is {form!r}; it must be 'start', 'middle' or 'end'")
        self.form = form
        if form != "start":
            self.bn0 = BatchNormReLU(kernels)
        self.conv1 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        self.bn1 = BatchNormReLU(kernels, relu_before=True)
        self.conv2 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        if form != "middle":
            self.bn2 = BatchNormReLU(kernels, relu=form == "end")
        self.efr = EFR()

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.form == "start" else self.bn0(x)  # BN → ReLU
        out = self.bn1(self.conv1(out))  # conv → ReLU → BN → ReLU
        out = self.conv2(out)
        if self.form == "start":
            out = self.bn2(out)  # BN
        out = self.efr(out, shortcut=x)
        return self.bn2(out) if self.form == "end" else out  # BN → ReLU


class EFR(GatedSum):
    """Efficient feature recalibration: a gate per kernel, then the shortcut is added.

    The gate sees its kernel's global average and those of the two neighbouring kernels.
    """


if __name__ == "__main__":
    sys.exit(main(A2S2KResNet, DEFAULTS))
