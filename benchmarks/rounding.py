"""How the fast layers round, and whether accuracies feel it: ``python -m benchmarks.rounding``.

On patches of Indian Pines, every convolution, the logits and the gradients of both networks in
float32 are compared with the same in float64: by the fast layers, and by PyTorch's own.  With
``--accuracies`` both also train, from the same seeds on the same 5 % of the pixels.  Writes
`rounding.json` and `rounding.md` into ``--out``.
"""

import argparse
import copy
import dataclasses
import importlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.flags import add_device_and_out, output_folder
from common.fast import use_fast_form
from common.recipe import with_recipe
from common.reporting.metrics import confusion_matrix, scores
from common.samples.patches import Patches
from common.samples.preprocess import fit_pca_scaling
from common.samples.random_split import random_split
from common.scenes.scene import Scene, load_scene
from common.settings import Settings
from common.system.device import choose_device, describe_environment, make_deterministic
from common.system.errors import OneLineParser, run_program
from common.system.files import write_file
from common.training import network_classifier, network_input
from common.training.classifier import Task

NETWORKS = ("A2S2KResNet", "SSRN")
LAYERS = ("plain", "fast")
PATCHES = 64  # in four batches of 16
SEEDS = (1331, 1332, 1333)
NOT_TRAINED_ON = 0.95  # of the labelled pixels: plain layers take half an hour for 5 % of them


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    name, description = "python -m benchmarks.rounding", __doc__.partition(":")[0]
    parser = OneLineParser(prog=name, description=description)
    add_device_and_out(parser)
    parser.add_argument(
        "--accuracies", action="store_true", help="train both, three seeds each: an hour"
    )
    return run_program(parser.prog, lambda: measure(parser.parse_args(arguments)), interrupted="")


def measure(arguments: argparse.Namespace) -> None:
    """Compare both networks; keep the accuracies of an earlier call unless they are asked for."""
    device, out = choose_device(arguments.device), output_folder(arguments.out)
    make_deterministic()
    scene, file = load_scene("IN", None), out / "rounding.json"
    result = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    result["environment"] = describe_environment(device)
    result["errors"] = {name: errors(network(name), scene, device) for name in NETWORKS}
    if arguments.accuracies:
        result["accuracies"] = {"environment": describe_environment(device)}
        for name in NETWORKS:
            result["accuracies"][name] = {
                layers: [accuracies(name, layers, scene, seed) for seed in SEEDS]
                for layers in LAYERS
            }
    write_file(file, json.dumps(result, indent=1) + "\n")
    write_file(out / "rounding.md", markdown(result))
    print(markdown(result))


def network(name: str):
    """Return the module of a network: its class of the same name, and ``DEFAULTS``."""
    return importlib.import_module(f"{name}.{name}")


def errors(module, scene: Scene, device: torch.device) -> dict[str, dict[str, float]]:
    """Errors against float64 of the plain and of the fast layers in float32.

    Returns
    -------
    dict
        By layers: ``convolutions``, the largest over the network's of the root mean square of a
        convolution's errors over the standard deviation of what it gives; ``logits``, the largest
        error over the largest logit, in evaluation mode; ``gradients``, the median over the
        batches and parameters of the 2-norm of a gradient's error over its own.
    """
    torch.manual_seed(0)
    patches = Patches.of_cube(scene.cube, 3, device, fit_pca_scaling(scene.cube).apply)
    split = random_split(scene.labels, 0.9, SEEDS[0])
    pixels = torch.from_numpy(split.train[:PATCHES]).to(device)
    x = patches.gather(pixels).float()
    labels = torch.from_numpy(scene.labels.ravel()).to(device)[pixels].long() - 1
    plain = module.__dict__[module.DEFAULTS.model](scene.cube.shape[2], scene.classes).to(device)
    for layer in plain.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    plain.train()(x)  # running statistics that fit
    exact = copy.deepcopy(plain).double()
    models = {"plain": plain, "fast": use_fast_form(copy.deepcopy(plain), device)}
    return {
        layers: {
            "convolutions": max(convolution_errors(exact, model, x)),
            "logits": logits_error(exact, model, x),
            "gradients": statistics.median(gradient_errors(exact, model, x, labels)),
        }
        for layers, model in models.items()
    }


def convolution_errors(exact: nn.Module, model: nn.Module, x: Tensor) -> list[float]:
    """Root mean square error of each convolution, over the standard deviation of its output."""
    inputs = {}
    convolutions = {n: m for n, m in exact.named_modules() if isinstance(m, nn.Conv3d)}
    hooks = [
        conv.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
        for name, conv in convolutions.items()
    ]
    with torch.no_grad():
        exact.eval()(x.double())
        for hook in hooks:
            hook.remove()
        found = []
        for name, conv in convolutions.items():
            seen = inputs[name].float()
            truth = conv(seen.double())
            error = torch.as_tensor(model.get_submodule(name)(seen) + 0.0).double() - truth
            found.append((error.square().mean().sqrt() / truth.std()).item())
    return found


def logits_error(exact: nn.Module, model: nn.Module, x: Tensor) -> float:
    """Largest error of the logits, over the largest of them, in evaluation mode."""
    with torch.no_grad():
        truth = exact.eval()(x.double())
        return ((model.eval()(x).double() - truth).abs().max() / truth.abs().max()).item()


def gradient_errors(exact: nn.Module, model: nn.Module, x: Tensor, labels: Tensor) -> list[float]:
    """2-norm of the error of each parameter's gradient over that of the gradient, by batch."""
    exact, model, found = copy.deepcopy(exact), copy.deepcopy(model), []
    for batch, label in zip(x.split(16), labels.split(16), strict=True):
        gradients = []
        for one, patches in ((exact, batch.double()), (model, batch)):
            loss = F.cross_entropy(one.train()(patches), label)
            gradients.append(torch.autograd.grad(loss, list(one.parameters())))
        for truth, gradient in zip(*gradients, strict=True):
            if truth.norm() > 1e-6:  # a bias before a batch norm has none
                found.append(((gradient.double() - truth).norm() / truth.norm()).item())
    return found


def accuracies(name: str, layers: str, scene: Scene, seed: int) -> dict[str, float]:
    """OA, AA and kappa of a network trained by the fast recipe in float32."""
    module = network(name)
    settings = dataclasses.replace(module.DEFAULTS, precision="fp32", valid_split=NOT_TRAINED_ON)
    settings = with_recipe(settings, "fast")
    return trained_scores(getattr(module, name), settings, layers, scene, seed)


def trained_scores(
    kind: type[nn.Module], settings: Settings, layers: str, scene: Scene, seed: int
) -> dict[str, float]:
    """Train on a random split as the training scripts do, with these layers, and test."""
    split = random_split(scene.labels, settings.valid_split, seed)
    fast = network_input.use_fast_form
    if layers == "plain":
        network_input.use_fast_form = lambda model, device, dtype: model.to(device)
    try:
        with tempfile.TemporaryDirectory() as folder:
            task = Task(split, seed, Path(folder), f"{settings.model}, {layers}, seed {seed}")
            classifier = network_classifier.NetworkClassifier(kind, settings, scene)
            [trained] = classifier.fit([task])
            predicted, _ = trained.classify(split.test)
    finally:
        network_input.use_fast_form = fast
    labels = scene.labels.flat[split.test]
    found = scores(confusion_matrix(labels, np.asarray(predicted), scene.classes))
    return {figure: float(getattr(found, figure)) for figure in ("oa", "aa", "kappa")}


def markdown(result: dict) -> str:
    """The tables of errors and, where there are any, of accuracies."""
    lines = [f"`python -m benchmarks.rounding`, {machine(result['environment'])}.", ""]
    lines += ["| network | layers in float32 | convolutions | logits | gradients |"]
    lines += ["|---|---|---:|---:|---:|"]
    for name, by_layers in result["errors"].items():
        for layers, found in by_layers.items():
            cells = (f"{value:.1e}" for value in found.values())
            lines.append(f"| {name} | {layers} | {' | '.join(cells)} |")
    if trained := result.get("accuracies"):
        lines += [
            "",
            f"`python -m benchmarks.rounding --accuracies`, {machine(trained['environment'])}.",
            "",
        ]
        seeds = f"{SEEDS[0]}–{SEEDS[-1]}"
        share = f"{100 * (1 - NOT_TRAINED_ON):.0f} % trained on"
        lines += [
            f"| network | layers in float32, {share}, seeds {seeds} | OA % | AA % | κ × 100 |"
        ]
        lines += ["|---|---|---:|---:|---:|"]
        for name in NETWORKS:
            for layers, found in trained[name].items():
                columns = ([run[figure] for run in found] for figure in ("oa", "aa", "kappa"))
                cells = (f"{100 * np.mean(c):.2f} ± {100 * np.std(c):.2f}" for c in columns)
                lines.append(f"| {name} | {layers} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine(environment: dict) -> str:
    """The machine and versions that figures are of."""
    commit = (environment["commit"] or "unknown")[:12]
    return (
        f"{environment['device_name']}, {environment['threads']} threads, "
        f"PyTorch {environment['torch']}, commit {commit}"
    )


if __name__ == "__main__":
    sys.exit(main())
