"""A process that reads files from strangers one after the other and says how each went.

Every line on its standard input names a file: a scene's .yaml, a weights file or, .hdf5 or .pth, a
checkpoint that others released.  Its answer is a line of JSON: `outcome` ("read", "refused" in one
line, or what else happened), `said`, `seconds` and `mebibytes`, by how much reading raised the
process's memory at most.
"""

import json
import os
import re
import sys
import time
from pathlib import Path

from common.scenes.scene import load_scene
from common.system.errors import InputError
from common.training.weights_file import load_weights
from SSRN.checkpoint_file import read_released

SAFETY_NET = 4 << 30  # bytes: allocating more fails, before the machine suffers


def memory(entry: str) -> float:
    """Return an entry of /proc/self/status, in MiB."""
    return (
        int(re.search(rf"{entry}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))[1])
        / 1024
    )


def read(path: Path) -> str:
    """Read a scene, by rows and whole, weights or a checkpoint; return what came of it."""
    if path.suffix in (".hdf5", ".pth"):
        released = read_released(path)
        return f"{released.network.__name__}, {len(released.state)} tensors"
    if path.suffix != ".yaml":
        weights = load_weights(path)
        return f"{weights.model}, {len(weights.state)} tensors"
    by_rows = load_scene(str(path), to_train=False)
    by_rows.read_rows(0, 1)
    return f"{load_scene(str(path)).cube.shape}"


def attempt(path: Path) -> dict:
    """Read one file, measured."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak starts anew
    before, start = memory("VmRSS"), time.perf_counter()
    try:
        outcome, said = "read", read(path)
    except InputError as error:
        outcome, said = "refused", str(error)
    except BaseException as error:
        outcome, said = f"{type(error).__name__} instead of a line", str(error)
    seconds = time.perf_counter() - start
    return {
        "outcome": outcome,
        "said": said,
        "seconds": seconds,
        "mebibytes": memory("VmHWM") - before,
    }


if __name__ == "__main__":
    import resource

    os.chdir(sys.argv[1])  # where code that ran would leave its mark
    limit = int(memory("VmData") * 2**20) + SAFETY_NET
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(attempt(Path(line.rstrip("\n")))) + "\n")
        answers.flush()
