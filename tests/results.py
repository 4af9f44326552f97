"""What a run leaves in its results directory."""

import json
import re
from pathlib import Path

import torch

MEASURED = ("train_seconds", "train_seconds_per_epoch", "test_seconds", "peak_memory_mb")
DIFFERING = ("date", "command", "directory", "packages", *MEASURED)  # from one run to the next


def bits(out: Path) -> dict:
    """Everything a run leaves but what differs between times, processes and commits."""
    report = json.loads((out / "report.json").read_text("utf-8"))
    del report["environment"]["commit"]
    for key in DIFFERING:
        del report[key]
    for flag in ("out", "resume", "overwrite", "cluster"):
        del report["settings"][flag]
    found = {"report": report}
    for path in sorted([*out.glob("*.np[yz]"), *out.glob("*.png"), *out.glob("run_*/*")]):
        name = str(path.relative_to(out))
        if path.name == "weights.pt":
            state = torch.load(path, weights_only=True)["state"]
            found[name] = {key: tensor.numpy().tobytes() for key, tensor in state.items()}
        elif path.name == "history.csv":
            found[name] = re.sub(r",[^,]*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
        elif path.name != "iteration.npz":
            found[name] = path.read_bytes()
    return found
