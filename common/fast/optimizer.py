"""An optimizer in its fastest form on the device of the network's parameters."""

import inspect

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NUMBERS_PER_PART = 8192


def fast_optimizer(kind: type[Optimizer], model: nn.Module, lr: float, **options) -> Optimizer:
    """Make an optimizer, fused where PyTorch offers that.

    On a GPU its update can then be captured in a CUDA graph, and the learning rate is a tensor that
    must stay the same one.
    """
    arguments, on_gpu = inspect.signature(kind).parameters, next(model.parameters()).is_cuda
    parameters = list(model.parameters())
    if "fused" in arguments:
        options["fused"] = True
        if on_gpu:
            parameters = [part for parameter in parameters for part in parts(parameter)]
    if on_gpu and "capturable" in arguments:
        options["capturable"] = True
        lr = torch.tensor(lr, device=parameters[0].device)
    return kind(parameters, lr=lr, **options)


def parts(parameter: nn.Parameter) -> list[nn.Parameter]:
    """Split a large parameter into parts that share its memory, and that of its gradients.

    PyTorch's fused optimizers have one block of threads go through 65,536 numbers of a parameter
    in turn, by far the longest way in an update of small networks.
    """
    small = parameter.numel() <= NUMBERS_PER_PART
    if small or not (parameter.requires_grad and parameter.is_contiguous()):
        return [parameter]
    pieces = [nn.Parameter(piece) for piece in _split(parameter.detach())]

    def share_gradient(parameter: nn.Parameter) -> None:
        for piece, gradient in zip(pieces, _split(parameter.grad), strict=True):
            piece.grad = gradient

    parameter.register_post_accumulate_grad_hook(share_gradient)
    return pieces


def _split(x: Tensor) -> tuple[Tensor, ...]:
    return x.reshape(-1).split(NUMBERS_PER_PART)
