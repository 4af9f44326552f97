"""SPA: the spatial half of SSRN alone, one of the systems that its paper compares.

The paper's figure of the network has two boxes, spectral and spatial feature learning.  That SPA
is the second of them, on the bands themselves, with SSRN's head, is a reading of ours: no public
code names it.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python SPA.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SPA",
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

from common.layers import ConvBNReLU, check_patches
from SSRN.SSRN import ResidualBlock


class SPA(nn.Module):
    """The whole network, from the patch to the logits.

    Parameters
    ----------
    bands : int
        Bands B of a patch.
    classes : int
        Classes C.
    kernels : int
        Kernels K of every stage.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 5, to logits
    ``(batch, classes)``.
    """

    def __init__(self, bands: int, classes: int, kernels: int = 24) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        self.spatial_stem = ConvBNReLU(1, kernels, (3, 3, bands))
        self.spatial_block_1 = ResidualBlock(kernels, (3, 3, 1))
        self.spatial_block_2 = ResidualBlock(kernels, (3, 3, 1))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spatial_stem(patches)  # K × P-2 × P-2 × 1
        x = self.spatial_block_1(x)
        x = self.spatial_block_2(x)
        x = x.mean(dim=(2, 3, 4))  # K
        return self.classifier(self.dropout(x))


if __name__ == "__main__":
    sys.exit(main(SPA, DEFAULTS))
