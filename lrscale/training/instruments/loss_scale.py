"""What the AMP scaler multiplies losses and gradients by."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def loss_scale(trainer: Any) -> float | Tensor:
    """Return what the AMP scaler multiplies losses by now, without waiting for the device; 1 without a scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not scaler.is_enabled():
        return 1.0
    scale = getattr(scaler, "_scale", None)
    return float(scaler.get_scale()) if scale is None else scale.detach().clone()


def gradient_scale(trainer: Any, optimizer: Any) -> float | Tensor:
    """Return what the gradient is still multiplied by when Lightning is about to step an optimizer.

    Lightning unscales it before, except for an optimizer that does so inside of its step, as fused ones do.
    """
    return loss_scale(trainer) if getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0
