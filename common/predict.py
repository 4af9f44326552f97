"""A trained or half-trained network on many pixels, in batches and without gradients."""

import numpy as np
import torch
from torch import Tensor, nn

from common.patches import Patches

BATCH_SIZE = 64


@torch.no_grad()
def logits(model: nn.Module, patches: Patches, pixels: Tensor) -> Tensor:
    """Logits ``(pixels, classes)`` of flat pixel indices, with the network in evaluation mode."""
    model.eval()
    return torch.cat([model(patches.gather(batch)) for batch in pixels.split(BATCH_SIZE)])


def predict(model: nn.Module, patches: Patches, pixels: np.ndarray) -> np.ndarray:
    """Predicted label, 1..C, of each flat pixel index: int64 array like `pixels`."""
    if not len(pixels):
        return np.empty(0, np.int64)
    indices = torch.from_numpy(pixels).to(patches.spectra.device)
    return logits(model, patches, indices).argmax(dim=1).cpu().numpy() + 1
