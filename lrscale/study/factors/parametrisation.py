"""Whether the settings of one width serve another: the drift of the best LR, and the outputs of the module's parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.laws.optimal_lr.factor_law import FactorLaw
from lrscale.laws.parametrisation import CoordinateCheck, LRDrift, lr_drift
from lrscale.laws.parametrisation.coordinates import JUDGED
from lrscale.store import Trial
from lrscale.study.factors.coordinates import measured_coordinates
from lrscale.study.factors.grid import FactorGrid
from lrscale.study.words import number

MOST_NAMED = 3
"""Parts that a sentence names."""
_ADAPTIVE = ("adam", "lion", "lamb", "adafactor", "rmsprop", "muon", "sophia")


def parametrisation(
    grid: FactorGrid, law: FactorLaw | None, checked: Sequence[Trial], optimizers: Sequence[str]
) -> dict[str, Any]:
    """Return what the trials say of the parametrisation of a width.

    Parameters
    ----------
    grid : FactorGrid
    law : FactorLaw or None
        Of the best LR in the width; None where it has none.
    checked : sequence of Trial
        The trials that compare the outputs of its parts.
    optimizers : sequence of str
        Class names of the optimizers that the module makes.
    """
    drift = None if law is None else lr_drift(law)
    check, sizes = measured_coordinates(grid, checked)
    adaptive = any(mark in name.lower() for name in optimizers for mark in _ADAPTIVE)
    return {
        "drift": None if drift is None else drift.to_dict(),
        "coordinates": None if check is None else check.to_dict(),
        "sizes": sizes,
        "adaptive": adaptive,
        "sentence": _sentence(grid.short, drift, check, sizes, adaptive),
    }


def _sentence(
    name: str, drift: LRDrift | None, check: CoordinateCheck | None, sizes: Mapping[str, Any], adaptive: bool
) -> str:
    return f"{_of_drift(name, drift, adaptive)} {_of_outputs(name, check, sizes)}"


def _of_drift(name: str, drift: LRDrift | None, adaptive: bool) -> str:
    if drift is None:
        return f"Whether the best learning rate of one {name} serves another cannot be told."
    if drift.transfer == "transfers":
        return (
            f"The best learning rate of one {name} serves another, as under the maximal update parametrisation: its "
            f"power lies within {drift.margin:g} of none."
        )
    if drift.transfer == "drifts":
        theory = ""
        if adaptive:
            kept = not drift.excluded["standard, Adam"]
            theory = f"; 1 / {name}, that of hidden matrices in the standard parametrisation, is "
            theory += "not excluded" if kept else "excluded too"
        return (
            f"The best learning rate of one {name} does not serve another: no change, that of the maximal update "
            f"parametrisation, is excluded{theory}."
        )
    return (
        f"Whether the best learning rate of one {name} serves another cannot be told: its power is not known to "
        f"{drift.margin:g}."
    )


def _of_outputs(name: str, check: CoordinateCheck | None, sizes: Mapping[str, Any]) -> str:
    if check is None:
        return f"The outputs of the module's parts were not measured at two values of {name}."
    scope = f"first {JUDGED} updates at LR {number(sizes['lr'])}, {check.seeds} seeds"
    growing = sorted(
        (part for part in check.parts if part.drift(check.confidence) == "grows"),
        key=lambda part: -(part.claim.value if part.claim is not None else 0.0),
    )
    if growing:
        named = ", ".join(
            f"{part.name} with power {number(part.claim.value)}"
            for part in growing[:MOST_NAMED]
            if part.claim is not None
        )
        more = "" if len(growing) <= MOST_NAMED else f" and {len(growing) - MOST_NAMED} more"
        return f"As the module begins to train, outputs grow with {name}: {named}{more} ({scope})."
    if check.drift == "does not grow":
        return (
            f"As the module begins to train, the outputs of none of its {len(check.parts)} parts grow with {name} "
            f"beyond the power {check.margin:g} ({scope})."
        )
    return f"Whether outputs grow with {name} as the module begins to train, the seeds cannot tell ({scope})."
