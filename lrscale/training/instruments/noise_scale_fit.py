"""The state of the noise scale's instrument while a Trainer trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch

from lrscale.training.instruments.cadence import Cadence
from lrscale.training.instruments.micro_gradients import AdamDenominators, Norms


@final
@dataclass(slots=True)
class NoiseScaleFit:
    """What `NoiseScaleInstrument` knows of one fit on this rank."""

    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    names: list[str] = field(default_factory=list)
    """Of the parameter groups."""
    trained: list[tuple[str, int]] = field(default_factory=list)
    """(group, identity) of every parameter that is measured."""
    denominators: AdamDenominators | None = None
    step: int = 0
    """The Trainer's ``global_step`` while a batch is under way."""
    batch_examples: float = 1.0
    """Of the micro-batch that is under way."""
    listening: bool = False
    """Whether steps have several micro-gradients; otherwise batches are cut into parts now and then."""
    measuring: bool = False
    """Whether the step that is under way has several, and is measured."""
    cadence: Cadence = field(default_factory=lambda: Cadence(None))
    split_at: int | None = None
    """Step whose batch was cut into parts last."""
    exchanges: int = 0
    bucket_view: bool = False
    """Whether DDP lets ``grad`` be a view into its buckets."""
    on_leaves: bool = False
    """Whether hooks on the parameters see every gradient."""
    direct: bool = False
    """Whether ``grad`` holds one backward when it ends."""
    precondition: bool = False
    """Whether the step that is under way is measured with preconditioning too."""
    turns: int = 0
    """Steps that might have been."""
    backwards: list[tuple[float, Norms]] = field(default_factory=list)
    """(examples, norms) of the backwards of the step that is under way."""
    odd_steps: int = 0
    refused_split: str | None = None
    """Why a batch was not measured part by part, the last time that it was not."""
    gave_up: bool = False
    """Whether no further batch is tried."""
    notes: list[str] = field(default_factory=list)
