"""A whole run: from a scene's name to a results directory."""

import contextlib
import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.device import PRECISIONS, choose_device, choose_precision, make_deterministic
from common.errors import InputError
from common.fused import compile_kernels, use_fast_form
from common.memory import keep_freed_memory
from common.patches import Patches
from common.predict import predict
from common.preprocess import Preprocessing, fit_pca_scaling
from common.progress import epoch_progress
from common.report import Iteration, build_report, describe_environment, report_text
from common.results import (
    output_directory,
    prepare_output,
    write_history,
    write_map,
    write_report,
    write_scene_pictures,
)
from common.scene import Scene, load_scene
from common.settings import Settings
from common.split import Split, random_split
from common.train import train
from common.weights import Weights, load_weights, save_weights


@dataclass(frozen=True)
class Run:
    """What all iterations of a run share."""

    settings: Settings
    scene: Scene
    preprocessing: Preprocessing
    patches: Patches
    out: Path
    environment: dict

    @property
    def device(self) -> torch.device:
        """Where the cube lies and the network computes."""
        return self.patches.spectra.device

    @property
    def network_arguments(self) -> dict:
        """Arguments of the network's constructor."""
        bands, classes = self.scene.cube.shape[2], self.scene.classes
        return {"bands": bands, "classes": classes} | self.settings.network_arguments()


def train_and_test(network: type[nn.Module], settings: Settings) -> dict:
    """Train and test `network` on every Monte-Carlo iteration's split.

    Reports are rewritten after every iteration, so that an interrupted run leaves what it did.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        A flag, a file or the output directory cannot be used.
    """
    keep_freed_memory()
    device, out = choose_device(settings.device), output_directory(settings)
    scene = load_scene(settings.dataset, settings.data_dir)
    seeds = range(settings.seed, settings.seed + settings.iter)
    splits = [random_split(scene.labels, settings.valid_split, seed) for seed in seeds]
    run = start_run(settings, scene, fit_pca_scaling(scene.cube), device, out)

    iterations = []
    for number, (seed, split) in enumerate(zip(seeds, splits, strict=True)):
        directory = run.out / f"run_{number}"
        directory.mkdir(exist_ok=True)
        start = time.perf_counter()
        torch.manual_seed(seed)
        model = build(network, run)
        with epoch_progress(f"iteration {number + 1}/{settings.iter}", settings.epoch) as show:
            labels = scene.labels.ravel()
            history = train(model, run.patches, labels, split, settings, seed, on_epoch=show)
        seconds = time.perf_counter() - start
        write_history(directory, history)
        save_weights(directory / "weights.pt", trained_weights(run, model, seed, split))
        iterations.append(test_and_map(run, model, split, directory, len(history), seconds))
        report = build_report(settings, scene, iterations, run.environment)
        write_report(out, report)
    print_report(report, out)
    return report


def evaluate(network: type[nn.Module], settings: Settings) -> dict:
    """Train nothing: test and map with the network in the file ``settings.weights``.

    Where the scene and its split are those the network was trained on, its own test pixels
    test it; on any other scene all labelled pixels do.  Patch width, kernels, attention, split
    share and seed are those of the file, whatever the flags say.

    Returns and raises as `train_and_test`.
    """
    keep_freed_memory()
    weights = load_weights(Path(settings.weights), settings.model)
    kept = {name: weights.settings[name] for name in ("patch", "kernel", "attention")}
    kept |= {"valid_split": weights.settings["valid_split"], "seed": weights.seed, "iter": 1}
    settings = dataclasses.replace(settings, **kept)
    device, out = choose_device(settings.device), output_directory(settings)
    scene = load_scene(settings.dataset, settings.data_dir)
    trained_on = weights.network["bands"], weights.network["classes"]
    if trained_on != (scene.cube.shape[2], scene.classes):
        raise InputError(
            f"--weights {settings.weights}: trained on {trained_on[0]} bands and {trained_on[1]} "
            f"classes, but {scene.key} has {scene.cube.shape[2]} bands and {scene.classes} classes"
        )
    split = untrained_pixels(weights, scene)
    run = start_run(settings, scene, weights.preprocessing, device, out)

    directory = out / "run_0"
    directory.mkdir(exist_ok=True)
    model = build(network, run)
    model.load_state_dict(weights.state)
    iteration = test_and_map(run, model, split, directory, 0, 0.0)
    report = build_report(settings, scene, [iteration], run.environment)
    report["trained_with"] = weights.settings | {"seed": weights.seed}
    write_report(out, report)
    print_report(report, out)
    return report


def start_run(
    settings: Settings,
    scene: Scene,
    preprocessing: Preprocessing,
    device: torch.device,
    out: Path,
) -> Run:
    """Preprocess the scene, put it on the device and make the results directory."""
    make_deterministic()
    rows, cols, bands = scene.cube.shape
    if settings.patch >= max(rows, cols):
        raise InputError(f"-p {settings.patch}: patches wider than the scene, {rows}×{cols} pixels")
    print(
        f"{scene.name}: {rows}×{cols} pixels, {bands} bands, {scene.classes} classes, "
        f"{np.count_nonzero(scene.labels)} labelled pixels, from {scene.source}; on {device}",
        file=sys.stderr,
    )
    patches = Patches.of_cube(scene.cube, settings.patch, device, preprocessing.apply)
    environment = describe_environment(device)  # before any tracked file may change
    environment["precision"] = choose_precision(settings.precision, device)
    prepare_output(out)
    write_scene_pictures(out, scene)
    return Run(settings, scene, preprocessing, patches, out, environment)


def build(network: type[nn.Module], run: Run) -> nn.Module:
    """Make the network with initial weights, in its fast form on the run's device."""
    dtype = PRECISIONS[run.environment["precision"]]
    model = use_fast_form(network(**run.network_arguments), run.device, dtype)
    if run.device.type == "cpu":
        compile_kernels(model, run.patches.gather(torch.arange(2)))
    return model


def test_and_map(
    run: Run, model: nn.Module, split: Split, directory: Path, epochs: int, train_seconds: float
) -> Iteration:
    """Predict the test pixels, timed, then whatever else ``--map`` asks for, and write the map."""
    print(f"testing {len(split.test)} pixels", file=sys.stderr, flush=True)
    start = time.perf_counter()
    predicted = predict(model, run.patches, split.test)
    seconds = time.perf_counter() - start
    if run.settings.map != "none":
        labels = run.scene.labels
        wanted = np.ones(labels.size, bool) if run.settings.map == "all" else labels.ravel() > 0
        wanted[split.test] = False
        others = np.flatnonzero(wanted)
        print(f"mapping {len(others)} further pixels", file=sys.stderr, flush=True)
        label_map = np.zeros(labels.shape, np.uint8 if run.scene.classes < 256 else np.uint16)
        label_map.flat[split.test] = predicted
        label_map.flat[others] = predict(model, run.patches, others)
        write_map(directory, label_map, run.scene)
    return Iteration(split, predicted, epochs, train_seconds, seconds)


def print_report(report: dict, out: Path) -> None:
    """Show on the terminal what ``report.txt`` holds, and where it is."""
    print(report_text(report), f"Results: {out}", sep="\n")


def trained_weights(run: Run, model: nn.Module, seed: int, split: Split) -> Weights:
    """Bundle a trained network with all that is needed to use it."""
    return Weights(
        model=run.settings.model,
        network=run.network_arguments,
        settings=dataclasses.asdict(run.settings),
        seed=seed,
        class_names=list(run.scene.class_names),
        train_sha256=split.sha256()["train"],
        preprocessing=run.preprocessing,
        state=model.state_dict(),
    )


def untrained_pixels(weights: Weights, scene: Scene) -> Split:
    """The split the weights were trained on if this is their scene, else all pixels as test."""
    with contextlib.suppress(InputError):  # this scene may be too small for that split
        split = random_split(scene.labels, weights.settings["valid_split"], weights.seed)
        if split.sha256()["train"] == weights.train_sha256:
            return split
    nothing = np.empty(0, np.int64)
    return Split(train=nothing, val=nothing, test=np.flatnonzero(scene.labels))
