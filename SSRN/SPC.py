"""SPC: the spectral half of SSRN alone, one of the systems that its paper compares.

The paper's figure of the network has two boxes, spectral and spatial feature learning.  That SPC
is the first of them, with an average over the patch and SSRN's head, is a reading of ours: no
public code names it.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python SPC.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SPC",
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

from common.layers import ConvBNReLU, check_patches, kernels_as_bands, spectral_length
from SSRN.SSRN import ResidualBlock


class SPC(nn.Module):
    """The whole network, from the patch to the logits.

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
        self.spectral_block_1 = ResidualBlock(kernels, (1, 1, 7))
        self.spectral_block_2 = ResidualBlock(kernels, (1, 1, 7))
        self.spectral_collapse = ConvBNReLU(kernels, 128, (1, 1, spectral_length(bands)))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(128, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spectral(patches)  # 1 × P × P × 128
        return self.spatial(x)

    def spectral(self, patches: Tensor) -> Tensor:
        """Stem, blocks and collapse over the bands: every pixel by itself, in evaluation mode."""
        x = self.spectral_stem(patches)  # K × P × P × spectral_length(B)
        x = self.spectral_block_1(x)
        x = self.spectral_block_2(x)
        x = self.spectral_collapse(x)  # 128 × P × P × 1
        return kernels_as_bands(x)

    def spatial(self, x: Tensor) -> Tensor:
        """The head: from the features of a patch's pixels to logits."""
        x = x.mean(dim=(1, 2, 3))  # 128
        return self.classifier(self.dropout(x))


if __name__ == "__main__":
    sys.exit(main(SPC, DEFAULTS))
