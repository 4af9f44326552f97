"""Where the arithmetic happens, and that it happens the same way twice."""

import os
import platform

import numpy as np
import torch

from common.system.errors import InputError
from common.system.flags import check_device
from common.system.memory import peak_of_process
from common.system.provenance import current_commit, processor_name


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` names: auto, cpu, cuda or cuda:N.

    Raises
    ------
    InputError
        The name is unknown or this machine has no such device.
    """
    check_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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

    "auto" is bf16 on GPUs since Ampere and on CPUs with AVX512-BF16, else fp32.

    Raises
    ------
    InputError
        bf16 is asked for on a CPU without.
    """
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = getattr(torch.cpu, "get_capabilities", dict)().get("avx512_bf16", False)
        if name == "bf16" and not fast:
            raise InputError(
                "--precision bf16: this processor has no bfloat16 arithmetic (AVX512-BF16); use "
                "--precision fp32"
            )
    return name if name != "auto" else "bf16" if fast else "fp32"


def make_deterministic() -> None:
    """Choose only kernels that give the same bits twice on one machine."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms(True) would also load PyTorch's compiler: a second and 45 MB.
    torch.set_deterministic_debug_mode("error")
    # Deterministic mode also fills every new tensor, which costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on a GPU too


def describe_environment(device: torch.device) -> dict:
    """Versions, machine and commit a run was made with."""
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else processor_name(),
        "threads": torch.get_num_threads(),
        "commit": current_commit(),
    }


def peak_memory_mb(device: str) -> float:
    """Most memory that this process has taken so far, in MB: of a GPU's, or else of the machine's.

    NaN where the system does not tell.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device) / 1e6
    return peak_of_process()
