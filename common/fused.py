"""The same networks several times faster: other forms of their layers, for each kind of hardware.

On the CPU they are those of `common/batch_last.py`, on a GPU those of `common/triton_form.py`.  In
bfloat16 on a CPU with AMX or without AVX512-BF16, and on a GPU without Triton, they are those of
`common/channels_last.py`, on a GPU its convolutions only.  They have the parameters, names and
mathematics of those they replace.
"""

import copy
import functools
import sys
import threading
from types import MethodType, ModuleType

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

    Parameters, buffers and their names stay what they are.

    Parameters
    ----------
    dtype : torch.dtype
        What convolutions along the bands, nearly all of the work, and on a GPU all others compute
        in: bfloat16, or None for the parameters' own type.  In `common/batch_last.py` all feature
        maps are kept in it.
    """
    model, on_cpu = model.to(device), torch.device(device).type == "cpu"
    form = _form(model, on_cpu, dtype)
    if on_cpu:
        _share_threads()
    for module in model.modules():
        module.map_dtype = dtype if form is batch_last else None
        if isinstance(module, nn.Conv3d):
            narrow = max(module.kernel_size[2 if on_cpu else 0 :]) > 1
            module.compute_dtype = dtype if dtype and narrow else module.weight.dtype
            module.forward = MethodType(form.conv, module)
        elif isinstance(module, nn.Linear):
            module.forward = MethodType(_linear, module)
        elif on_cpu or form is not channels_last:
            _fuse(module, form)
    return model


def _form(model: nn.Module, on_cpu: bool, dtype: torch.dtype | None) -> ModuleType:
    """Return the module whose functions are the fastest layers here."""
    if on_cpu:
        return batch_last if dtype != torch.bfloat16 or IN_PAIRS else channels_last
    if all(parameter.dtype == torch.float32 for parameter in model.parameters()):
        return _compiled_form(dtype) or channels_last
    return channels_last


@functools.cache
def _compiled_form(dtype: torch.dtype | None) -> ModuleType | None:
    """Return the form that Triton compiles, if it can here."""
    try:
        from common import triton_form

        triton_form.try_out(dtype or torch.float32)
    except Exception as error:  # whatever is missing for it: Triton, a C compiler, a newer GPU
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        print(f"slower on this GPU than need be, without Triton: {reason}", file=sys.stderr)
        return None
    return triton_form


def _share_threads() -> None:
    """Let compiled code use as many threads as PyTorch."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)  # which Numba's start has set to the number of cores


def _fuse(module: nn.Module, form: ModuleType) -> None:
    """Let compiled code do what stands between the convolutions."""
    if isinstance(module, nn.BatchNorm3d):
        module.forward = MethodType(form.batch_norm_relu, module)
    elif isinstance(module, WeightedSum):
        module.forward = MethodType(form.weighted_sum, module)


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
