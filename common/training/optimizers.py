"""The optimizers that `-o` names."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.fast import fast_optimizer
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


def make_optimizer(name: str, model: nn.Module, lr: float, recipe: Recipe) -> Optimizer:
    """Make the optimizer called `name` for a network's parameters.

    Of the recipe, its `adam_beta2` is for those of Adam's kind, `adamw_decay` for AdamW and
    `rmsprop_decay` for RMSprop.
    """
    kind, options = _without_compiler(OPTIMIZERS[name]), {}
    if "betas" in inspect.signature(kind).parameters:
        options["betas"] = (0.9, recipe.adam_beta2)
    if name == "rmsprop":
        options["alpha"] = recipe.rmsprop_decay
    if name == "adamw":
        options["weight_decay"] = recipe.adamw_decay
    return fast_optimizer(kind, model, lr, **options)


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
        if isinstance(group["lr"], Tensor):  # as `fast_optimizer` makes it on a GPU
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
