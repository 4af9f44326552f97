"""The same networks several times faster: other forms of their layers, for each kind of hardware.

On the CPU they are those of `common/batch_last.py`; on a GPU, and in bfloat16 on a CPU with AMX or
without AVX512-BF16, those of `common/channels_last.py`.  They have the parameters, names and
mathematics of those they replace.
"""

import copy
import sys
import threading
from types import MethodType

import numba
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common import batch_last, channels_last
from common.files import one_process_at_a_time
from common.layers import WeightedSum
from common.tiles import BFLOAT16, MATRIX_UNITS

IN_PAIRS = BFLOAT16 and not MATRIX_UNITS  # the faster form in bfloat16 on this processor


def use_fast_form(
    model: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> nn.Module:
    """Switch a network of `common.layers` to its fast form on `device`, in place, and return it.

    Parameters, buffers and their names stay what they are.  On a GPU only the type of the
    convolutions changes: the rest is PyTorch's own.

    Parameters
    ----------
    dtype : torch.dtype
        What convolutions along the bands, nearly all of the work, compute in: bfloat16, or None for
        the parameters' own type.  In `common/batch_last.py` all feature maps are kept in it.
    """
    model, on_cpu = model.to(device), torch.device(device).type == "cpu"
    form = batch_last if on_cpu and (dtype != torch.bfloat16 or IN_PAIRS) else channels_last
    for module in model.modules():
        module.map_dtype = dtype if form is batch_last else None
        if isinstance(module, nn.Conv3d):
            along_bands = module.kernel_size[2] > 1
            module.compute_dtype = dtype if dtype and along_bands else module.weight.dtype
            module.forward = MethodType(form.conv, module)
        elif isinstance(module, nn.Linear):
            module.forward = MethodType(_linear, module)
    if on_cpu:
        _fuse(model, form)
    return model


def _fuse(model: nn.Module, form) -> None:
    """Let compiled code do what stands between the convolutions, on as many threads as PyTorch."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)  # which Numba's start has set to the number of cores
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.forward = MethodType(form.batch_norm_relu, module)
        elif isinstance(module, WeightedSum):
            module.forward = MethodType(form.weighted_sum, module)


def compile_kernels(model: nn.Module, patches: Tensor) -> None:
    """Have Numba compile what a fast form needs, or read it from its cache, before it is timed.

    Processes that start together take turns: Numba's cache is not made for two writers.

    Parameters
    ----------
    patches : float tensor (batch, 1, P, P, bands)
        Any patches of the kind the network will see.
    """
    trial = copy.deepcopy(model)
    message = "compiling the CPU kernels for this machine, once"
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
