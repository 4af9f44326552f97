"""The optimizers that `-o` names."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.recipe import Recipe


class DiffGrad(Optimizer):
    """DiffGrad: Adam with a friction that slows parameters whose gradient hardly changes.

    Dubey et al., "diffGrad: An Optimization Method for Convolutional Neural Networks", IEEE TNNLS
    2020, doi 10.1109/TNNLS.2019.2955777.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], *group["betas"], group["eps"])

    def _update(self, parameter: Tensor, lr: float, beta1: float, beta2: float, eps: float):
        gradient, state = parameter.grad, self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("mean", "mean_square", "previous_gradient"):
                state[name] = torch.zeros_like(parameter)
        state["step"] += 1
        mean, mean_square = state["mean"], state["mean_square"]
        mean.lerp_(gradient, 1 - beta1)
        mean_square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        friction = (state["previous_gradient"] - gradient).abs().sigmoid()
        state["previous_gradient"].copy_(gradient)

        unbiased_mean = mean / (1 - beta1 ** state["step"])
        unbiased_square = mean_square / (1 - beta2 ** state["step"])
        parameter.sub_(lr * friction * unbiased_mean / (unbiased_square.sqrt() + eps))


OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "diffgrad": DiffGrad,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


NUMBERS_PER_PART = 8192


def make_optimizer(
    name: str, model: nn.Module, lr: float, recipe: Recipe, on_gpu: bool = False
) -> Optimizer:
    """Make the optimizer called `name`, in its fastest form on the device.

    Of the recipe, its `adam_beta2` is for those of Adam's kind, `adamw_decay` for AdamW and
    `rmsprop_decay` for RMSprop.
    On a GPU the learning rate is a tensor and the update can be captured in a CUDA graph, where
    PyTorch's implementation offers that.
    """
    kind = _without_compiler(OPTIMIZERS[name])
    arguments = inspect.signature(kind).parameters
    options = {"fused": True} if "fused" in arguments else {}
    if "betas" in arguments:
        options["betas"] = (0.9, recipe.adam_beta2)
    if name == "rmsprop":
        options["alpha"] = recipe.rmsprop_decay
    if name == "adamw":
        options["weight_decay"] = recipe.adamw_decay
    if on_gpu and "capturable" in arguments:
        options["capturable"] = True
        lr = torch.tensor(lr, device=next(model.parameters()).device)
    parameters = model.parameters()
    if on_gpu and "fused" in arguments:
        parameters = [part for parameter in parameters for part in parts(parameter)]
    return kind(parameters, lr=lr, **options)


def parts(parameter: nn.Parameter) -> list[nn.Parameter]:
    """Split a large parameter into parts that share its memory, and that of its gradients.

    PyTorch's fused optimizers have one block of threads go through 65,536 numbers of a parameter
    in turn, by far the longest way in an update of small networks.
    """
    if parameter.numel() <= NUMBERS_PER_PART:
        return [parameter]
    pieces = [nn.Parameter(piece) for piece in _split(parameter.detach())]

    def share_gradient(parameter: nn.Parameter) -> None:
        for piece, gradient in zip(pieces, _split(parameter.grad), strict=True):
            piece.grad = gradient

    parameter.register_post_accumulate_grad_hook(share_gradient)
    return pieces


def _split(x: Tensor) -> tuple[Tensor, ...]:
    return x.view(-1).split(NUMBERS_PER_PART)


def _without_compiler(kind: type[Optimizer]) -> type[Optimizer]:
    """Return the optimizer without its import of PyTorch's compiler: a second and 50 MB.

    What PyTorch imports it for is only to tell it that it must leave the optimizer alone.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = inspect.unwrap(getattr(Optimizer, name))
        vars(method).setdefault("__dynamo_disable", method)  # where PyTorch looks before it imports
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(inspect.unwrap(kind.step))})


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
