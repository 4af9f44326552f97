"""SAE: stacked auto-encoders on single spectra, one of the systems that SSRN's paper compares.

Chen, Lin, Zhao, Wang, Gu, "Deep Learning-Based Classification of Hyperspectral Data", IEEE J-STARS
2014, doi 10.1109/JSTARS.2014.2329330, in the spectral form and the sizes that SSRN's authors ran.
Each layer is first trained alone, without labels, to reproduce its own input, the training pixels'
spectra or what the layers before make of them; then all are trained together to classify.  Chen
trains by plain gradient descent for hundreds of thousands of epochs, here it is Adam.

Run this file to train: ``python SAE.py -d UP``.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import main, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SAE",
    epoch=200,
    iter=3,
    patch=3,  # of which it sees the central pixel; the share of test patches with training pixels
    # and the buffer of --split disjoint depend on it
    kernel=60,
    valid_split=0.9,
    optimizer="adam",
    lr=1e-3,
    batch_size=16,
    preprocess="range",
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import check_patches

LAYERS = 4


class SAE(nn.Module):
    """The whole network, from a patch's central spectrum to the logits.

    Parameters
    ----------
    bands : int
        Bands B of a patch.
    classes : int
        Classes C.
    kernels : int
        Units of each of the `LAYERS` layers.

    Maps float patches ``(batch, 1, P, P, bands)``, P odd and at least 5, to logits
    ``(batch, classes)``.
    """

    preprocess = "range"  # what is reproduced must lie between 0 and 1, as sigmoids do
    pretraining_epochs = 200  # of each layer

    def __init__(self, bands: int, classes: int, kernels: int = 60) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_patches)
        sizes = [bands] + [kernels] * LAYERS
        self.encoders = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.classifier = nn.Linear(kernels, classes)
        for encoder in self.encoders:
            bound = 4 * (6 / (encoder.in_features + encoder.out_features)) ** 0.5
            nn.init.uniform_(encoder.weight, -bound, bound)
            nn.init.zeros_(encoder.bias)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, patches: Tensor) -> Tensor:
        centre = patches.shape[2] // 2
        x = patches[:, 0, centre, centre]  # B
        for encoder in self.encoders:
            x = encoder(x).sigmoid()  # K
        return self.classifier(x)

    def autoencoders(self) -> Iterator["Autoencoder"]:
        """The layers in order, each as what it is in pretraining."""
        return map(Autoencoder, self.encoders)


class Autoencoder(nn.Module):
    """A layer and its way back: the same weights, transposed, and a bias of its own."""

    def __init__(self, encoder: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros_like(encoder.weight[0]))

    def encode(self, x: Tensor) -> Tensor:
        """What the layer makes of its input: (batch, in) becomes (batch, out)."""
        return self.encoder(x).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Cross-entropy of input and reconstruction, added up over features: mean over a batch."""
        logits = F.linear(self.encode(x), self.encoder.weight.t(), self.bias)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


if __name__ == "__main__":
    sys.exit(main(SAE, DEFAULTS))
