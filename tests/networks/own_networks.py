"""Networks as users write them, of more than the layers that this project knows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.layers import BatchNormReLU, ConvBNReLU, GatedSum, WeightedSum


class Spectrum(nn.Module):
    """A 1-D CNN over the central pixel's spectrum."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 7), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.MaxPool1d(2),
            nn.Conv1d(8, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(8, classes),
        )  # fmt: skip

    def forward(self, patches: Tensor) -> Tensor:
        centre = patches.shape[2] // 2
        return self.layers(patches[:, :, centre, centre])


class Mixture(nn.Module):
    """3-D, then 1-D, transposed and grouped convolutions, and a norm without statistics."""

    def __init__(self, bands: int, classes: int, kernels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, kernels, (3, 3, 7), stride=(1, 1, 2), bias=False)
        self.norms = nn.ModuleList(
            [
                nn.BatchNorm3d(kernels, affine=False),
                nn.BatchNorm3d(kernels, track_running_stats=False),
                nn.BatchNorm3d(kernels, momentum=None),
                nn.InstanceNorm3d(kernels),
                nn.GroupNorm(2, kernels),
            ]
        )
        self.block = nn.Conv3d(kernels, kernels, (1, 1, 7), padding="same")
        self.up = nn.ConvTranspose3d(kernels, kernels, (1, 1, 2), stride=(1, 1, 2))
        self.down = nn.Conv3d(kernels, kernels, (1, 1, 2), stride=(1, 1, 2), groups=2)
        self.spectral = nn.Conv1d(kernels, 2 * kernels, 5, padding=2)
        self.classifier = nn.Linear(2 * kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.stem(patches)
        for norm in self.norms:
            x = F.relu_(norm(self.block(input=x))) + x
        x = self.down(self.up(x))
        x = x.view(*x.size()[:2], -1, x.size(4)).mean(dim=2)
        return self.classifier(F.relu(self.spectral(x)).amax(dim=2))


class Transformer(nn.Module):
    """A small transformer whose tokens are groups of bands of a 3-D convolution."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Conv3d(1, 16, (5, 5, 8), stride=(1, 1, 4))
        self.places = nn.Parameter(torch.zeros(1, (bands - 8) // 4 + 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.classifier = nn.Linear(16, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.tokens(patches).mean(dim=(2, 3)).transpose(1, 2)
        return self.classifier(self.encoder(x + self.places).mean(dim=1))


class TwiceConv(nn.Conv3d):
    """A convolution of one's own: its output doubled."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class ShiftedNorm(nn.BatchNorm3d):
    """A batch norm of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1


class HalfSum(WeightedSum):
    """A weighted sum that does not ask for weights."""

    def forward(self, *maps: Tensor) -> Tensor:
        return sum(maps) / 2


class SharpGates(GatedSum):
    """Gates of one's own."""

    def weights(self, averages: Tensor) -> Tensor:
        return super().weights(3 * averages)


class MeanWeights(WeightedSum):
    """Weights that are the same for all patches."""

    def __init__(self, kernels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(kernels))

    def weights(self, averages: Tensor) -> Tensor:
        return self.scale * averages.mean(dim=1, keepdim=True)


class Custom(nn.Module):
    """Subclasses, hooks, parametrisations, changes in place and maps that are read twice."""

    def __init__(self, bands: int, classes: int, kernels: int = 8) -> None:
        super().__init__()
        self.stem = ConvBNReLU(1, kernels, (1, 1, 7), stride=(1, 1, 2))
        self.twice = TwiceConv(kernels, kernels, (1, 1, 7), padding="same")
        self.shifted = ShiftedNorm(kernels)
        self.hooked = nn.Conv3d(kernels, kernels, (1, 1, 7), padding="same")
        self.hooked.register_forward_hook(lambda module, inputs, out: out + inputs[0])
        self.block = ConvBNReLU(kernels, kernels, (3, 3, 1), padding=(1, 1, 0))
        self.block.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.5,))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv3d(kernels, kernels, (1, 1, 3)))
        self.plain = nn.Conv3d(kernels, kernels, (1, 1, 7), padding="same")
        self.bn = BatchNormReLU(kernels, relu_before=True)
        self.sums = nn.ModuleList([HalfSum(), SharpGates(), MeanWeights(kernels), GatedSum()])
        self.classifier = nn.Linear(kernels, classes)

    def forward(self, patches: Tensor) -> Tensor:
        x = self.stem(patches)
        x = self.shifted(self.twice(x)) + x
        x = self.hooked(x)
        x = self.block(x)
        y = self.plain(x)
        y += 0.5  # also where it was called y before
        half, sharp, mean, gated = self.sums
        x = mean(self.bn(y, shortcut=x), y) + sharp(y, shortcut=x)
        self.last = half(gated(y, shortcut=x), mean(x, y))  # read in the same pass
        x = self.normed(self.last)
        with torch.no_grad():
            self.largest = x.abs().max()
        x[:, 0] = 0
        return self.classifier(x.mean(dim=(2, 3, 4)))
