"""The layers of `common/layers.py` again, many times faster: one form for each kind of hardware.

On the CPU they are those of `cpu/layers.py`, on a GPU those of `gpu/layers.py`; on a GPU without
Triton, PyTorch's own.  They have the parameters, names and mathematics of those they replace.
What a network has beside these layers runs as PyTorch has it.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import numba
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.fast import pytorch, self_check
from common.fast.compile_time import compile_seconds, told_of_each, watch_triton
from common.fast.cpu import layers as cpu_layers
from common.fast.cpu.weight_tiles import constant
from common.fast.feature_map import FeatureMap
from common.fast.gpu.replay import Replay
from common.fast.optimizer import fast_optimizer
from common.fast.replaced import in_fast_form, use_layers
from common.layers import BatchNormReLU, WeightedSum
from common.system.files import one_process_at_a_time

__all__ = [
    "Layers",
    "compile_seconds",
    "constant",
    "fast_optimizer",
    "number_size",
    "prepare",
    "replayed",
    "set_threads",
    "use_fast_form",
]

NOTICE = 2.0  # seconds after which it is told what takes so long


class Layers(Protocol):
    """What each kind of hardware's `layers.py` is: the forward passes of three layers.

    They take tensors (batch, channels, rows, cols, bands) and what they return themselves: a
    `FeatureMap` of their own kind, or such a tensor.
    """

    @staticmethod
    def conv(module: nn.Conv3d, x: Tensor | FeatureMap) -> FeatureMap | Tensor:
        """`nn.Conv3d`, in the module's ``compute_dtype``."""

    @staticmethod
    def batch_norm_relu(
        module: nn.BatchNorm3d | BatchNormReLU,
        x: Tensor | FeatureMap,
        shortcut: Tensor | FeatureMap | None = None,
    ) -> FeatureMap:
        """`BatchNormReLU`, or a batch norm alone."""

    @staticmethod
    def weighted_sum(
        module: WeightedSum, *maps: Tensor | FeatureMap, shortcut: Tensor | FeatureMap | None = None
    ) -> FeatureMap:
        """`WeightedSum` of two maps, or of one and a shortcut."""


def use_fast_form(
    model: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> nn.Module:
    """Switch a network to its fast form on `device`, in place, and return it.

    Parameters, buffers and their names stay what they are.  Replaced are the layers of
    `common.layers`, `nn.Conv3d` and `nn.BatchNorm3d`, where they are exactly that: see
    `replaced.py`.

    Parameters
    ----------
    dtype : torch.dtype
        What convolutions along the bands, nearly all of the work, and on a GPU all others compute
        in: bfloat16, or None for the parameters' own type.  On the CPU all feature maps are kept in
        it.
    """
    model, on_cpu = model.to(device), torch.device(device).type == "cpu"
    if on_cpu:
        set_threads(torch.get_num_threads())
    return use_layers(model, _form(model, on_cpu, dtype), dtype)


def _form(model: nn.Module, on_cpu: bool, dtype: torch.dtype | None) -> Layers:
    """Return the fastest layers here."""
    if on_cpu:
        return cpu_layers
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return _compiled_form(dtype) or pytorch
    return pytorch


@functools.cache
def _compiled_form(dtype: torch.dtype | None) -> Layers | None:
    """Return the form that Triton compiles, if it can here."""
    try:
        from common.fast.gpu import layers as gpu_layers

        watch_triton()
        gpu_layers.try_out(dtype or torch.float32)
    except Exception as error:  # whatever is missing for it: Triton, a C compiler, a newer GPU
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(f"slower on this GPU than need be, without Triton: {reason}", file=sys.stderr)
        return None
    return gpu_layers


def set_threads(number: int) -> None:
    """Let the calling thread's operations, PyTorch's and compiled ones, use so many threads."""
    torch.get_num_threads()  # makes PyTorch's own settings for the thread, which would come later
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(number)  # which Numba's start has set to the number of cores


def prepare(model: nn.Module, patches: Tensor) -> None:
    """Have all that a network's fast form needs compiled, and let it prove itself: `self_check.py`.

    Where it is wrong a line on stderr says so, and plain PyTorch is used for the whole network.
    Processes that start together take turns, for each would compile and check the same.

    Parameters
    ----------
    patches : float tensor (batch, 1, P, P, bands)
        Any patches of the kind the network will see.
    """
    replaced, on_gpu = in_fast_form(model).values(), patches.is_cuda
    half = any(module.compute_dtype == torch.bfloat16 for module in replaced)
    dtype = torch.bfloat16 if half else None
    with _once_on_this_machine(patches.device):
        form = _form(model, not on_gpu, dtype)
        fault = self_check.fault(model, patches, form, dtype) if replaced else None
        if fault:
            print(f"{fault}; plain PyTorch is used for the whole network", file=sys.stderr)
            use_layers(model, pytorch if on_gpu or dtype else None, dtype)
        fault = self_check.replay_fault(model, patches, dtype) if on_gpu else None
        if fault:
            print(f"{fault}; each is made by itself, which is slower", file=sys.stderr)
        model.is_replayed = not fault


@contextlib.contextmanager
def _once_on_this_machine(device: torch.device) -> Iterator[None]:
    """Be alone among processes, leave random numbers alone, and say what takes so long.

    On a terminal also how many loops have been compiled, and for how long.
    """
    message = "compiling and checking the layers for this machine, once"
    notice = threading.Timer(NOTICE, print, [message], {"file": sys.stderr, "flush": True})
    progress = tqdm(desc="compiled", unit=" loops", leave=False, disable=None, delay=NOTICE)
    random_numbers = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with (
        one_process_at_a_time("hsi-kernels"),
        random_numbers,
        progress as bar,
        told_of_each(bar.update),
    ):
        notice.start()
        try:
            yield
        finally:
            notice.cancel()


def number_size(model: nn.Module) -> int:
    """Bytes that a number of the network's feature maps takes."""
    types = {getattr(module, "compute_dtype", None) for module in model.modules()}
    return 2 if torch.bfloat16 in types else 4


def replayed(
    model: nn.Module,
    update: Callable[..., None],
    changed: Callable[[], list[Tensor]],
    optimizer: torch.optim.Optimizer,
) -> Replay | None:
    """Return a network's update as a GPU repeats it fastest; None where it cannot.

    Parameters
    ----------
    update : callable
        Called with tensors, or None in their stead, and plain values.
    changed : callable
        Returns every tensor that an update changes, the optimizer's last.
    """
    device = optimizer.param_groups[0]["params"][0].device
    capturable = optimizer.defaults.get("capturable", False) and getattr(model, "is_replayed", True)
    return Replay(update, changed, device) if device.type == "cuda" and capturable else None
