"""CNNL: a long plain network, one of the systems that the paper of SSRN compares.

Nothing public defines it.  SSRN without its four shortcuts, all else the same, is a reading of
ours: it tests what the paper argues, that plain depth loses what shortcuts keep.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python CNNL.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="CNNL",
    epoch=200,
    iter=3,
    patch=3,
    kernel=24,
    valid_split=0.9,
    optimizer="adam",
    lr=1e-3,
    batch_size=16,
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

from torch import Tensor, nn

from common.layers import (
    BatchNormReLU,
    ConvBNReLU,
    check_patches,
    kernels_as_bands,
    spectral_length,
)


class CNNL(nn.Module):
    """The whole network, in SSRN's order.

    Parameters
    ----------
    bands : int
        Bands B of a patch, at least 7.
    classes : int
        Classes C.
    kernels : int
        Kernels of every stage but the spectral collapse, which has 128.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 5, to logits
    ``(batch, classes)``.
    """

    def __init__(self, bands: int, classes: int, kernels: int = 24) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        self.spectral_stem = ConvBNReLU(1, kernels, (1, 1, 7), stride=(1, 1, 2))
        self.spectral_block_1 = PlainBlock(kernels, (1, 1, 7))
        self.spectral_block_2 = PlainBlock(kernels, (1, 1, 7))
        self.spectral_collapse = ConvBNReLU(kernels, 128, (1, 1, spectral_length(bands)))

        self.spatial_stem = ConvBNReLU(1, kernels, (3, 3, 128))
        self.spatial_block_1 = PlainBlock(kernels, (3, 3, 1))
        self.spatial_block_2 = PlainBlock(kernels, (3, 3, 1))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spectral(patches)  # 1 × P × P × 128
        x = self.spatial_stem(x)  # K × P-2 × P-2 × 1
        return self.spatial(x)

    def spectral(self, patches: Tensor) -> Tensor:
        """Stem, blocks and collapse over the bands: every pixel by itself, in evaluation mode."""
        x = self.spectral_stem(patches)  # K × P × P × spectral_length(B)
        x = self.spectral_block_1(x)
        x = self.spectral_block_2(x)
        x = self.spectral_collapse(x)  # 128 × P × P × 1
        return kernels_as_bands(x)

    def spatial(self, x: Tensor) -> Tensor:
        """Blocks over rows and columns and the head: from a patch's stem output to logits."""
        x = self.spatial_block_1(x)
        x = self.spatial_block_2(x)
        x = x.mean(dim=(2, 3, 4))  # K
        return self.classifier(self.dropout(x))


class PlainBlock(nn.Module):
    """SSRN's residual block without its shortcut, spectral or spatial by its convolutions' size."""

    def __init__(self, kernels: int, kernel_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        self.bn1 = BatchNormReLU(kernels, relu_before=True)
        self.conv2 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        self.bn2 = BatchNormReLU(kernels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))  # conv → ReLU → BN → ReLU
        return self.bn2(self.conv2(out))  # conv → BN → ReLU


if __name__ == "__main__":
    sys.exit(main(CNNL, DEFAULTS))
