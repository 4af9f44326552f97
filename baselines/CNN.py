"""CNN: a convolutional network on large patches, one of the systems that SSRN's paper compares.

As in the code of SSRN's authors, github.com/zilongzhong/SSRN, after Chen, Jiang, Li, Jia, Ghamisi,
"Deep Feature Extraction and Classification of Hyperspectral Images Based on Convolutional Neural
Networks", IEEE TGRS 2016, doi 10.1109/TGRS.2016.2584107: its first kernels see all bands at once,
so that nothing is left of the band axis.  Chen's own 3-D network would have 45 million parameters.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python CNN.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="CNN",
    epoch=200,
    iter=3,
    patch=13,
    kernel=32,
    valid_split=0.9,
    optimizer="adam",
    lr=1e-3,
    batch_size=16,
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import ConvBNReLU, check_patches


class CNN(nn.Module):
    """The whole network, from the patch to the logits.

    Parameters
    ----------
    bands : int
        Bands B of a patch.
    classes : int
        Classes C.
    kernels : int
        Kernels K of the first convolution; the second has twice, the third four times as many.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 27, to logits
    ``(batch, classes)``.  In the published form P is 27.
    """

    least_half_width = 13

    def __init__(self, bands: int, classes: int, kernels: int = 32) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        self.conv1 = ConvBNReLU(1, kernels, (4, 4, bands))
        self.conv2 = ConvBNReLU(kernels, 2 * kernels, (5, 5, 1))
        self.conv3 = ConvBNReLU(2 * kernels, 4 * kernels, (4, 4, 1))
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(4 * kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = F.max_pool3d(self.conv1(patches), (2, 2, 1))  # K × 12 × 12 × 1 where P is 27
        x = F.max_pool3d(self.conv2(x), (2, 2, 1))  # 2K × 4 × 4 × 1
        x = self.conv3(x).mean(dim=(2, 3, 4))  # 4K, of one place where P is 27
        return self.classifier(self.dropout(x))


if __name__ == "__main__":
    sys.exit(main(CNN, DEFAULTS))
