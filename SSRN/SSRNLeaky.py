"""SSRN in the form of its first author's later PyTorch code, with trained weights.

Released beside SSTN (Zhong, Li, Ma, Li, Zheng, "Spectral-Spatial Transformer Network for
Hyperspectral Image Classification: A Factorized Architecture Search Framework", IEEE TGRS 2021,
doi 10.1109/TGRS.2021.3115699) at github.com/zilongzhong/SSTN.  Other than in the paper of SSRN
there are 28 kernels, LeakyReLUs before the batch norms, 9×9 patches, no dropout, and one
convolution over all bands and 3×3 pixels instead of the collapse to 128 kernels.  ``released.py``
tests the author's weights in it.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python SSRNLeaky.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SSRNLeaky",
    epoch=200,
    iter=3,
    patch=4,
    kernel=28,
    valid_split=0.9,
    optimizer="adam",
    lr=1e-3,
    batch_size=50,
    preprocess="centre",
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import check_patches, spectral_length


class SSRNLeaky(nn.Module):
    """The whole network, in the released code's order.

    Parameters
    ----------
    bands : int
        Bands B of a patch, at least 7.
    classes : int
        Classes C.
    kernels : int
        Kernels K of every stage.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 5, to logits
    ``(batch, classes)``.
    """

    def __init__(self, bands: int, classes: int, kernels: int = 28) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        self.spectral_stem = nn.Conv3d(1, kernels, (1, 1, 7), stride=(1, 1, 2), bias=False)
        self.spectral_block_1 = ResidualBlock(kernels, (1, 1, 7), bias=False)
        self.spectral_block_2 = ResidualBlock(kernels, (1, 1, 7), bias=False)

        all_bands = kernels * spectral_length(bands)
        self.spatial_stem = ConvLeakyBN(1, kernels, (3, 3, all_bands), bias=False)
        self.spatial_block_1 = ResidualBlock(kernels, (3, 3, 1), bias=True)
        self.spatial_block_2 = ResidualBlock(kernels, (3, 3, 1), bias=True)
        self.classifier = nn.Linear(kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spectral(patches)  # 1 × P × P × K spectral_length(B)
        x = self.spatial_stem(x)  # K × P-2 × P-2 × 1
        return self.spatial(x)

    def spectral(self, patches: Tensor) -> Tensor:
        """Stem and blocks over the bands: every pixel by itself, in evaluation mode.

        What they give is read as one band axis, the bands of the first kernel first.
        """
        x = F.leaky_relu(self.spectral_stem(patches))  # K × P × P × spectral_length(B)
        x = self.spectral_block_1(x)
        x = self.spectral_block_2(x)
        return x.movedim(1, 3).flatten(3).unsqueeze(1)

    def spatial(self, x: Tensor) -> Tensor:
        """Blocks over rows and columns and the head: from a patch's stem output to logits."""
        x = self.spatial_block_1(x)
        x = self.spatial_block_2(x)
        x = x.mean(dim=(2, 3, 4))  # K
        return self.classifier(x)


class ResidualBlock(nn.Module):
    """Residual block, spectral or spatial by the size of its convolutions."""

    def __init__(self, kernels: int, kernel_size: tuple[int, int, int], bias: bool) -> None:
        super().__init__()
        self.first = ConvLeakyBN(kernels, kernels, kernel_size, padding="same", bias=bias)
        self.second = ConvLeakyBN(kernels, kernels, kernel_size, padding="same", bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.second(self.first(x)) + x)


class ConvLeakyBN(nn.Module):
    """3-D convolution → LeakyReLU (slope 0.01) → batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple, **conv) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, **conv)
        self.bn = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.leaky_relu(self.conv(x)))


if __name__ == "__main__":
    sys.exit(main(SSRNLeaky, DEFAULTS))
