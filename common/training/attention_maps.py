"""What a network's attention does: the weights it gives its feature maps, averaged per class."""

import functools
import threading

import numpy as np
import torch
from torch import Tensor, nn

from common.fast import constant
from common.layers import WeightedSum
from common.samples.patches import Patches
from common.training.predict import in_batches, patches_per_batch, replicas

PATCHES_PER_CLASS = 50


def weights_per_class(
    model: nn.Module, patches: Patches, classes: int, pixels: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Average the weights of every `WeightedSum` of a network over the patches of each class.

    Parameters
    ----------
    classes : int
        C.
    pixels, labels : int arrays (n,)
        Flat pixel indices and their labels 1..C; of each class the first `PATCHES_PER_CLASS`
        are looked at.

    Returns
    -------
    dict of str to float32 array (C, maps, kernels)
        By the layer's name.  For the kernel attention the maps are the branches (1,1,7) and
        (3,3,7); an EFR has one, its gates.  NaN where a class has no pixel.  A layer whose forward
        pass asks for no weights is left out, and empty it is for a network without any.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, WeightedSum)}
    if not layers or not len(pixels):
        return {}
    chosen = [pixels[labels == label][:PATCHES_PER_CLASS] for label in range(1, classes + 1)]
    found = _weights(model, layers, patches, np.concatenate(chosen))
    ends = np.cumsum([len(of_class) for of_class in chosen])[:-1]
    return {
        name: np.stack([_mean(of_class) for of_class in np.split(weights, ends)])
        for name, weights in found.items()
    }


def _weights(
    model: nn.Module, layers: dict[str, WeightedSum], patches: Patches, chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights (n, maps, kernels) of each layer for n patches."""
    seen = threading.local()  # batches are computed side by side

    def record(name: str, averages: Tensor) -> Tensor:
        weights = plain[name](averages)
        of_patches = weights.expand(averages.shape)  # they may be the same for all
        seen.weights[name] = of_patches.float().cpu().transpose(0, 1)
        return weights

    def on_batch(batch: Tensor) -> Tensor:
        seen.weights = {}
        of_thread()(patches.gather(batch))
        weights = {name: seen.weights[name] for name in layers if name in seen.weights}
        shapes.update({name: of_layer.shape[1:] for name, of_layer in weights.items()})
        parts = [of_layer.flatten(1) for of_layer in weights.values()]
        return torch.cat(parts, dim=1) if parts else torch.empty(len(batch), 0)

    shapes, of_thread = {}, replicas(model)
    plain = {name: layer.weights for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.weights = functools.partial(record, name)
    try:
        model.eval()
        pixels = torch.from_numpy(chosen).to(patches.spectra.device)
        with constant(model):
            rows = in_batches(on_batch, pixels, patches_per_batch(model, patches))
    finally:
        for layer in layers.values():
            del layer.weights  # the class's own again
    parts = rows.split([shape.numel() for shape in shapes.values()], dim=1)
    return {
        name: part.unflatten(1, shape).numpy()
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def _mean(weights: np.ndarray) -> np.ndarray:
    """Mean over patches; NaN without any."""
    return weights.mean(axis=0) if len(weights) else np.full(weights.shape[1:], np.nan, "f4")
