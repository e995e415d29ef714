"""The coordinate check: whether activations grow with the width while a module trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import check_confidence
from lrscale.laws.claim import Claim, holm

Drift = Literal["grows", "does not grow", "cannot tell"]

MARGIN = 0.2
"""Power of the width up to which a size counts as constant: a factor of 1.15 for each doubling. Under the standard
parametrisation with Adam a hidden layer's change grows as the width to the power 1 once updates decide."""


JUDGED = 3
"""Updates after which a part is judged, by the mean of their powers: the loss has not answered to what they did yet.
Some steps later it has, and a module that outgrew its width shrinks again."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PartDrift:
    """How the output of one part of a module goes with the width."""

    name: str
    powers: tuple[float | None, ...]
    """d log size / d log width in the forward of each step; None where the part was not called at every width."""
    initial: float | None
    """That of the first step, before any update."""
    claim: Claim | None
    """The mean power after the first updates exceeds the margin; None where fewer than two seeds tell."""
    p_adjusted: float
    """Two-sided p-value of the claim, adjusted for the number of parts (Holm 1979)."""

    def drift(self, confidence: float) -> Drift:
        """Return whether it grows with the width: growth stands among all parts, its absence in its own interval."""
        if self.claim is None:
            return "cannot tell"
        if self.claim.verdict == "holds" and self.p_adjusted < 1 - confidence:
            return "grows"
        return "does not grow" if self.claim.verdict == "does not hold" else "cannot tell"

    def to_dict(self, confidence: float) -> dict[str, Any]:
        """Return JSON values."""
        claim = self.claim
        return {
            "name": self.name,
            "powers": list(self.powers),
            "initial": self.initial,
            "power": None if claim is None else claim.value,
            "lo": None if claim is None else claim.lo,
            "hi": None if claim is None else claim.hi,
            "p_adjusted": self.p_adjusted,
            "drift": self.drift(confidence),
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinateCheck:
    """What the sizes of activations say of all parts of a module. `coordinate_check` makes it."""

    parts: tuple[PartDrift, ...]
    """In the order in which they were given."""
    drift: Drift
    """`grows` where a part does; `does not grow` where none does."""
    seeds: int
    steps: int
    margin: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "parts": [part.to_dict(self.confidence) for part in self.parts],
            "drift": self.drift,
            "seeds": self.seeds,
            "steps": self.steps,
            "margin": self.margin,
            "confidence": self.confidence,
        }


def coordinate_check(
    sizes: Mapping[str, Mapping[int, Mapping[float, Sequence[float | None]]]],
    *,
    margin: float = MARGIN,
    confidence: float = 0.95,
) -> CoordinateCheck:
    """Fit the power of the width in the size of each part's output, step by step.

    A power is fitted for each seed over its widths. A part is judged by the mean of its powers after the first three
    updates, where the spread of the seeds is the error (Student's t).

    Parameters
    ----------
    sizes : mapping of str to mapping of seed to mapping of width to sequence of float
        Part -> seed -> width -> mean absolute output in the forward of each step; None where it was not called.
    margin : float, optional
        Power that counts as none, at least 0. Default 0.2.
    confidence : float, optional
        Default 0.95.

    Raises
    ------
    LrscaleError
        When a seed has fewer than two widths, or a width is not positive.

    References
    ----------
    .. [1] Yang et al. "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer."
       arXiv:2203.03466 (2022), appendix D.

    Examples
    --------
    >>> grows = {seed: {w: [1.0, w ** (0.5 + 0.01 * seed)] for w in (64, 128)} for seed in range(3)}
    >>> still = {seed: {w: [w**-0.5, w ** (0.01 * seed)] for w in (64, 128)} for seed in range(3)}
    >>> check = coordinate_check({"hidden": grows, "output": still})
    >>> check.drift, [part.drift(0.95) for part in check.parts], round(check.parts[1].initial, 2)
    ('grows', ['grows', 'does not grow'], -0.5)
    """
    check_confidence(confidence)
    steps = max(
        (len(row) for seeds in sizes.values() for widths in seeds.values() for row in widths.values()), default=0
    )
    parts: list[PartDrift] = []
    claims: dict[str, Claim | None] = {}
    for name, seeds in sizes.items():
        by_seed = [[_power(widths, step) for step in range(steps)] for widths in seeds.values()]
        known = [[own[step] for own in by_seed if own[step] is not None] for step in range(steps)]
        means = tuple(_mean(row) for row in known)
        judged_by = [_mean([one for one in own[1 : 1 + JUDGED] if one is not None]) for own in by_seed]
        whole = [one for one in judged_by if one is not None]
        claims[name] = Claim.of_pairs(whole, threshold=margin, confidence=confidence)
        parts.append(
            PartDrift(name=name, powers=means, initial=means[0] if means else None, claim=claims[name], p_adjusted=1.0)
        )
    adjusted = holm({name: claim.p_value for name, claim in claims.items() if claim is not None})
    judged = tuple(
        PartDrift(
            name=part.name,
            powers=part.powers,
            initial=part.initial,
            claim=part.claim,
            p_adjusted=adjusted.get(part.name, 1.0),
        )
        for part in parts
    )
    drifts = {part.drift(confidence) for part in judged}
    drift: Drift = "cannot tell"
    if "grows" in drifts:
        drift = "grows"
    elif drifts == {"does not grow"}:
        drift = "does not grow"
    return CoordinateCheck(
        parts=judged,
        drift=drift,
        seeds=max((len(seeds) for seeds in sizes.values()), default=0),
        steps=steps,
        margin=margin,
        confidence=confidence,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _power(widths: Mapping[float, Sequence[float | None]], step: int) -> float | None:
    """Return the least-squares power of the width in a step's sizes; None where one is missing or zero."""
    if len(widths) < 2 or any(not width > 0 for width in widths):
        raise LrscaleError(f"a power needs two positive widths, not {list(widths)}", hint="train at two widths or more")
    found = [row[step] if step < len(row) else None for row in widths.values()]
    known = [size for size in found if size is not None and size > 0 and math.isfinite(size)]
    if len(known) < len(found):
        return None
    return float(np.polyfit(np.log(np.array(list(widths))), np.log(known), 1)[0])
