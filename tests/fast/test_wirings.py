"""Networks wired at random: gradients written over others must not be needed any more."""

import copy
import random
import statistics

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from A2S2KResNet.A2S2KResNet import EFR, KernelAttention
from common.fast import use_fast_form
from common.layers import BatchNormReLU, ConvBNReLU, kernels_as_bands

KERNELS, BANDS = 8, 27
KINDS = ["conv", "conv", "conv", "3 bands", "3×3", "bn", "bn + shortcut", "efr", "attention", "add"]
KINDS += ["relu"]


class Wired(nn.Module):
    """Layers, each of which reads one or two of the maps before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        choose, self.plan = random.Random(seed), []
        self.stem = ConvBNReLU(1, KERNELS, (1, 1, 7), stride=(1, 1, 2))
        self.layers = nn.ModuleDict()
        weighed = set()
        for number in range(7):
            kind, one, other = choose.choice(KINDS), *(choose.randrange(number + 1) for _ in "12")
            one = number if choose.random() < 0.6 else one
            # a weighted sum is alone to read the maps it weighs, as in the networks
            read = {"efr": {one}, "attention": {one, other}}.get(kind, set())
            if read & weighed or (kind == "attention" and one == other):
                kind, read = "add", set()
            weighed |= read
            self.plan.append((str(number), kind, one, other))
            self.layers[str(number)] = self.layer(kind, choose)
        self.collapse = ConvBNReLU(KERNELS, 16, (1, 1, BANDS))
        self.spatial_stem = ConvBNReLU(1, KERNELS, (3, 3, 16))
        self.spatial = nn.Conv3d(KERNELS, KERNELS, (3, 3, 1), padding="same")
        self.bn = BatchNormReLU(KERNELS)
        self.classifier = nn.Linear(KERNELS, 4)

    def layer(self, kind: str, choose: random.Random) -> nn.Module:
        sizes = {"conv": (1, 1, 7), "3 bands": (1, 1, 3), "3×3": (3, 3, 1)}
        if kind in sizes:
            return nn.Conv3d(KERNELS, KERNELS, sizes[kind], padding="same")
        if kind in ("bn", "bn + shortcut"):
            relus = {name: choose.random() < 0.5 for name in ("relu_before", "relu")}
            return BatchNormReLU(KERNELS, **relus)
        if kind == "attention":
            return KernelAttention(KERNELS, 5, "paper")
        return EFR() if kind == "efr" else nn.Identity()

    def forward(self, patches):
        maps = [self.stem(patches)]
        for name, kind, one, other in self.plan:
            layer, x, y = self.layers[name], maps[one], maps[other]
            if kind in ("bn + shortcut", "efr"):
                maps.append(layer(x, shortcut=y))
            elif kind == "attention":
                maps.append(layer(x, y))
            elif kind == "add":
                maps.append(x + y)
            else:
                maps.append(F.relu(x) * 0.7 if kind == "relu" else layer(x))
        x = self.spatial_stem(kernels_as_bands(self.collapse(maps[-1])))
        return self.classifier(self.bn(self.spatial(x), shortcut=x).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("batch", [5, 35])
@pytest.mark.parametrize("seed", range(25))
def test_gradients_equal_pytorchs(seed, batch):
    torch.manual_seed(seed)
    plain = Wired(seed).double()
    fast, found = use_fast_form(copy.deepcopy(plain)), []
    patches = torch.randn(batch, 1, 5, 5, 2 * BANDS + 5, dtype=torch.float64)
    for model in (plain, fast):
        x = patches.clone().requires_grad_()
        scores = model(x)
        F.cross_entropy(3 * scores, torch.arange(batch) % 4).backward()
        gradients = [x.grad, *(p.grad for p in model.parameters())]
        found.append([scores.detach(), *(torch.zeros(()) if g is None else g for g in gradients)])
    for ours, truth in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-7, atol=1e-9)


def test_bfloat16_is_about_as_near_to_float32_as_pytorchs_own():
    errors, batch = {"ours": [], "PyTorch's": []}, 35
    for seed in range(8):
        torch.manual_seed(seed)
        plain, patches = Wired(seed), torch.randn(batch, 1, 5, 5, 2 * BANDS + 5)
        ours = use_fast_form(copy.deepcopy(plain), dtype=torch.bfloat16)
        truth = gradient(plain, patches)
        for name, model in (("PyTorch's", copy.deepcopy(plain)), ("ours", ours)):
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "PyTorch's"):
                found = gradient(model, patches)
            errors[name].append((1 - F.cosine_similarity(found, truth, dim=0)).item())
    assert 0 < statistics.median(errors["ours"]) < 2 * statistics.median(errors["PyTorch's"])
    assert max(errors["ours"]) < 2 * max(errors["PyTorch's"])


def gradient(model: nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """All parameters' gradients one after another."""
    model.zero_grad()
    F.cross_entropy(3 * model(patches).float(), torch.arange(len(patches)) % 4).backward()
    gradients = (p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters())
    return torch.cat([g.flatten() for g in gradients])
