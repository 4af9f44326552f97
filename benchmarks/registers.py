"""What LLVM makes of the CPU's innermost loops for processors that are not at hand.

The loops are compiled as for a processor without AVX-512, then for each of the others, which need
not be there: counted are the multiply-adds of the innermost loops, all their instructions, and
those that keep sums on the stack for want of registers.  Writes `registers.md` into ``--out``.
"""

import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm

from benchmarks.flags import add_out, output_folder
from common.system.errors import OneLineParser, run_program
from common.system.files import REPOSITORY, write_file

PROCESSORS = {  # LLVM's triple and name of each
    "Neoverse N1 (Graviton 2)": ("aarch64-unknown-linux-gnu", "neoverse-n1"),
    "Apple M1": ("arm64-apple-darwin", "apple-m1"),
    "Haswell (AVX2)": ("x86_64-unknown-linux-gnu", "haswell"),
}
LOOPS = {  # what each compiled function is
    "conv_direct.convolve": "convolution",
    "conv_direct._sum_gradients": "its gradients",
    "conv_fourier.convolve": "by Fourier transforms",
    "conv_fourier._sum_gradients": "its gradients",
    "conv_spatial._convolve": "over the band axis",
    "conv_spatial._write_gradient": "its input's gradient",
    "conv_spatial._sum_products": "its weights' gradient",
}
LEAST = 6  # multiply-adds of a loop that is a tile of products
COMPILE = """
import importlib, sys
sys.path.insert(0, ".")
import torch
from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fast import prepare, use_fast_form

prepare(use_fast_form(A2S2KResNet(200, 16)), torch.randn(2, 1, 7, 7, 200))
for name in sys.argv[2:]:
    module, function = name.split(".")
    loops = getattr(importlib.import_module(f"common.fast.cpu.{module}"), function)
    (code,) = loops.inspect_llvm().values()
    open(f"{sys.argv[1]}/{name}.ll", "w", encoding="utf-8").write(code)
"""


class Loop(NamedTuple):
    """Instructions of an innermost loop."""

    multiply_adds: int
    instructions: int
    on_stack: int


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    name, description = "python -m benchmarks.registers", __doc__.partition(".\n")[0]
    parser = OneLineParser(prog=name, description=description)
    add_out(parser)

    def work() -> None:
        out = output_folder(parser.parse_args(arguments).out)
        text = markdown({name: dict(loops_for(name)) for name in PROCESSORS})
        write_file(out / "registers.md", text)
        print(text, end="")

    return run_program(parser.prog, work, interrupted="")


def loops_for(processor: str) -> Iterator[tuple[str, list[Loop]]]:
    """Yield each compiled function and its innermost loops."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, name = PROCESSORS[processor]
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, opt=3)
    for function, code in _codes().items():
        code = re.sub(r'(target triple) = ".*"', rf'\1 = "{triple}"', code)
        code = re.sub(r'(target datalayout) = ".*"', rf'\1 = "{machine.target_data}"', code)
        # reference counts, outside of the loops that are looked at
        code = code.replace("llvm.x86.", "x86.").replace("immarg", "")
        yield function, innermost_loops(machine.emit_assembly(llvm.parse_assembly(code)))


@functools.cache
def _codes() -> dict[str, str]:
    """What Numba gives LLVM of each function, for a processor of no kind."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "NUMBA_CPU_NAME": "generic",
            "NUMBA_CPU_FEATURES": "",
            "NUMBA_CACHE_DIR": folder,
            "XDG_CACHE_HOME": folder,
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", COMPILE, folder, *LOOPS]
        subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)
        return {name: Path(folder, f"{name}.ll").read_text("utf-8") for name in LOOPS}


def innermost_loops(assembly: str) -> list[Loop]:
    """Find the loops of products: from a label to a branch back to it, with no other in between."""
    lines = [line.strip() for line in assembly.splitlines() if line.strip()]
    labels = {line[:-1]: n for n, line in enumerate(lines) if line.endswith(":")}
    spans = []
    for end, line in enumerate(lines):
        is_branch = re.match(r"(b|b\.\w+|cbn?z|tbn?z|j\w+)\s", line)
        start = labels.get(line.split()[-1]) if is_branch else None
        if start is not None and start < end:
            spans.append((start, end))
    found = []
    for start, end in spans:
        if any(start <= a and b <= end and (a, b) != (start, end) for a, b in spans):
            continue
        body = [line for line in lines[start : end + 1] if line[0] != "." and line[-1] != ":"]
        multiply_adds = sum(line.startswith(("fmla", "vfmadd")) for line in body)
        if multiply_adds >= LEAST:
            on_stack = sum("[sp" in line or "%rsp" in line for line in body)
            found.append(Loop(multiply_adds, len(body), on_stack))
    return found


def markdown(found: dict[str, dict[str, list[Loop]]]) -> str:
    """A row for each function, its loops in each processor's column."""
    rows = [["loops of", *found], ["---"] * (1 + len(found))]
    for name, what in LOOPS.items():
        cells = [", ".join(dict.fromkeys(map(_cell, of[name]))) or "–" for of in found.values()]
        rows.append([f"`{name}`: {what}", *cells])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"`python -m benchmarks.registers`, LLVM {'.'.join(map(str, llvm.llvm_version_info))}, "
        f"float32. Multiply-adds / all instructions of each innermost loop of products; after + "
        f"those that use the stack.\n\n{table}\n"
    )


def _cell(loop: Loop) -> str:
    stack = f" + {loop.on_stack}" if loop.on_stack else ""
    return f"{loop.multiply_adds} / {loop.instructions}{stack}"


if __name__ == "__main__":
    sys.exit(main())
