"""HybridSN: 3-D convolutions over spectra and neighbours, then a 2-D one over all their kernels.

Roy, Krishna, Dubey, Chaudhuri, "HybridSN: Exploring 3-D-2-D CNN Feature Hierarchy for Hyperspectral
Image Classification", IEEE GRSL 2020, doi 10.1109/LGRS.2019.2918719, with fewer kernels.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(model="HybridSN", epoch=100, patch=4, kernel=None)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

from torch import Tensor, nn


class HybridSN(nn.Module):
    """Maps patches ``(batch, 1, P, P, bands)``, P = `patch_size`, to ``(batch, classes)``."""

    def __init__(self, bands: int, classes: int, patch_size: int) -> None:
        super().__init__()
        convolutions = [nn.Conv3d(1, 8, (3, 3, 7)), nn.ReLU(inplace=True)]
        convolutions += [nn.Conv3d(8, 16, (3, 3, 5)), nn.BatchNorm3d(16), nn.ReLU(inplace=True)]
        self.spectral = nn.Sequential(*convolutions)
        self.spatial = nn.Conv2d(16 * (bands - 10), 32, 3)
        self.classifier = nn.Sequential(
            nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(32 * (patch_size - 6) ** 2, classes)
        )

    def forward(self, patches: Tensor) -> Tensor:
        x = self.spectral(patches)  # 16 × P-4 × P-4 × B-10
        x = x.permute(0, 1, 4, 2, 3).flatten(1, 2)  # a map for each kernel and band
        return self.classifier(self.spatial(x))


if __name__ == "__main__":
    sys.exit(main(HybridSN, DEFAULTS))
