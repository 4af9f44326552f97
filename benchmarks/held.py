"""A processor whose compilers and libraries are held to less than it can, by the environment."""

import os

import torch

from common.system.device import choose_precision

CPU_LIMITS = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def held_to() -> dict[str, str]:
    """Return the variables that hold it."""
    return {name: os.environ[name] for name in CPU_LIMITS if name in os.environ}


def before_command(variables: dict[str, str]) -> str:
    """Return them as they stand before a command in a shell."""
    return "".join(f"{name}={value} " for name, value in variables.items())


def best_precision(device: torch.device) -> str:
    """Return what `--precision auto` is here; float32 where it is held, for PyTorch cannot know."""
    return "fp32" if held_to() else choose_precision("auto", device)
