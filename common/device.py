"""Where the arithmetic happens, and that it happens the same way twice."""

import os
import re

import torch

from common.errors import InputError


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` names: auto, cpu, cuda or cuda:N.

    Raises
    ------
    InputError
        The name is unknown or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise InputError(f"--device {name}: unknown device; use auto, cpu, cuda or cuda:N")
    index = int(name.partition(":")[2] or 0)
    if name != "cpu" and index >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices here; "
            f"use --device cpu"
        )
    return torch.device(name)


def make_deterministic() -> None:
    """Choose only kernels that give the same bits twice on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Deterministic mode also fills every new tensor, which costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
