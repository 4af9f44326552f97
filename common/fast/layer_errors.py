"""How far a fast layer is from PyTorch's own in float64, over what rounding explains."""

import copy
import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.fast.cpu.weight_tiles import constant
from common.fast.replaced import use_layers
from common.layers import BatchNormReLU

PATCHES, FEWER_PATCHES = 17, 3  # one vector of 16 lanes is full, the next one is not
LARGEST_MAP = 2**24  # numbers, of which there are that many patches
# Inputs of ReLUs are kept that far from zero, or have no gradient, so that an error flips none.
MARGINS = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.15}


class Call(NamedTuple):
    """How a network calls one of its layers.

    Attributes
    ----------
    shapes : tuple of tuples
        Of the maps given, without the batch.
    led_back : tuple of bool
        Whether each of them has a gradient.
    shortcut : bool
        Whether the last of them is a shortcut.
    """

    layer: str
    shapes: tuple[tuple[int, ...], ...]
    led_back: tuple[bool, ...]
    shortcut: bool
    training: bool


def tolerance(module: nn.Module, call: Call, kind: torch.dtype) -> float:
    """Largest error that rounding explains, over the root mean square of what is computed.

    Counted are roundings of half a unit in the last place.  A sum of n numbers, one after another,
    is off by n of them at most, and by so many where they do not average out: in the statistics of
    a map that a ReLU has made half of zeros.  A layer has two such sums one after the other, its
    own and those of the batch norms around it, and the other operations some 10, for the largest of
    millions of errors 64.  In bfloat16 sums are float32, and what counts is that some five times
    numbers of up to five times the usual size are rounded to it; a batch norm behind makes that
    up to four times as large in a channel that varies little.
    """
    longest_sum = max(math.prod(shape[1:]) for shape in call.shapes)
    if isinstance(module, nn.Conv3d):
        longest_sum = max(longest_sum, module.weight[0].numel())
    sums = torch.float32 if kind == torch.bfloat16 else kind
    of_sums = (64 + 2 * longest_sum) * torch.finfo(sums).eps / 2
    return of_sums + (96 * torch.finfo(kind).eps / 2 if kind == torch.bfloat16 else 0.0)


def errors(
    module: nn.Module, call: Call, form, dtype: torch.dtype | None, device: torch.device
) -> dict[str, float]:
    """Errors of a layer among batch norms, called so, over what rounding explains; by name.

    In training they are also those of the gradients of all inputs and parameters, and of running
    statistics.  The module itself is left alone; its parameters are drawn anew in a copy.
    """
    of_parameters = next((p.dtype for p in module.parameters()), torch.float32)
    kind = dtype or of_parameters
    numbers = max(math.prod(shape) for shape in call.shapes)
    patches = PATCHES if PATCHES * numbers <= LARGEST_MAP else FEWER_PATCHES
    generator = torch.Generator().manual_seed(0)
    plain = Surrounded(use_layers(copy.deepcopy(module), None, None).cpu(), call)
    plain.to(of_parameters).train(call.training)
    _randomise(plain, generator)
    inputs = [torch.randn(patches, *shape, generator=generator) for shape in call.shapes]
    fast = use_layers(copy.deepcopy(plain).to(device), form, dtype)
    plain = plain.to(device).double()
    inputs = [x.to(dtype or x.dtype).to(device).double() for x in inputs]
    plain.keep_from_zero(inputs, MARGINS[kind] / 100, dtype)

    outputs, gradients, arriving = [], [], [1.0]
    for network, of_type in ((plain, torch.float64), (fast, of_parameters)):
        xs = [x.to(of_type, copy=True) for x in inputs]
        for x, led_back in zip(xs, call.led_back, strict=True):
            x.requires_grad_(led_back and call.training)
        if not call.training:
            with torch.no_grad(), constant(network):
                outputs.append(network(*xs) + 0)
            continue
        if network is plain:
            upstream = _upstream(plain, xs, MARGINS[kind], generator)
            plain.module.register_forward_hook(partial(_note_gradient, arriving))
        out = network(*xs) + 0
        (out * upstream.to(of_type)).sum().backward()
        outputs.append(out.detach())
        found = {f"gradient of input {n}": x.grad for n, x in enumerate(xs) if x.requires_grad}
        found |= {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
        gradients.append(found | dict(network.named_buffers()))

    off = {"output": _off(outputs[1], outputs[0])}
    if call.training:
        # The largest of many sums over all places is three of their standard deviations.  Much of a
        # gradient may cancel, as all of that of a bias before a norm does, but not its roundings.
        usual = 3 * max(arriving) * math.sqrt(outputs[0].numel() / outputs[0].shape[1])
        parameters = {f"gradient of {name}" for name, _ in plain.named_parameters()}
        for name, truth in gradients[0].items():
            if truth is not None and truth.is_floating_point():
                off[name] = _off(gradients[1][name], truth, usual if name in parameters else 0.0)
    allowed = tolerance(module, call, kind)
    return {name: error / allowed for name, error in off.items()}


class Surrounded(nn.Module):
    """A layer between batch norms, as in networks: maps come and go as they do there."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self.shortcut = module, call.shortcut
        is_norm = isinstance(module, nn.BatchNorm3d)
        self.before = nn.ModuleList(
            BatchNormReLU(shape[0]) if led_back and not is_norm else nn.Identity()
            for shape, led_back in zip(call.shapes, call.led_back, strict=True)
        )
        kernels = getattr(module, "out_channels", call.shapes[0][0])
        self.after = nn.Identity() if is_norm else BatchNormReLU(kernels)

    def forward(self, *inputs: Tensor) -> Tensor:
        maps = [norm(x) for norm, x in zip(self.before, inputs, strict=True)]
        shortcut = {"shortcut": maps.pop()} if self.shortcut else {}
        return self.after(self.module(*maps, **shortcut))

    def keep_from_zero(
        self, inputs: list[Tensor], margin: float, dtype: torch.dtype | None
    ) -> None:
        """Move inputs in place until none of the ReLUs before the layer has one near zero."""
        for x, norm in zip(inputs, self.before, strict=True):
            for _ in range(5):
                if isinstance(norm, BatchNormReLU):
                    at = without_relu(norm, x)
                elif getattr(self.module, "relu_before", False):
                    at = x
                else:
                    break
                x += torch.where(at.abs() < margin, 2 * margin + x.abs() / 64, 0.0)
                if dtype:
                    x.copy_(x.to(dtype))


def without_relu(norm: nn.Module, *inputs: Tensor) -> Tensor:
    """What a batch norm, or a layer among them, gives before its last ReLU."""
    without = copy.deepcopy(norm)
    last = without
    if isinstance(without, Surrounded):
        last = without.module if isinstance(without.after, nn.Identity) else without.after
    if isinstance(last, BatchNormReLU):
        last.relu = False
    with torch.no_grad():
        return without(*inputs)


def _upstream(
    plain: Surrounded, inputs: list[Tensor], margin: float, generator: torch.Generator
) -> Tensor:
    """A random gradient of the output; zero where the last ReLU's input lies near zero."""
    at = without_relu(plain, *inputs)
    gradient = torch.randn(at.shape, generator=generator).to(at.device, at.dtype)
    return gradient * (at.abs() > margin)


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    """Give all parameters and running statistics values that have an effect."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, parameter in module.named_parameters(recurse=False):
            inputs = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.data.normal_(0, inputs**-0.5, generator=generator)
            if is_norm and name == "weight":
                parameter.data.uniform_(0.5, 1.5, generator=generator)
        if is_norm and module.track_running_stats:
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def _note_gradient(arriving: list[float], module: nn.Module, _, out: Tensor) -> None:
    """Note how large the gradient is that arrives at a module's output, where it is largest.

    A batch norm behind it makes it the larger the less a channel varies.
    """
    out.register_hook(
        lambda g: arriving.append(g.square().mean(dim=(0, 2, 3, 4)).sqrt().max().item())
    )


def _off(found: Tensor, truth: Tensor, least: float = 0.0) -> float:
    """Largest error, over the root mean square of the truth or over `least`."""
    if found is None or found.shape != truth.shape:
        return math.inf
    scale = max(truth.square().mean().sqrt().item(), least, torch.finfo(torch.float32).tiny)
    error = (found.double() - truth).abs().max().item() / scale
    return error if math.isfinite(error) else math.inf
