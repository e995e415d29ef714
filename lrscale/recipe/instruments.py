"""What every trial measures besides its loss: the recipe's `instruments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lrscale.recipe.choices import long_switch
from lrscale.recipe.fields import Count, Real
from lrscale.recipe.task import Section


class NoiseScaleInstrument(Section):
    """The gradient noise scale of every trial, from gradients that training computes anyway."""

    budget: Annotated[Real, Field(gt=0, lt=1)] = 0.015
    """Largest share of the time of training that measuring may take, in (0, 1). Where steps are very short, only some
    of them are measured."""
    preconditioned_every: Count | None = 5
    """Measured steps between those that are also measured as Adam sees them; ``null``: never."""
    parts: Annotated[Count, Field(ge=2)] = 4
    """Parts that a batch is cut into on one device without accumulation, where a step has one gradient only; at
    least 2."""


class StabilityInstrument(Section):
    """Spikes of the training loss, told from noise by the losses and gradients before them."""


class SharpnessInstrument(Section):
    """How many times the LR could be before the update would raise the loss of its own batch."""

    every: Count = 50
    """Steps from one measurement to the next."""
    evaluations: Annotated[Count, Field(ge=2, le=20)] = 8
    """Most forwards of a measurement besides that of the loss itself, 2 to 20."""


class CoordinatesInstrument(Section):
    """Mean absolute output of every part of the module in the first training steps."""

    steps: Count = 8
    """Steps that are measured."""


class Instruments(Section):
    """What rides along on every trial. It changes no result; ``false`` turns one off, ``true`` takes its defaults.

    Examples
    --------
    >>> Instruments.model_validate({"noise_scale": False}).riding()
    {'stability': {}}
    >>> Instruments().riding()["noise_scale"]["budget"]
    0.015
    """

    noise_scale: Annotated[NoiseScaleInstrument | None, BeforeValidator(long_switch)] = Field(
        default_factory=NoiseScaleInstrument
    )
    """Gradient noise scale; on by default."""
    stability: Annotated[StabilityInstrument | None, BeforeValidator(long_switch)] = Field(
        default_factory=StabilityInstrument
    )
    """Norm of the gradient at every step, and spikes of the loss; on by default."""
    sharpness: Annotated[SharpnessInstrument | None, BeforeValidator(long_switch)] = None
    """Margin to the edge of stability; off by default, since it costs forward passes."""

    coordinates: Annotated[CoordinatesInstrument | None, BeforeValidator(long_switch)] = None
    """Size of activations over the first steps; off by default: the check of a width measures it on its own trials."""

    def riding(self) -> dict[str, Mapping[str, Any]]:
        """Return the settings of the instruments that are on, by name, as JSON values."""
        return {name: settings for name, settings in self.model_dump(mode="json").items() if settings is not None}
