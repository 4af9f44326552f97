"""Which modules of a network the fast layers stand in for: those whose arithmetic they know.

A network of one's own may hold anything.  A module is replaced only where it is of the very class,
not of a subclass with a forward pass of its own, and where nobody hooks into it; all others run as
PyTorch has them.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from types import MethodType

import torch
from torch import Tensor, nn

from common.fast.feature_map import FeatureMap, as_seen
from common.layers import BatchNormReLU, GatedSum, WeightedSum

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def use_layers(model: nn.Module, form, dtype: torch.dtype | None) -> nn.Module:
    """Let a network's layers be those of a form (see `Layers`); with None, what they are."""
    first = next(model.parameters(), None)
    on_cpu = first is None or first.is_cpu
    for module in in_fast_form(model).values():
        del module.compute_dtype, module.map_dtype, module.forward
    for _, module, function in list(replaceable(model)) if form else ():
        module.compute_dtype = _compute_dtype(module, dtype, on_cpu)
        module.map_dtype = dtype  # of the CPU's maps
        module.forward = MethodType(_forward(form, function), module)
    return model


def in_fast_form(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a network that are replaced, by name."""
    return {name: m for name, m in model.named_modules() if "compute_dtype" in vars(m)}


def _compute_dtype(module: nn.Module, dtype: torch.dtype | None, on_cpu: bool) -> torch.dtype:
    """What a layer computes in."""
    if dtype and isinstance(module, nn.Conv3d) and max(module.kernel_size[2 * on_cpu :]) > 1:
        return dtype
    return next((parameter.dtype for parameter in module.parameters()), torch.float32)


@functools.cache
def _forward(form, function: str) -> Callable:
    """Return a function of a form as the forward pass of the modules it stands in for."""
    layer = getattr(form, function)

    def forward(module: nn.Module, *maps, shortcut=None, **named):
        maps += tuple(named.values())  # such as nn.Conv3d's ``input``
        if function == "batch_norm_relu" and len(maps) == 2:
            *maps, shortcut = maps
        more = {} if shortcut is None else {"shortcut": shortcut}
        if not suits(module, (*maps, *more.values()), function):
            more = {name: as_seen(x) for name, x in more.items()}
            return type(module).forward(module, *map(as_seen, maps), **more)
        out = layer(module, *maps, **more)
        return out if isinstance(out, FeatureMap) else out.contiguous()

    return forward


def replaceable(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name and module of each that can be replaced, and the function of `Layers` for it.

    Hooks on the network as a whole see its patches and logits, tensors in any form.  Those on one
    of its blocks would see maps, so that nothing within such a block is replaced.
    """
    hooked = tuple(f"{name}." for name, block in network.named_modules() if name and _hooks(block))
    for name, module in network.named_modules():
        function = None if "forward" in vars(module) else function_for(module)
        if function and not f"{name}.".startswith(hooked) and not _hooks(module):
            yield name, module, function


def function_for(module: nn.Module) -> str | None:
    """The function of `Layers` that computes what a module does, if there is one."""
    kind, types = type(module), {parameter.dtype for parameter in module.parameters()}
    if types - {torch.float32, torch.float64}:
        return None
    if kind is nn.Conv3d:
        return "conv"
    if kind in (nn.BatchNorm3d, BatchNormReLU):
        usual = module.affine and module.track_running_stats and module.momentum is not None
        return "batch_norm_relu" if usual else None
    if isinstance(module, WeightedSum) and kind.forward is WeightedSum.forward:
        return "weighted_sum"
    return None


def _hooks(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in HOOKS)


def suits(module: nn.Module, maps: Sequence[Tensor | FeatureMap], function: str) -> bool:
    """Whether what a module is called with is what the fast layers expect.

    With anything else PyTorch's own layer does what it can, or says what is wrong.
    """
    first = maps[0]
    shape = first.shape
    if len(shape) != 5 or not shape[0] or any(x.shape != shape for x in maps[1:]):
        return False
    if function == "weighted_sum":
        return len(maps) == 2 and _one_type(maps, None)
    if function == "conv":
        return shape[1] == module.in_channels and _one_type(maps, module.weight.dtype)
    many = not module.training or math.prod(shape) > shape[1]  # else there is no variance
    return many and shape[1] == module.num_features and _one_type(maps, module.weight.dtype)


def _one_type(maps: Sequence[Tensor | FeatureMap], kind: torch.dtype | None) -> bool:
    """Whether all tensors among these are of one type, the given one or any of the usual."""
    types = {x.dtype for x in maps if isinstance(x, Tensor)}
    return types <= ({kind} if kind else {torch.float32, torch.float64}) and len(types) <= 1


def has_gates(module: WeightedSum) -> bool:
    """Whether its weights are those of `GatedSum`, and nobody looks at them."""
    return type(module).weights is GatedSum.weights and "weights" not in vars(module)
