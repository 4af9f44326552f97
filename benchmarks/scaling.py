"""How cost grows with labelled pixels, scene size and bands: `python -m benchmarks.scaling`.

Scenes are simulated.  Every measurement is a process of its own, so that its peak memory is known.
Writes `scaling.json` and `scaling.md` into `--out`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks.flags import add_device_and_out, check_peak_memory_is_told, output_folder
from benchmarks.held import best_precision
from benchmarks.measure import NETWORKS, times
from benchmarks.run import MODELS
from common.fast import use_fast_form
from common.samples.patches import Patches
from common.samples.preprocess import fit_pca_scaling
from common.settings import Settings
from common.system.device import (
    PRECISIONS,
    choose_device,
    describe_environment,
    make_deterministic,
)
from common.system.errors import OneLineParser, run_program
from common.system.files import REPOSITORY, write_file
from common.system.flags import count
from common.system.memory import keep_freed_memory
from common.training.predict import predict
from common.training.train import make_updates, training_step

try:
    import resource
except ImportError:  # Windows, which `measure` refuses
    resource = None

CLASSES, MAPPED_PIXELS = 16, 16_384
SWEEPS = {  # what grows: (sizes, what is measured)
    "training pixels": (
        [500, 1000, 2000, 4000],
        {"A2S2KResNet": "A2S2K-ResNet, s per epoch", "SSRN": "SSRN, s per epoch"},
    ),
    "bands": (
        [50, 100, 200, 400],
        {"A2S2KResNet": "A2S2K-ResNet, ms per step", "SSRN": "SSRN, ms per step"},
    ),
    "rows and columns": (
        [145, 500, 1000, 2000],
        {
            "preprocess": "PCA, scaling and padding, s",
            "map": "SSRN map, pixels/s",
            "cube": "cube (uint16), MB",
            "peak": "peak memory, MB",
        },
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    name, description = "python -m benchmarks.scaling", __doc__.partition(":")[0]
    parser = OneLineParser(prog=name, description=description)
    largest = "rows and columns at most (default: 2000)"
    parser.add_argument("--largest", type=count(145, 2000), default=2000, help=largest)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    add_device_and_out(parser)
    return run_program(parser.prog, lambda: measure(parser.parse_args(arguments)), interrupted="")


def measure(arguments: argparse.Namespace) -> None:
    """Measure all sweeps, or one point of one in a process started for that."""
    check_peak_memory_is_told()
    device = choose_device(arguments.device)
    if arguments.point:
        name, size = arguments.point
        print(json.dumps(POINTS[name](int(size), device)))
        return
    out = output_folder(arguments.out)
    result = {"environment": describe_environment(device), "sweeps": {}}
    for name, (sizes, _) in SWEEPS.items():
        sizes = [n for n in sizes if name != "rows and columns" or n <= arguments.largest]
        points = {size: point(name, size, str(device)) for size in sizes}
        result["sweeps"][name] = points
    write_file(out / "scaling.json", json.dumps(result, indent=1) + "\n")
    write_file(out / "scaling.md", markdown(result))
    print(markdown(result))


def point(name: str, size: int, device: str) -> dict[str, float]:
    """Measure one point in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--device", device]
    command += ["--point", name, str(size)]
    output = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    print(f"{name} {size}: {output.stdout.strip()}", file=sys.stderr, flush=True)
    return json.loads(output.stdout)


def simulated_cube(rows: int, bands: int) -> np.ndarray:
    """A uint16 cube (rows, rows, bands) of smooth spectra and noise, made a row at a time."""
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(8, bands)).cumsum(axis=1)
    cube = np.empty((rows, rows, bands), np.uint16)
    for row in cube:
        mixed = generator.random((rows, 8), np.float32) @ spectra
        row[:] = 3000 + 100 * mixed + 20 * generator.standard_normal(row.shape, np.float32)
    return cube


def build(name: str, bands: int, device: torch.device) -> torch.nn.Module:
    """Make a network in its fast form and the precision this machine is best at."""
    torch.manual_seed(0)
    dtype = PRECISIONS[best_precision(device)]
    return use_fast_form(NETWORKS[name](bands, CLASSES), device, dtype)


def prepared(rows: int, bands: int, device: torch.device) -> Patches:
    """Preprocess a simulated scene as the training scripts do."""
    keep_freed_memory()
    make_deterministic()
    cube = simulated_cube(rows, bands)
    return Patches.of_cube(cube, 3, device, fit_pca_scaling(cube).apply)


def training_pixels(count: int, device: torch.device) -> dict[str, float]:
    """Seconds of an epoch over `count` training pixels: its second, when all is compiled."""
    patches, values, settings = prepared(145, 200, device), {}, Settings(model="")
    targets = torch.arange(145 * 145, device=device) % CLASSES
    for name in MODELS:
        step = training_step(build(name, 200, device), patches, targets, settings)
        make_updates(step, torch.arange(64, device=device), settings, seed=0, number=1)
        start = time.perf_counter()
        make_updates(step, torch.arange(count, device=device), settings, seed=0, number=2)
        step.loss_sum.item()  # on a GPU the updates are only queued before
        values[name] = time.perf_counter() - start
    return values


def bands(count: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of a training step with `count` bands."""
    patches, values = prepared(60, count, device), {}
    targets = torch.arange(60 * 60, device=device) % CLASSES
    for name in MODELS:
        step = training_step(build(name, count, device), patches, targets, Settings(model=""))
        step.model.train()

        def steps(step=step):
            while True:
                step(torch.arange(16, device=device))
                yield

        values[name] = 1e3 * statistics.median(times(steps, device))
    return values


def rows_and_columns(rows: int, device: torch.device) -> dict[str, float]:
    """Preprocessing and mapping of a scene of rows × rows × 200."""
    keep_freed_memory()
    make_deterministic()
    cube = simulated_cube(rows, 200)
    start = time.perf_counter()
    patches = Patches.of_cube(cube, 3, device, fit_pca_scaling(cube).apply)
    preprocess = time.perf_counter() - start
    model = build("SSRN", 200, device)
    predict(model, patches, np.arange(64))
    pixels = np.arange(min(MAPPED_PIXELS, rows * rows))
    start = time.perf_counter()
    predict(model, patches, pixels)
    rate = len(pixels) / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"preprocess": preprocess, "map": rate, "cube": cube.nbytes / 2**20, "peak": peak}


POINTS = {
    "training pixels": training_pixels,
    "bands": bands,
    "rows and columns": rows_and_columns,
}


def markdown(result: dict) -> str:
    """One table per sweep."""
    environment = result["environment"]
    lines = [
        f"`python -m benchmarks.scaling`, {environment['device_name']}, {environment['threads']} "
        f"threads, PyTorch {environment['torch']}; the precision is what `--precision auto` picks.",
    ]
    for name, points in result["sweeps"].items():
        titles = SWEEPS[name][1]
        lines += [
            "",
            f"| {name} | {' | '.join(titles.values())} |",
            "|---" * (len(titles) + 1) + "|",
        ]
        for size, values in points.items():
            cells = [f"{values[key]:.1f}" for key in titles]
            lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
