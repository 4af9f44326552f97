"""A fast form proves itself on the machine it runs on, before a network trains with it.

Each of a network's layers is run forward and backward on random patches, as large as the network's
own, and compared with PyTorch's own layer in float64.  Layer by layer: a whole network's gradients
differ by 1e-3 as soon as one ReLU's input lies at zero.  What came of it is kept in the user's
cache, so that it costs nothing the next time.
"""

import contextlib
import copy
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite.binding
import torch
from torch import Tensor, nn

from common.fast.compile_ahead import compiled_ahead
from common.fast.cpu.weight_tiles import constant
from common.fast.gpu.replay import replays_the_same
from common.fast.layer_errors import Call, errors
from common.fast.replaced import function_for, in_fast_form, suits, use_layers
from common.system.files import write_file

# Of the largest logit: after so many layers only to notice another function than the network's.
LOGITS_OFF = {torch.float32: 1e-2, torch.float64: 1e-2, torch.bfloat16: 0.3}


def fault(model: nn.Module, patches: Tensor, form, dtype: torch.dtype | None) -> str | None:
    """Run a copy of a network and check its layers; return what is wrong with them, if anything.

    All that the network needs is compiled on the way.

    Raises
    ------
    Exception
        The network's own, where it cannot be run with PyTorch's layers either.
    """
    with _with_helpers(model, patches, dtype):
        try:
            calls = calls_of(model, patches)
        except Exception as error:
            calls_of(model, patches, plain=True)
            return f"the fast layers fail in this network ({_first_line(error)})"
        key = _key(model, patches.device, dtype, calls)
        return _kept(key, lambda: next(_faults(model, patches, form, dtype, calls), ""))


def _with_helpers(model: nn.Module, patches: Tensor, dtype: torch.dtype | None):
    """Let other processes help where anything is compiled for the CPU."""
    if patches.is_cuda:
        return contextlib.nullcontext()
    return compiled_ahead(model, lambda: calls_of(model, patches, plain=True), dtype)


def replay_fault(model: nn.Module, patches: Tensor, dtype: torch.dtype | None) -> str | None:
    """Return what is wrong with updates that a GPU replays from a CUDA graph, if anything."""

    def check() -> str:
        try:
            same = replays_the_same(model, patches)
        except Exception as error:
            return f"this network's updates cannot be recorded ({_first_line(error)})"
        return "" if same else "this network's updates are others when they are replayed"

    return _kept(f"{_key(model, patches.device, dtype, [])}_replay", check)


def calls_of(model: nn.Module, patches: Tensor, plain: bool = False) -> list[Call]:
    """Train and evaluate a copy of a network; return the different calls of its layers.

    They are the same where PyTorch's own, `plain` layers take the fast ones' place.
    """
    trial, calls = copy.deepcopy(model), {}
    replaced = in_fast_form(trial)
    if plain:
        use_layers(trial, None, None)

    def record(name: str, module: nn.Module, forward, *maps, shortcut=None, **named):
        inputs = [*maps, *named.values(), *([] if shortcut is None else [shortcut])]
        if suits(module, inputs, function_for(module)):
            with_shortcut = shortcut is not None or (len(maps) > 1 and hasattr(module, "relu"))
            shapes = tuple(tuple(x.shape[1:]) for x in inputs)
            led_back = tuple(x.requires_grad for x in inputs)
            call = Call(name, shapes, led_back, with_shortcut, module.training)
            calls.setdefault((_description(module), call[1:]), call)
        return forward(*maps, **({} if shortcut is None else {"shortcut": shortcut}), **named)

    for name, module in replaced.items():
        module.forward = functools.partial(record, name, module, module.forward)
    trial.train()(patches).sum().backward()
    with torch.no_grad(), constant(trial):
        trial.eval()(patches)
    return list(calls.values())


def _faults(
    model: nn.Module, patches: Tensor, form, dtype: torch.dtype | None, calls: list[Call]
) -> Iterator[str]:
    """Yield whatever is wrong."""
    for call in calls:
        try:
            off = errors(model.get_submodule(call.layer), call, form, dtype, patches.device)
            what, worst = max(off.items(), key=lambda item: item[1])
        except Exception as error:
            yield f"{call.layer}: its fast form cannot be checked ({_first_line(error)})"
        else:
            if not worst <= 1:
                yield (
                    f"{call.layer}: its fast form is wrong here ({what} off by {worst:.2g} times "
                    f"what rounding explains)"
                )
    if other_logits(model, patches, dtype):
        yield "this network gives other logits with the fast layers"


def other_logits(model: nn.Module, patches: Tensor, dtype: torch.dtype | None) -> bool:
    """Whether a network's logits are far from those that it gives with PyTorch's layers."""
    logits = []
    for network in (use_layers(copy.deepcopy(model), None, None), copy.deepcopy(model)):
        torch.manual_seed(0)
        with torch.no_grad():
            logits.append(network.eval()(patches).double())
    truth, found = logits
    if not truth.isfinite().all():
        return False
    limit = LOGITS_OFF[dtype or torch.float32] * truth.abs().max().clamp(min=1e-2)
    return not (found - truth).abs().max() <= limit


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _description(module: nn.Module) -> str:
    relus = [getattr(module, name, None) for name in ("relu_before", "relu")]
    return f"{type(module).__qualname__} {module!r} {relus} {getattr(module, 'compute_dtype', '')}"


def _key(
    model: nn.Module, device: torch.device, dtype: torch.dtype | None, calls: list[Call]
) -> str:
    """What a check depends on: machine, versions, code, and the layers with their sizes."""
    machine = [platform.machine(), llvmlite.binding.get_host_cpu_name()]
    machine += [llvmlite.binding.get_host_cpu_features().flatten()]
    if device.type == "cuda":
        machine = [torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)]
    versions = [torch.__version__]
    for package in ("numba", "llvmlite", "triton"):
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append("none")
    folder = Path(__file__).parent
    sources = [*sorted(folder.rglob("*.py")), folder.parent / "layers.py", *_sources(model)]
    code = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]
    layers = [(_description(model.get_submodule(call.layer)), call) for call in calls]
    everything = json.dumps([machine, versions, code, layers, str(dtype)], default=str)
    return hashlib.sha256(everything.encode()).hexdigest()


def _sources(model: nn.Module) -> list[Path]:
    """The files of all classes of a network that are not PyTorch's."""
    files = set()
    for kind in {type(module) for module in model.modules()}:
        if not kind.__module__.startswith("torch."):
            try:
                files.add(Path(inspect.getsourcefile(kind) or ""))
            except (TypeError, OSError):  # made in an interpreter
                continue
    return sorted(path for path in files if path.is_file())


def _folder() -> Path:
    """Where the outcomes of checks are kept."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hsi-fast-layers"


def _kept(key: str, check: Callable[[], str]) -> str | None:
    """Return what came of a check, made now unless it was made before; None if nothing is wrong."""
    try:
        path = _folder() / f"{key}.json"
        found = json.loads(path.read_text("utf-8"))["fault"]
        if isinstance(found, str):
            return found or None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: no home
        pass
    found = check()
    with contextlib.suppress(OSError, RuntimeError):
        path = _folder() / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"fault": found}) + "\n")
    return found or None
