"""The layers of `common/layers.py` again, many times faster: one form for each kind of hardware.

On the CPU they are those of `cpu/layers.py`, on a GPU those of `gpu/layers.py`; on a GPU without
Triton, PyTorch's own.  They have the parameters, names and mathematics of those they replace.
"""

import copy
import functools
import sys
import threading
from types import MethodType
from typing import Protocol

import numba
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.fast import pytorch
from common.fast.cpu import layers as cpu_layers
from common.fast.cpu.weight_tiles import constant
from common.layers import BatchNormReLU, WeightedSum
from common.system.files import one_process_at_a_time

__all__ = ["Layers", "compile_kernels", "constant", "use_fast_form"]


class Layers(Protocol):
    """What each kind of hardware's `layers.py` offers: the forward passes of three layers.

    What goes from one of these to the next is up to them; any other function of PyTorch sees a
    tensor (batch, kernels, rows, cols, bands).
    """

    @staticmethod
    def conv(module: nn.Conv3d, x: Tensor) -> Tensor:
        """`nn.Conv3d`."""

    @staticmethod
    def batch_norm_relu(
        module: nn.BatchNorm3d | BatchNormReLU, x: Tensor, shortcut: Tensor | None = None
    ) -> Tensor:
        """`BatchNormReLU`, or a batch norm alone."""

    @staticmethod
    def weighted_sum(module: WeightedSum, *maps: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """`WeightedSum` of two maps, or of one and a shortcut."""


def use_fast_form(
    model: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> nn.Module:
    """Switch a network of `common.layers` to its fast form on `device`, in place, and return it.

    Parameters, buffers and their names stay what they are.

    Parameters
    ----------
    dtype : torch.dtype
        What convolutions along the bands, nearly all of the work, and on a GPU all others compute
        in: bfloat16, or None for the parameters' own type.  On the CPU all feature maps are kept in
        it.
    """
    model, on_cpu = model.to(device), torch.device(device).type == "cpu"
    form = _form(model, on_cpu, dtype)
    if on_cpu:
        _share_threads()
    for module in model.modules():
        module.map_dtype = dtype if form is cpu_layers else None
        if isinstance(module, nn.Conv3d):
            narrow = max(module.kernel_size[2 if on_cpu else 0 :]) > 1
            module.compute_dtype = dtype if dtype and narrow else module.weight.dtype
            module.forward = MethodType(form.conv if form else pytorch.conv, module)
        elif isinstance(module, nn.Linear):
            module.forward = MethodType(_linear, module)
        elif form and isinstance(module, nn.BatchNorm3d):
            module.forward = MethodType(form.batch_norm_relu, module)
        elif form and isinstance(module, WeightedSum):
            module.forward = MethodType(form.weighted_sum, module)
    return model


def _form(model: nn.Module, on_cpu: bool, dtype: torch.dtype | None) -> Layers | None:
    """Return the fastest layers here; None where they are PyTorch's own."""
    if on_cpu:
        return cpu_layers
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return _compiled_form(dtype)
    return None


@functools.cache
def _compiled_form(dtype: torch.dtype | None) -> Layers | None:
    """Return the form that Triton compiles, if it can here."""
    try:
        from common.fast.gpu import layers as gpu_layers

        gpu_layers.try_out(dtype or torch.float32)
    except Exception as error:  # whatever is missing for it: Triton, a C compiler, a newer GPU
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(f"slower on this GPU than need be, without Triton: {reason}", file=sys.stderr)
        return None
    return gpu_layers


def _share_threads() -> None:
    """Let compiled code use as many threads as PyTorch."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)  # which Numba's start has set to the number of cores


def compile_kernels(model: nn.Module, patches: Tensor) -> None:
    """Have all that a fast form needs for such patches compiled, or read from a cache, in advance.

    Processes that start together take turns: Numba's cache is not made for two writers.

    Parameters
    ----------
    patches : float tensor (batch, 1, P, P, bands)
        Any patches of the kind the network will see.
    """
    trial = copy.deepcopy(model)
    message = "compiling the kernels for this machine, once"
    notice = threading.Timer(2.0, print, [message], {"file": sys.stderr, "flush": True})
    with one_process_at_a_time("hsi-kernels"), torch.random.fork_rng(devices=[]):
        notice.start()
        try:
            trial.train()(patches).sum().backward()
            with torch.no_grad():
                trial.eval()(patches)
        finally:
            notice.cancel()


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x.to(module.weight.dtype), module.weight, module.bias)
