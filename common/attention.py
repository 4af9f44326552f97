"""What a network's attention does: the weights it gives its feature maps, averaged per class."""

import numpy as np
import torch
from torch import Tensor, nn

from common.layers import WeightedSum
from common.patches import Patches
from common.predict import patches_per_batch

PATCHES_PER_CLASS = 50


def weights_per_class(
    model: nn.Module, patches: Patches, classes: int, pixels: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Average the weights of every `WeightedSum` of a network over the patches of each class.

    Parameters
    ----------
    classes : int
        C.
    pixels, labels : int64 arrays (n,)
        Flat pixel indices and their labels 1..C; of each class the first `PATCHES_PER_CLASS`
        are looked at.

    Returns
    -------
    dict of str to float32 array (C, maps, kernels)
        By the layer's name.  For the kernel attention the maps are the branches (1,1,7) and
        (3,3,7); an EFR has one, its gates.  NaN where a class has no pixel.  Empty for a network
        without such a layer.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, WeightedSum)}
    if not layers or not len(pixels):
        return {}
    found = {name: [] for name in layers}
    for label in range(1, classes + 1):
        chosen = pixels[labels == label][:PATCHES_PER_CLASS]
        seen = _weights(model, layers, patches, chosen) if len(chosen) else None
        for name in layers:
            found[name].append(None if seen is None else seen[name])
    return {name: _filled(means) for name, means in found.items()}


@torch.no_grad()
def _weights(
    model: nn.Module, layers: dict[str, WeightedSum], patches: Patches, chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Mean weights (maps, kernels) of each layer over some patches."""
    seen = {name: [] for name in layers}

    def record(name: str, weights: Tensor) -> Tensor:
        seen[name].append(weights.float().cpu())
        return weights

    plain = {name: layer.weights for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.weights = lambda averages, name=name: record(name, plain[name](averages))
    try:
        model.eval()
        pixels = torch.from_numpy(chosen).to(patches.spectra.device)
        for batch in pixels.split(patches_per_batch(model, patches)):
            model(patches.gather(batch))
    finally:
        for layer in layers.values():
            del layer.weights  # the class's own again
    return {name: torch.cat(batches, dim=1).mean(dim=1).numpy() for name, batches in seen.items()}


def _filled(means: list[np.ndarray | None]) -> np.ndarray:
    shape = next(mean.shape for mean in means if mean is not None)
    return np.stack([np.full(shape, np.nan, "f4") if mean is None else mean for mean in means])
