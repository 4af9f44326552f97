"""One measurement of one contestant in a process of its own: prints one JSON object.

`benchmarks/run.py` calls this again and again, contestants alternating.  The contestants are the
plain version ("plain") and this project in its two precisions ("fp32", "bf16").  The plain version
of a network that `plain_networks` has not is the one in its own file, in PyTorch's own layers.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from A2S2KResNet import A2S2KResNet
from baselines import CNN, SAE
from benchmarks import plain
from benchmarks.plain_networks import PLAIN
from common.fast import use_fast_form
from common.samples.patches import Patches
from common.samples.preprocess import fit_pca_scaling
from common.samples.random_split import random_split
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.device import PRECISIONS, make_deterministic
from common.system.memory import keep_freed_memory
from common.training.predict import predict
from common.training.train import training_step
from SSRN import CNNL, SPA, SPC, SSRN, SSRNKeras, SSRNLeaky

SCRIPTS = (A2S2KResNet, SSRN, SSRNKeras, SSRNLeaky, SPC, SPA, CNNL, CNN, SAE)
NETWORKS = {script.DEFAULTS.model: getattr(script, script.DEFAULTS.model) for script in SCRIPTS}
HALF_WIDTHS = {script.DEFAULTS.model: script.DEFAULTS.patch for script in SCRIPTS}
WARM_UP_STEPS, STEPS = 5, 25
PLAIN_PIXELS = 2048  # that the plain version evaluates; its rate does not depend on their number


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["step", "evaluate", "map"])
    parser.add_argument("--contestant", choices=["plain", "fp32", "bf16"], required=True)
    parser.add_argument("--model", choices=list(NETWORKS), required=True)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    contestant = Plain if arguments.contestant == "plain" else Ours
    scene = load_scene("IN", None)
    ready = contestant(scene, arguments.model, arguments.contestant, torch.device(arguments.device))
    test = random_split(scene.labels, 0.9, 1331).test
    if arguments.what == "step":
        value = 1e3 * statistics.median(times(ready.step, ready.device))
    else:
        # As in a run, evaluation comes after training: PyTorch's layers then keep what memory they
        # need, and are up to twice as fast as in a process that has not trained.
        for _ in itertools.islice(ready.step(), WARM_UP_STEPS):
            pass
        pixels = test if arguments.what == "evaluate" else np.arange(scene.labels.size)
        rate = ready.evaluated_per_second(pixels)
        value = rate if arguments.what == "evaluate" else scene.labels.size / rate
    print(json.dumps({"value": value}))


class Plain:
    """The plain version of a network, with patches materialised as the released code does."""

    def __init__(self, scene: Scene, model: str, _precision: str, device: torch.device) -> None:
        self.device, self.half_width = device, HALF_WIDTHS[model]
        self.cube, self.targets = plain.preprocess(scene.cube), scene.labels.ravel() - 1
        self.train = random_split(scene.labels, 0.9, 1331).train
        torch.manual_seed(1331)
        network = PLAIN.get(model) or NETWORKS[model]
        self.model = network(scene.cube.shape[2], scene.classes).to(device)

    def step(self) -> Iterator[None]:
        """Make one training step after another."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        batches = self._batches(self.train, shuffle=True)
        while True:
            for batch in batches:
                plain.train_epoch(self.model, [batch], optimizer)
                yield

    def evaluated_per_second(self, pixels: np.ndarray) -> float:
        """Rate over a part of the pixels, whose patches are there already."""
        batches = self._batches(np.random.default_rng(0).permutation(pixels)[:PLAIN_PIXELS])
        start = time.perf_counter()
        plain.predict(self.model, batches)
        return PLAIN_PIXELS / (time.perf_counter() - start)

    def _batches(self, pixels: np.ndarray, shuffle: bool = False):
        patches = plain.materialise(self.cube, pixels, self.half_width)
        return plain.loader(patches, np.maximum(self.targets[pixels], 0), self.device, shuffle)


class Ours:
    """A network of this project as its training scripts run it."""

    def __init__(self, scene: Scene, model: str, precision: str, device: torch.device) -> None:
        keep_freed_memory()
        make_deterministic()
        self.device = device
        preprocess = fit_pca_scaling(scene.cube).apply
        self.patches = Patches.of_cube(scene.cube, HALF_WIDTHS[model], device, preprocess)
        self.targets = torch.from_numpy(scene.labels.ravel() - 1).to(device)
        self.train = random_split(scene.labels, 0.9, 1331).train
        torch.manual_seed(1331)
        network = NETWORKS[model](scene.cube.shape[2], scene.classes)
        self.model = use_fast_form(network, device, PRECISIONS[precision])

    def step(self) -> Iterator[None]:
        """Make one training step after another."""
        step = training_step(self.model, self.patches, self.targets, Settings(model=""))
        self.model.train()
        pixels = torch.from_numpy(self.train).to(self.device)
        while True:
            for batch in pixels[torch.randperm(len(pixels)).to(self.device)].split(16)[:-1]:
                step(batch)
                yield

    def evaluated_per_second(self, pixels: np.ndarray) -> float:
        """Rate over all of the pixels, from the cube to labels; compiling comes before."""
        predict(self.model, self.patches, pixels[:64])
        start = time.perf_counter()
        predict(self.model, self.patches, pixels)
        return len(pixels) / (time.perf_counter() - start)


def times(step: Callable[[], Iterator[None]], device: torch.device) -> list[float]:
    """Seconds of each of `STEPS` steps, after some to warm up."""
    steps, seconds = step(), []
    for number in range(WARM_UP_STEPS + STEPS):
        start = time.perf_counter()
        next(steps)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= WARM_UP_STEPS:
            seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
