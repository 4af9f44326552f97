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
    if name != "cpu":
        torch.cuda.set_device(index)  # where streams, graphs and Triton's kernels are made
    return torch.device(name)


PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def choose_precision(name: str, device: torch.device) -> str:
    """Return "fp32" or "bf16": what `--precision` names, or what "auto" finds on this hardware.

    "auto" is bf16 on GPUs since Ampere and on CPUs with AMX or AVX512-BF16, else fp32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has = getattr(torch.cpu, "get_capabilities", dict)()
        has_bf16 = has.get("amx_bf16", False) or has.get("avx512_bf16", False)
    return "bf16" if has_bf16 else "fp32"


def make_deterministic() -> None:
    """Choose only kernels that give the same bits twice on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms(True) would also load PyTorch's compiler: a second and 45 MB.
    torch.set_deterministic_debug_mode("error")
    # Deterministic mode also fills every new tensor, which costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on a GPU too
