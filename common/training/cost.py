"""What a network costs: its learned numbers, and the multiply-adds that a pixel takes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from common.training.classifier import Cost
from common.training.predict import has_halves

BATCH = 2  # some norms refuse a single patch


def network_cost(network: type[nn.Module], arguments: dict, half_width: int) -> Cost:
    """Count a network in its plain form, whatever form it runs in.

    Parameters
    ----------
    arguments : dict
        Those of its constructor, ``bands`` among them.
    half_width : int
        p: patches are (2p + 1) × (2p + 1).
    """
    width, bands = 2 * half_width + 1, arguments["bands"]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = network(**arguments).eval()
        learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
        try:
            _, macs = _counted(model, torch.zeros(BATCH, 1, width, width, bands))
            dense = _dense_macs(model, bands, half_width) if has_halves(model) else None
        except Exception:  # of whatever is in the network
            return Cost(learned)
    return Cost(learned, macs, dense)


def _dense_macs(model: nn.Module, bands: int, half_width: int) -> int:
    """Multiply-adds of one pixel's spectral half, one position's spatial stem, and the rest."""
    features, macs = _counted(model.spectral, torch.zeros(BATCH, 1, 1, 1, bands))
    if not hasattr(model, "spatial_stem"):
        around = _repeated(features, 2 * half_width + 1).unsqueeze(1)
    else:
        stems, of_stem = _counted(model.spatial_stem, _repeated(features, 3).unsqueeze(1))
        macs += of_stem
        around = _repeated(stems, 2 * half_width - 1).movedim(3, 1).unsqueeze(4)
    return macs + _counted(model.spatial, around)[1]


def _repeated(features: Tensor, width: int) -> Tensor:
    """Features of single positions, as windows (batch, width, width, features) of them."""
    flat = features.flatten(1)
    return flat[:, None, None].expand(len(flat), width, width, flat.shape[1])


def _counted(function: Callable[[Tensor], Tensor], batch: Tensor) -> tuple[Tensor, int]:
    """Return what a function gives of a batch, and its multiply-adds per item."""
    with _Counter() as counter:
        result = function(batch)
    return result, counter.flops // 2 // len(batch)


class _Counter(TorchDispatchMode):
    """Adds up the operations as `torch.utils.flop_counter.FlopCounterMode` does, by its formulas.

    That one itself has PyTorch's compiler loaded, which takes two seconds and 90 MB.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Let nothing be compiled, so that the compiler need not be told to leave this alone."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result
