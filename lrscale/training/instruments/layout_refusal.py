"""Where micro-gradients cannot be read."""

from __future__ import annotations

from typing import Any

_WHOLE = frozenset({"SingleDeviceStrategy", "DDPStrategy"})
"""Strategies whose ranks each hold the whole gradient, in both flavours of Lightning."""


def holds_whole_gradient(strategy: Any) -> bool:
    """Whether each rank holds all parameters and the whole gradient of its batch."""
    return bool({kind.__name__ for kind in type(strategy).__mro__} & _WHOLE)


def refusal(trainer: Any, module: Any) -> str | None:
    """Return why the noise scale of a fit cannot be measured, or None."""
    strategy = trainer.strategy
    if not module.automatic_optimization:
        return f"{type(module).__name__} steps its optimizers itself, and which backwards belong to a step is not known"
    if not trainer.optimizers:
        return "the module has no optimizer"
    if not holds_whole_gradient(strategy):
        return f"under {type(strategy).__name__} a rank does not hold a whole gradient"
    if getattr(strategy, "_ddp_comm_hook", None) is not None and trainer.world_size > 1:
        return "a DDP communication hook changes the gradient on its way"
    return None
