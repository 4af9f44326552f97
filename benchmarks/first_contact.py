"""How long a user waits for a first answer: `python -m benchmarks.first_contact`.

Each command is a process of its own: help, what is refused, and the first compilation of kernels,
with empty caches.  Where other programs run, the processor's time tells what a command takes by
itself.  Writes `first_contact.json` and `first_contact.md` into `--out`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.flags import add_out, output_folder
from common.__main__ import PROGRAMS
from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import REPOSITORY, write_file
from common.system.flags import count
from common.system.provenance import current_commit, processor_name

FOLDERS = ("A2S2KResNet", "SSRN", "baselines")
SCRIPTS = sorted(
    str(path.relative_to(REPOSITORY))
    for folder in FOLDERS
    for path in (REPOSITORY / folder).glob("*.py")
    if 'if __name__ == "__main__":' in path.read_text("utf-8")
)
HELP = {
    **{f"{script} --help": [script, "--help"] for script in SCRIPTS},
    "-m common": ["-m", "common"],
    **{f"-m common {name} --help": ["-m", "common", name, "--help"] for name in PROGRAMS},
}
A_SCRIPT = "A2S2KResNet/A2S2KResNet.py"
REFUSED = {
    "no such flag": [A_SCRIPT, "--epochs", "3"],
    "a flag's value is wrong": [A_SCRIPT, "-vs", "1.5"],
    "no such device": [A_SCRIPT, "--device", "gpu"],
    "no such scene file": [A_SCRIPT, "-d", "absent.yaml"],
    "no such weights": [A_SCRIPT, "--weights", "absent.pt"],
    "no such weights to start from": [A_SCRIPT, "--start-from", "absent.pt"],
    "no such map of a split": [A_SCRIPT, "--split", "absent.npy", "absent.npy"],
    "no such released weights": ["SSRN/released.py", "absent.hdf5"],
    "no such weights to export": ["-m", "common", "export", "absent.pt", "absent.onnx"],
}
KINDS = {
    "help": "`--help`",
    "refused": "refused in one line",
    "compilation": "first compilation of the kernels",
}
KERNELS = """
import json, os, sys, time
sys.path.insert(0, ".")
import torch
from A2S2KResNet.A2S2KResNet import A2S2KResNet
from SSRN.SSRN import SSRN
from common.fast import prepare, use_fast_form

network = {"A2S2KResNet": A2S2KResNet, "SSRN": SSRN}[sys.argv[1]]
torch.manual_seed(0)
model = use_fast_form(network(200, 16))
patches, start = torch.randn(2, 1, 7, 7, 200), time.perf_counter()
prepare(model, patches)
print(json.dumps([time.perf_counter() - start, sum(os.times()[:4])]))
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    name, description = "python -m benchmarks.first_contact", __doc__.partition(":")[0]
    parser = OneLineParser(prog=name, description=description)
    parser.add_argument("--rounds", type=count(1, 100), default=5, help="default: 5")
    only_help = "measure these alone; the others keep what was measured before"
    parser.add_argument(
        "--only", nargs="+", choices=list(KINDS), default=list(KINDS), help=only_help
    )
    add_out(parser)

    def work() -> None:
        flags = parser.parse_args(arguments)
        measure(flags.only, flags.rounds, output_folder(flags.out))

    return run_program(parser.prog, work, interrupted="")


def measure(kinds: Sequence[str], rounds: int, out: Path) -> None:
    """Measure some kinds of commands, and write what is known of all."""
    file = out / "first_contact.json"
    result = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    result["environment"] = {
        "commit": current_commit(),
        "device_name": processor_name(),
        "cores": os.cpu_count(),
        "python": sys.version.partition(" ")[0],
    }
    for kind in kinds:
        if kind == "compilation":
            taken = {name: [_first_compilation(name)] for name in ("A2S2KResNet", "SSRN")}
        else:
            commands, status = {"help": (HELP, 0), "refused": (REFUSED, 2)}[kind]
            taken = {name: _times(command, status, rounds) for name, command in commands.items()}
        result[kind] = {"load": os.getloadavg()[1], "taken": taken}
    write_file(file, json.dumps(result, indent=1) + "\n")
    write_file(file.with_suffix(".md"), markdown(result))
    print(markdown(result))


class Taken(NamedTuple):
    """Seconds of wall time, and of the processor's."""

    wall: float
    processor: float


def _times(command: list[str], status: int, rounds: int) -> list[Taken]:
    """What each of some runs of ``python COMMAND`` takes, after one that fills the disk's cache."""
    taken = []
    for _ in range(1 + rounds):
        start, before = time.perf_counter(), os.times()
        run = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True)
        wall, after = time.perf_counter() - start, os.times()
        user, system = after.children_user, after.children_system
        taken.append(Taken(wall, user + system - before.children_user - before.children_system))
        if run.returncode != status:
            raise InputError(f"python {' '.join(command)}: exit status {run.returncode}")
    print(f"{' '.join(command)}: {taken[1:]}", file=sys.stderr, flush=True)
    return taken[1:]


def _first_compilation(network: str) -> Taken:
    """What a network's kernels take to compile and check where none has been compiled before.

    The processor's time is that of all processes that compile, imports included.
    """
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"NUMBA_CACHE_DIR": empty, "XDG_CACHE_HOME": empty}
        command = [sys.executable, "-c", KERNELS, network]
        run = subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True
        )
    return Taken(*json.loads(run.stdout))


def markdown(result: dict) -> str:
    """The fastest and the slowest of each kind of command, by their medians."""
    rows = []
    for kind in filter(result.__contains__, KINDS):
        medians = {
            name: Taken(*map(statistics.median, zip(*taken, strict=True)))
            for name, taken in result[kind]["taken"].items()
        }
        for which, name in (("fastest", min), ("slowest", max)):
            command = name(medians, key=medians.get)
            shown = f"`python {command}`" if kind == "help" else command
            cells = [f"{KINDS[kind]}, {which} of {len(medians)}: {shown}"]
            cells += [f"{seconds:.2f}" for seconds in medians[command]]
            processes = len(result[kind]["taken"][command])
            rows.append([*cells, str(processes), f"{result[kind]['load']:.1f}"])
    environment = result["environment"]
    lines = [
        f"`python -m benchmarks.first_contact`, {environment['device_name']}, "
        f"{environment['cores']} cores, Python {environment['python']}, commit "
        f"{environment['commit'][:12]}. Medians over processes with a warm disk cache, but for the "
        f"compilation empty caches of kernels. The load is how many processes ran or waited on the "
        f"machine, other programs' among them: what a command takes by itself is the processor's "
        f"time.",
        "",
        "| | seconds | of the processor | processes | load |",
        "|---|---:|---:|---:|---:|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
