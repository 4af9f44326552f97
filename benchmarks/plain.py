"""Stand-in for the released code: plain networks, every patch materialised in float64.

`python -m benchmarks.plain --help` trains and tests one iteration so: PyTorch's default layout and
float32, batches of 16 from a DataLoader, validation after every epoch, the test set, and a map of
the labelled pixels from the whole set's patches.
"""

import argparse
import json
import time

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.plain_networks import PLAIN
from common.samples.random_split import random_split
from common.scenes.scene import load_scene

BATCH_SIZE = 16
HALF_WIDTH = 3


def preprocess(cube: np.ndarray) -> np.ndarray:
    """PCA with all components and scaling over all pixels, in float64."""
    pixels = cube.reshape(-1, cube.shape[2]).astype(np.float64)
    return scale(PCA(n_components=cube.shape[2]).fit_transform(pixels)).reshape(cube.shape)


def materialise(cube: np.ndarray, pixels: np.ndarray, half_width: int = HALF_WIDTH) -> np.ndarray:
    """All patches of flat pixel indices: float64 ``(pixels, P, P, bands)``."""
    size = 2 * half_width + 1
    padded = np.pad(cube, [(half_width, half_width)] * 2 + [(0, 0)])
    patches = np.empty((len(pixels), size, size, cube.shape[2]))
    for number, pixel in enumerate(pixels):
        row, col = divmod(pixel, cube.shape[1])
        patches[number] = padded[row : row + size, col : col + size]
    return patches


def loader(patches: np.ndarray, targets: np.ndarray, device: str, shuffle: bool) -> DataLoader:
    """Batches of float32 patches and their 0-based classes."""
    patches = torch.from_numpy(patches).float().unsqueeze(1).to(device)
    dataset = TensorDataset(patches, torch.from_numpy(targets).long().to(device))
    return DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=shuffle)


def train_epoch(model: nn.Module, batches: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """One pass over the training patches, the loss and accuracy read after every batch."""
    model.train()
    loss_sum, correct = 0.0, 0.0
    for patches, targets in batches:
        optimizer.zero_grad()
        scores = model(patches)
        loss = F.cross_entropy(scores, targets)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item()
        correct += (scores.argmax(dim=1) == targets).sum().item()


@torch.no_grad()
def predict(model: nn.Module, batches: DataLoader) -> np.ndarray:
    """Predicted 0-based class of every patch."""
    model.eval()
    return torch.cat([model(patches).argmax(dim=1) for patches, _ in batches]).cpu().numpy()


def main() -> None:
    """Train, test and map one iteration."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=list(PLAIN), default="A2S2KResNet")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    start = time.perf_counter()
    scene = load_scene("IN", None)
    split = random_split(scene.labels, 0.9, 1331)
    cube, targets = preprocess(scene.cube), scene.labels.ravel() - 1
    parts = {"train": split.train, "val": split.val, "test": split.test}
    parts["all"] = np.flatnonzero(scene.labels)
    patches = {name: materialise(cube, pixels) for name, pixels in parts.items()}
    batches = {
        name: loader(patches[name], targets[parts[name]], arguments.device, name == "train")
        for name in parts
    }
    torch.manual_seed(1331)
    model = PLAIN[arguments.model](scene.cube.shape[2], scene.classes).to(arguments.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    ready = time.perf_counter()
    for _ in range(arguments.epochs):
        train_epoch(model, batches["train"], optimizer)
        predict(model, batches["val"])
    trained = time.perf_counter()
    oa = float((predict(model, batches["test"]) == targets[split.test]).mean())
    tested = time.perf_counter()
    predict(model, batches["all"])
    seconds = {"prepare": ready - start, "train": trained - ready, "test": tested - trained}
    seconds["map"] = time.perf_counter() - tested
    print(json.dumps({"oa": oa, "seconds": seconds}))


if __name__ == "__main__":
    main()
