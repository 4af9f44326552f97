"""Measure this project against the plain version: `python -m benchmarks.run`.

Writes `comparison.json` and `comparison.md` into `--out`.  Every measurement is a process of its
own, contestants take turns, and ratios are medians over the rounds.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from benchmarks.flags import add_device_and_out, check_peak_memory_is_told, output_folder
from benchmarks.held import before_command, best_precision, held_to
from common.system.device import choose_device, describe_environment
from common.system.errors import OneLineParser, run_program
from common.system.files import REPOSITORY, write_file
from common.system.flags import count
from common.system.process import let_waiting_threads_sleep

MODELS = ["A2S2KResNet", "SSRN"]
COMPARED = ["SSRNKeras", "SSRNLeaky", "SPC", "SPA", "CNNL", "CNN", "SAE"]
CONTESTANTS = ["plain", "fp32", "bf16"]
QUANTITIES = {  # name: (unit, whether less is better)
    "training step": ("ms", True),
    "training step beside two busy processes": ("ms", True),
    "evaluation": ("patches/s", False),
    "whole-scene map": ("s", True),
    "epoch with validation": ("s", True),
    "whole protocol": ("s", True),
    "peak memory": ("MB", True),
    "training to the protocol's accuracy": ("s", True),
}
WHOLE_RUN = [
    "epoch with validation",
    "whole protocol",
    "peak memory",
    "training to the protocol's accuracy",
]
PUBLISHED = REPOSITORY / "results" / "published"
REPORTS = {"A2S2KResNet": "IN_A2S2KResNet_paper/report.json", "SSRN": "IN_SSRN/report.json"}
WORDS = {
    "training step": "step",
    "training step beside two busy processes": "busy",
    "evaluation": "evaluate",
    "whole-scene map": "map",
}
BUSY_PROCESSES = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = OneLineParser(prog="python -m benchmarks.run", description=__doc__.partition(":")[0])
    add = parser.add_argument
    add("--rounds", type=count(1), default=5, help="of every measurement (default: 5)")
    add("--epochs", type=count(1), default=5, help="of the whole protocol (default: 5)")
    add("--protocol-rounds", type=count(1), default=3, help="(default: 3)")
    models_help = "(default: A2S2KResNet and SSRN; others have no protocol)"
    add("--models", nargs="+", choices=MODELS + COMPARED, default=MODELS, help=models_help)
    add("--only", nargs="+", choices=[*WORDS.values(), "protocol"])
    add_device_and_out(parser)
    return run_program(parser.prog, lambda: measure(parser.parse_args(arguments)), interrupted="")


def measure(arguments: argparse.Namespace) -> None:
    """Measure all that is asked for, and write it down."""
    check_peak_memory_is_told()
    device = choose_device(arguments.device)
    arguments.device = str(device)
    out = output_folder(arguments.out)
    wanted = arguments.only or [*WORDS.values(), "protocol"]
    precision = best_precision(device)
    contestants = [c for c in CONTESTANTS if c != "bf16" or precision == "bf16"]

    result = {
        "date": date.today().isoformat(),
        "command": "python -m benchmarks.run " + " ".join(sys.argv[1:]),
        "environment": describe_environment(device),
        "held_to": held_to(),
        "auto_precision": precision,
        "protocol_epochs": arguments.epochs,
        "values": {},  # quantity: model: contestant: one number per round
    }
    values = result["values"]
    for model in arguments.models:
        for name, word in WORDS.items():
            for number in range(arguments.rounds if word in wanted else 0):
                for contestant in in_turn(number, contestants):
                    value = measured(word, contestant, model, arguments.device)
                    note(values, name, model, contestant, value)
        if "protocol" in wanted and model in REPORTS:
            for precision in contestants[1:]:  # what a first run compiles is no part of the others
                ours(precision, model, arguments, ["-e", "1"])
            for number in range(arguments.protocol_rounds):
                for contestant in in_turn(number, contestants):
                    for name, value in protocol(contestant, model, arguments).items():
                        note(values, name, model, contestant, value)
        write_file(out / "comparison.json", json.dumps(result, indent=1) + "\n")
        write_file(out / "comparison.md", markdown(result))  # after each, for all take hours
    print(markdown(result))


def in_turn(number: int, contestants: list[str]) -> list[str]:
    """Contestants of a round, none of them always first."""
    start = number % len(contestants)
    return contestants[start:] + contestants[:start]


def measured(word: str, contestant: str, model: str, device: str) -> float:
    """One value from `benchmarks.measure`; "busy" is a step too, while others keep the cores."""
    what, others = ("step", BUSY_PROCESSES) if word == "busy" else (word, 0)
    environment = dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.measure", what, "--contestant", contestant]
    command += ["--model", model, "--device", device]
    with busy_processes(others):
        if contestant != "plain":
            let_waiting_threads_sleep(environment)  # as the training scripts do
        output = subprocess.run(
            command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    return json.loads(output.stdout)["value"]


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Have so many processes do nothing as fast as they can."""
    loop = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(loop) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def protocol(contestant: str, model: str, arguments: argparse.Namespace) -> dict[str, float]:
    """A whole run on Indian Pines, one of its epochs, and training to the protocol's accuracy.

    For the plain version the latter is its time per epoch, times the epochs that the published
    float32 runs took until they stopped; for ours it is the training time of ``--recipe fast``.
    """
    if contestant == "plain":
        epochs = str(arguments.epochs)
        command = ["-m", "benchmarks.plain", "--model", model, "--epochs", epochs]
        seconds, megabytes, output = process([*command, "--device", arguments.device])
        per_epoch = json.loads(output)["seconds"]["train"] / arguments.epochs
        published = json.loads((PUBLISHED / REPORTS[model]).read_text("utf-8"))
        training = per_epoch * statistics.mean(published["epochs_run"])
    else:
        epochs = ["-e", str(arguments.epochs)]
        seconds, megabytes, of_epochs = ours(contestant, model, arguments, epochs)
        per_epoch = of_epochs / arguments.epochs
        *_, training = ours(contestant, model, arguments, ["--recipe", "fast"])
    return dict(zip(WHOLE_RUN, (per_epoch, seconds, megabytes, training), strict=True))


def ours(
    precision: str, model: str, arguments: argparse.Namespace, flags: list[str]
) -> tuple[float, float, float]:
    """Seconds, peak memory in MB and training seconds of one iteration of a training script."""
    with tempfile.TemporaryDirectory() as folder:
        command = [f"{model}/{model}.py", "-d", "IN", "-i", "1", "--precision", precision, *flags]
        command += ["--device", arguments.device, "--out", f"{folder}/run"]
        seconds, megabytes, _ = process(command)
        report = json.loads(Path(folder, "run", "report.json").read_text("utf-8"))
    return seconds, megabytes, report["train_seconds"][0]


def process(command: list[str]) -> tuple[float, float, str]:
    """Run Python; return seconds from start to exit, peak memory in MB and what it printed."""
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        child = subprocess.Popen(
            [sys.executable, *command], cwd=REPOSITORY, stdout=output, stderr=errors
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        for file in (output, errors):
            file.seek(0)
        if status:
            raise SystemExit(f"benchmarks: python {' '.join(command)}\n{errors.read()}")
        return seconds, usage.ru_maxrss / 1024, output.read()


def note(values: dict, name: str, model: str, contestant: str, value: float) -> None:
    """Keep one round's value, and show it."""
    values.setdefault(name, {}).setdefault(model, {}).setdefault(contestant, []).append(value)
    unit = QUANTITIES[name][0]
    print(f"{name}, {model}, {contestant}: {value:.1f} {unit}", file=sys.stderr, flush=True)


def markdown(result: dict) -> str:
    """Tables of medians, spread and ratios."""
    environment, whole = result["environment"], set(WHOLE_RUN) & set(result["values"])
    precisions = [
        contestant
        for contestant in CONTESTANTS[1:]
        if any(contestant in rounds for m in result["values"].values() for rounds in m.values())
    ]
    held = before_command(result.get("held_to", {}))
    epochs = f"The whole protocol is {result['protocol_epochs']} epochs. " if whole else ""
    lines = [
        f"`{held}{result['command'].strip()}`, {result['date']}, {environment['device_name']}, "
        f"{environment['threads']} thread{'s' * (environment['threads'] > 1)}, PyTorch "
        f"{environment['torch']}, Python {environment['python']}, commit "
        f"{environment['commit'][:12]}. Medians (smallest – largest) over the rounds; × is how "
        f"many times better than plain. {epochs}`--precision auto` is {result['auto_precision']} "
        f"here.",
        "",
        f"| | | plain |{''.join(f' {precision} | × |' for precision in precisions)}",
        f"|---|---|---|{'---|---|' * len(precisions)}",
    ]
    for name, models in result["values"].items():
        unit, less_is_better = QUANTITIES[name]
        for model, rounds in models.items():
            cells = [f"{name}, {unit}", model, spread(rounds["plain"])]
            for contestant in precisions:
                pairs = zip(rounds["plain"], rounds[contestant], strict=True)
                ratios = [p / o if less_is_better else o / p for p, o in pairs]
                cells += [spread(rounds[contestant]), f"{statistics.median(ratios):.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Median, and the range of several, with as many digits as they need."""
    digits = 1 if statistics.median(values) < 100 else 0
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low} – {high})" if len(values) > 1 else middle


if __name__ == "__main__":
    sys.exit(main())
