"""The steps of a network in the order in which they run, for drawing.

The network is traced with `torch.fx` and run on one patch: kinds, sizes, shapes and shortcuts are
those of its modules and of its forward pass.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from common.layers import BatchNormReLU, WeightedSum

FUNCTIONS = {  # the functions that the forward passes call, as a reader knows them
    "mean": ("global", "average"),
    "transpose": ("kernels", "→ bands"),
}


@dataclass(frozen=True)
class Step:
    """One box, or one ⊕, of a diagram.

    Parameters
    ----------
    name : str
        Name of its own, e.g. "spectral_block_1.conv1".
    stage : str
        Title of the part of the network it belongs to.
    kind : str
        "data", "conv", "norm", "weights", "add", "linear" or "function".
    text : tuple of str
        Lines to write in its box.
    shape : tuple of int
        Shape of its output: (kernels, rows, cols, bands), or (features,).
    reads : tuple of str
        Names of the steps whose output it gets; the last one of an "add" is the shortcut.
    """

    name: str
    stage: str
    kind: str
    text: tuple[str, ...]
    shape: tuple[int, ...]
    reads: tuple[str, ...]


class _Tracer(fx.Tracer):
    """Looks into the stages and blocks of a network, not into its layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = isinstance(m, BatchNormReLU | WeightedSum)
        return layer or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, patch_shape: Sequence[int]) -> list[Step]:
    """List the steps of a network run on a random patch of shape (rows, cols, bands)."""
    traced = fx.GraphModule(network.eval(), _Tracer().trace(network))
    with torch.no_grad():
        ShapeProp(traced).propagate(torch.randn(1, 1, *patch_shape))
    steps: list[Step] = []
    last: dict[fx.Node, str] = {}  # what comes out of a node, by the name of its last step
    for node in traced.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        name = node.target if module else node.name
        shape = tuple(node.meta["tensor_meta"].shape[1:])
        shortcut = node.kwargs.get("shortcut")
        reads = tuple(last[n] for n in node.all_input_nodes if n is not shortcut)
        for part, (kind, text) in enumerate(_parts(node, module)):
            if kind == "add":
                reads = (*reads, last[shortcut])
            own = f"{name}/{part}" if part else name
            steps.append(Step(own, _stage(network, name, kind, shape), kind, text, shape, reads))
            reads = (own,)
        last[node] = steps[-1].name
    return steps


def shapes_inside(
    network: nn.Module, block: WeightedSum, patch_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Shapes of what a block of the network computes, run on a random patch (rows, cols, bands).

    They are listed by the names of the block's modules; "map" is one of the block's inputs,
    "average" an average of it, "weight" what it is multiplied by, "output" the block's output.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def before(_: nn.Module, maps: tuple[torch.Tensor, ...]) -> None:
        averages = torch.stack([x.mean(dim=(2, 3, 4)) for x in maps])
        weights = block.weights(averages)
        shapes["map"] = tuple(maps[0].shape[1:])
        shapes["average"], shapes["weight"] = tuple(averages.shape[2:]), tuple(weights.shape[2:])

    def after(name: str) -> Callable:
        def keep(_: nn.Module, __: tuple, output: torch.Tensor) -> None:
            shapes[name] = tuple(output.shape[1:])

        return keep

    modules = block.named_modules()
    hooks = [module.register_forward_hook(after(name or "output")) for name, module in modules]
    hooks.append(block.register_forward_pre_hook(before))
    with torch.no_grad():
        network.eval()(torch.randn(1, 1, *patch_shape))
    for hook in hooks:
        hook.remove()
    return shapes


def _parts(node: fx.Node, module: nn.Module | None) -> list[tuple[str, tuple[str, ...]]]:
    """(kind, text) of what one traced node does: several where a shortcut is added on the way."""
    add = [("add", ())] if node.kwargs.get("shortcut") is not None else []
    match module:
        case None if node.op == "placeholder":
            return [("data", ("patch",))]
        case None if node.op == "output":
            return [("data", ("logits",))]
        case None:
            return [("function", FUNCTIONS.get(str(node.target), (node.name,)))]
        case nn.Conv3d():
            return [("conv", conv_text(module))]
        case BatchNormReLU():
            before = ("ReLU", "BN") if module.relu_before else ("BN",)
            after = ("ReLU",) if module.relu else ()
            if not add:
                return [("norm", before + after)]
            return [("norm", before), *add, *([("norm", after)] if after else [])]
        case WeightedSum():
            return [
                ("weights", tuple(re.findall("[A-Z]+(?:[a-z]+)?", type(module).__name__))),
                *add,
            ]
        case nn.Dropout():
            return [("linear", ("dropout", f"{module.p:g}"))]
        case nn.Linear():
            return [("linear", ("linear", f"{module.in_features} → {module.out_features}"))]
    return [("function", (type(module).__name__,))]


def conv_text(conv: nn.Conv3d) -> tuple[str, ...]:
    """Write what a convolution is, its sizes as rows × cols × bands."""
    text = ["conv", times(conv.kernel_size)]
    if any(size != 1 for size in conv.stride):
        text.append(f"stride {times(conv.stride)}")
    if conv.padding == "same":
        text.append("same")
    elif any(conv.padding):
        text.append(f"pad {times(conv.padding)}")
    return tuple(text)


def times(sizes: Sequence[int]) -> str:
    """Write sizes as "7×7×97"."""
    return "×".join(map(str, sizes))


def shape_text(shape: Sequence[int]) -> str:
    """Write a shape: "7×7×97, 24" is 24 kernels of 7 rows × 7 cols × 97 bands."""
    kernels, *sizes = shape
    return f"{times(sizes)}, {kernels}" if sizes else str(kernels)


def readable(name: str) -> str:
    """Write an attribute's name in words: "kernel 1×1×7" for kernel_1x1x7."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", name).replace("_", " ")


def _stage(network: nn.Module, name: str, kind: str, shape: tuple[int, ...]) -> str:
    """Title of the part of the network that a step stands in: a block, or what follows the maps."""
    if "." in name:
        parent = name.partition(".")[0]
        form = getattr(network.get_submodule(parent), "form", None)
        return f"{readable(parent)} ({form})" if form else readable(parent)
    return "head" if len(shape) == 1 and kind != "data" else name
