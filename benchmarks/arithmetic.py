"""How far convolutions are from the machine's matrix products: `python -m benchmarks.arithmetic`.

Every convolution of a training step (16 patches of 7×7×200) is timed by itself, forward and
backward, in the form in which this project runs it, from map to map where it takes and gives them;
a product of two 2048×2048 matrices says what the machine reaches.  Writes `arithmetic.json` and
`arithmetic.md` into `--out`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.flags import add_device_and_out, output_folder
from benchmarks.held import before_command, best_precision, held_to
from benchmarks.measure import NETWORKS, Ours, times
from benchmarks.run import MODELS
from common.fast import use_fast_form
from common.fast.cpu.feature_map import Store
from common.fast.cpu.tape import Map
from common.fast.feature_map import as_tensor
from common.scenes.scene import load_scene
from common.system.device import PRECISIONS, choose_device, describe_environment, make_deterministic
from common.system.errors import OneLineParser, run_program
from common.system.files import write_file
from common.system.memory import keep_freed_memory

PATCHES, SIZE, BANDS, CLASSES = 16, 7, 200, 16


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    name, description = "python -m benchmarks.arithmetic", __doc__.partition(":")[0]
    parser = OneLineParser(prog=name, description=description)
    add_device_and_out(parser)
    return run_program(parser.prog, lambda: measure(parser.parse_args(arguments)), interrupted="")


def measure(arguments: argparse.Namespace) -> None:
    """Measure both networks in both precisions, or in float32 where bfloat16 is slow."""
    device, out = choose_device(arguments.device), output_folder(arguments.out)
    keep_freed_memory()
    make_deterministic()
    result = {"environment": describe_environment(device), "held_to": held_to(), "precisions": {}}
    for precision in ("fp32", "bf16") if best_precision(device) == "bf16" else ("fp32",):
        rows = {"matrix_product_gflops": matrix_product_rate(PRECISIONS[precision], device)}
        for name in MODELS:
            rows[name] = convolutions(name, precision, device)
            rows[name].append(whole_step(name, precision, device, rows[name]))
        result["precisions"][precision] = rows
    write_file(out / "arithmetic.json", json.dumps(result, indent=1) + "\n")
    write_file(out / "arithmetic.md", markdown(result))
    print(markdown(result))


def seconds(function: Callable[[], object], device: torch.device, repeats: int = 15) -> float:
    """Median time of a call."""
    measured = []
    for number in range(3 + repeats):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            measured.append(time.perf_counter() - start)
    return statistics.median(measured)


def matrix_product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """GFLOP/s of a large matrix product."""
    matrix = torch.randn(2048, 2048, device=device).to(dtype)
    return 2 * 2048**3 / seconds(lambda: matrix @ matrix, device) / 1e9


def convolutions(name: str, precision: str, device: torch.device) -> list[dict]:
    """Work and time of each convolution, alike ones together."""
    seen = {}

    def record(module: nn.Conv3d, inputs: tuple, output: torch.Tensor) -> None:
        key = (tuple(module.weight.shape), tuple(inputs[0].shape))
        count, *_ = seen.get(key, (0,))
        seen[key] = count + 1, module, inputs[0].detach(), output.detach()

    network = NETWORKS[name](BANDS, CLASSES)
    model = use_fast_form(network, device, PRECISIONS[precision]).train()
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(record)
    model(torch.randn(PATCHES, 1, SIZE, SIZE, BANDS, device=device))
    for module in model.modules():
        module._forward_hooks.clear()
    return [row(*work, device) for work in list(seen.values())]


def row(
    count: int, module: nn.Conv3d, x: torch.Tensor, output: torch.Tensor, device: torch.device
) -> dict:
    """Time a convolution forward and backward; the stems have no gradient for their input."""
    first = x.shape[1] == 1 and x.shape[4] == BANDS
    x = x.clone().requires_grad_(not first)
    forward_flop = 2 * output.numel() * module.weight[0].numel()
    took = seconds(there_and_back(module, x, torch.randn_like(output)), device)
    return {
        "layer": f"{tuple(module.kernel_size)} {module.in_channels} → {module.out_channels}",
        "count": count,
        "gflop": count * forward_flop * (2 if first else 3) / 1e9,
        "ms": 1e3 * count * took,
    }


def there_and_back(module: nn.Conv3d, x: torch.Tensor, gradient: torch.Tensor) -> Callable:
    """Make the function that is timed: the output, and the gradients that it leads back."""
    y = module(x)
    if not isinstance(y, Map):
        inputs = [t for t in (module.weight, module.bias, x) if t.requires_grad]
        return lambda: torch.autograd.grad(as_tensor(module(x)), inputs, gradient)
    # What is copied from tensors to maps and back is no part of a step.
    x, gradient = Map.of(x, y.store.kind), Store.of(gradient, y.store.kind).array

    def both() -> None:
        tape = module(x).tape
        out, lead_back, inputs = tape.steps.pop()
        del tape.inputs[-inputs:]
        out.add_gradient(gradient)
        lead_back()
        x.store.gradients.clear()

    return both


def whole_step(name: str, precision: str, device: torch.device, rows: list[dict]) -> dict:
    """The training step that these convolutions belong to."""
    ours = Ours(load_scene("IN", None), name, precision, device)
    took = statistics.median(times(ours.step, device))
    return {"layer": "whole step", "gflop": sum(r["gflop"] for r in rows), "ms": 1e3 * took}


def markdown(result: dict) -> str:
    """One table per network and precision."""
    environment = result["environment"]
    lines = [
        f"`{before_command(result['held_to'])}python -m benchmarks.arithmetic`, "
        f"{environment['device_name']}, "
        f"{environment['threads']} threads, PyTorch {environment['torch']}.",
    ]
    for precision, networks in result["precisions"].items():
        rate = networks["matrix_product_gflops"]
        for name in MODELS:
            lines += ["", f"{name}, {precision}; matrix product: {rate:.0f} GFLOP/s", ""]
            lines += ["| forward and backward | GFLOP | ms | GFLOP/s | of the rate |"]
            lines += ["|---|---|---|---|---|"]
            for r in networks[name]:
                reached = 1e3 * r["gflop"] / r["ms"]
                times_ = f"{r['count']} × " if r.get("count", 1) > 1 else ""
                cells = [f"{times_}{r['layer']}", f"{r['gflop']:.3f}", f"{r['ms']:.1f}"]
                cells += [f"{reached:.0f}", f"{reached / rate:.0%}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
