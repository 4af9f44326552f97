"""SSRN in the form that its authors released in Keras, with trained weights.

Zhong, Li, Luo, Chapman, "Spectral-Spatial Residual Network for Hyperspectral Image
Classification: A 3-D Deep Learning Framework", IEEE TGRS 2018, doi 10.1109/TGRS.2017.2755542;
code and weights: github.com/zilongzhong/SSRN.  Other than the paper's figure it has one spectral
and one spatial block, whose batch norms stand before the convolutions, and a learned shortcut in
the spatial one.  ``released.py`` tests the authors' weights in it.

Axes are (batch, kernels, rows, cols, bands); a convolution's size is (rows, cols, bands).
Run this file to train: ``python SSRNKeras.py -d UP``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SSRNKeras",
    iter=3,
    patch=3,
    kernel=24,
    recipe="authors",  # has defaults of its own: see common/recipe.py
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

EPS, MOMENTUM = 1e-3, 0.01  # of all batch norms: Keras's epsilon, and 1 - its momentum of 0.99


class SSRNKeras(nn.Module):
    """The whole network, in the released code's order.

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
        self.spectral_block = ResidualBlock(kernels, (1, 1, 7), learned_shortcut=False)
        self.spectral_bn_1 = BatchNormReLU(kernels, EPS)
        self.spectral_bn_2 = BatchNormReLU(kernels, EPS)  # two in a row stand in the released code
        self.spectral_collapse = ConvBNReLU(kernels, 128, (1, 1, spectral_length(bands)))

        self.spatial_stem = ConvBNReLU(1, kernels, (3, 3, 128))
        self.spatial_block = ResidualBlock(kernels, (3, 3, 1), learned_shortcut=True)
        self.spatial_bn_1 = BatchNormReLU(kernels, EPS)
        self.spatial_bn_2 = BatchNormReLU(kernels, EPS)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(kernels, classes)
        self.apply(initialise_as_keras)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spectral(patches)  # 1 × P × P × 128
        x = self.spatial_stem(x)  # K × P-2 × P-2 × 1
        return self.spatial(x)

    def spectral(self, patches: Tensor) -> Tensor:
        """Stem, block and collapse over the bands: every pixel by itself, in evaluation mode."""
        x = self.spectral_stem(patches)  # K × P × P × spectral_length(B)
        x = self.spectral_block(x)
        x = self.spectral_bn_2(self.spectral_bn_1(x))
        x = self.spectral_collapse(x)  # 128 × P × P × 1
        return kernels_as_bands(x)

    def spatial(self, x: Tensor) -> Tensor:
        """Block over rows and columns and the head: from a patch's stem output to logits."""
        x = self.spatial_block(x)
        x = self.spatial_bn_2(self.spatial_bn_1(x))
        x = x.mean(dim=(2, 3, 4))  # K
        return self.classifier(self.dropout(x))


class ResidualBlock(nn.Module):
    """Residual block, spectral or spatial by the size of its convolutions.

    Its input has been through batch norm and ReLU already, those of the stem before it.
    """

    def __init__(
        self, kernels: int, kernel_size: tuple[int, int, int], learned_shortcut: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        self.bn = BatchNormReLU(kernels, EPS)
        self.conv2 = nn.Conv3d(kernels, kernels, kernel_size, padding="same")
        self.shortcut = nn.Conv3d(kernels, kernels, 1) if learned_shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv1(x))  # conv → BN → ReLU
        return self.conv2(out) + self.shortcut(x)


def initialise_as_keras(module: nn.Module) -> None:
    """Give a layer Keras's initial weights ("he_normal", biases 0) and batch norms its momentum."""
    if isinstance(module, nn.BatchNorm3d):
        module.momentum = MOMENTUM
    elif isinstance(module, nn.Conv3d | nn.Linear):
        std = (2 / module.weight[0].numel()) ** 0.5
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(module.bias)


if __name__ == "__main__":
    sys.exit(main(SSRNKeras, DEFAULTS))
