"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override


@final
class Lion(torch.optim.Optimizer):
    """Step by the sign of ``b1 m + (1 - b1) g``, then update the momentum m by ``b2``; weight decay is decoupled.

    Parameters
    ----------
    params : iterable
        Parameters or groups.
    lr : float, optional
        Defaults to 1e-4.
    betas : pair of float, optional
        Of the step and of the momentum, in [0, 1). Defaults to (0.9, 0.99).
    weight_decay : float, optional
        Share of the weight taken off in a step, over the LR. Defaults to 0.

    References
    ----------
    .. [1] Chen et al. "Symbolic discovery of optimization algorithms." arXiv:2302.06675 (2023), algorithm 2.

    Examples
    --------
    >>> weight = torch.ones(2, requires_grad=True)
    >>> optimizer = Lion([weight], lr=0.25)
    >>> (weight * torch.tensor([3.0, -0.1])).sum().backward()
    >>> optimizer.step()
    >>> weight.tolist()
    [0.75, 1.25]
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Take one step; a closure is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "exp_avg" not in self.state[weight]:
                    self.state[weight]["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            momenta = [self.state[weight]["exp_avg"] for weight in weights]
            lr, (step_beta, momentum_beta) = group["lr"], group["betas"]
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
            steps = torch._foreach_sign(torch._foreach_lerp(momenta, gradients, 1 - step_beta))
            torch._foreach_add_(weights, steps, alpha=-float(lr))
            torch._foreach_lerp_(momenta, gradients, 1 - momentum_beta)
        return loss
