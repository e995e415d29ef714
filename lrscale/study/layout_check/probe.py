"""What a trial with a pinned layout recorded of its first steps, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from lrscale.units import Layout

FloatArray = npt.NDArray[np.float64]

EXACT_FACTOR = 256.0
"""Tolerance in units of the roundoff for single and double precision, whose sums run over thousands of terms in an
order that follows the shape of the batch."""
HALF_FACTOR = 8.0
"""Tolerance in units of the roundoff for half precision: sums are kept in single precision, and what differs is how
their results round."""
SINGLE_ROUNDOFF = 2.0**-24


def tolerance_of(roundoff: float) -> float:
    """Return the relative difference of two gradients that rounding explains.

    Examples
    --------
    >>> f"{tolerance_of(2.0**-24):.1e} {tolerance_of(2.0**-8):.1e}"
    '1.5e-05 3.1e-02'
    """
    if roundoff <= SINGLE_ROUNDOFF:
        return EXACT_FACTOR * roundoff
    return max(EXACT_FACTOR * SINGLE_ROUNDOFF, HALF_FACTOR * roundoff)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedStep:
    """One optimizer step."""

    losses: FloatArray
    """Of each micro-batch, rank by rank; shape (micro-batches,). Empty where the module returns none."""
    micro: FloatArray | None
    """Sketches of the micro-batches' gradients, shape (micro-batches, 64); None where they cannot be told apart."""
    whole: FloatArray
    """Sketch of the step's gradient, shape (64,)."""
    sketches: FloatArray
    """Sketches by parameter, shape (parameters, width)."""
    norms: FloatArray
    """Norms by parameter, shape (parameters,)."""
    examples: tuple[int | None, ...]
    """Of each micro-batch."""
    hashes: tuple[tuple[str, ...], ...]
    """Of each rank's batches in the order of its forwards; zeros for a batch without tensors."""
    rows: int | None
    """Hash of the examples of all micro-batches together, in any order; None where examples cannot be told apart."""
    shapes: frozenset[str]
    """Shapes of the examples of all micro-batches: more than one where batches are padded to their longest."""
    drew: bool
    """Whether some rank drew random numbers between the batch and the end of the step."""
    spread: float | None
    """Largest relative difference of the step's gradient among the ranks."""

    @property
    def finite(self) -> bool:
        """Whether the step has a gradient and a loss that are numbers."""
        return bool(np.isfinite(self.sketches).all() and np.isfinite(self.losses).all())


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The first steps of one trial."""

    layout: Layout
    roundoff: float
    precision: str
    automatic: bool
    names: tuple[str, ...]
    sizes: FloatArray
    """Elements of each parameter."""
    unused: tuple[str, ...]
    """Parameters that got no gradient in any step."""
    batch_norm: tuple[tuple[str, str], ...]
    """Name and kind of each layer that takes statistics over the batch at hand."""
    steps: tuple[ProbedStep, ...]

    @property
    def tolerance(self) -> float:
        """Relative difference of two gradients that rounding explains."""
        return tolerance_of(self.roundoff)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a global batch."""
        return self.layout.accumulate * self.layout.world_size

    @classmethod
    def of(cls, layout: Layout, measured: Mapping[str, Any]) -> Probe | None:
        """Read the measurement of a `layout_probe`; None when it has no step."""
        if not measured.get("steps"):
            return None
        return cls(
            layout=layout,
            roundoff=float(measured["roundoff"]),
            precision=str(measured["precision"]),
            automatic=bool(measured["automatic"]),
            names=tuple(measured["names"]),
            sizes=_array(measured["sizes"]),
            unused=tuple(measured["unused"]),
            batch_norm=tuple((str(name), str(kind)) for name, kind in measured["batch_norm"]),
            steps=tuple(_step(one) for one in measured["steps"]),
        )


def layout_words(layout: Layout) -> str:
    """Return a layout as people say it.

    Examples
    --------
    >>> layout_words(Layout(per_device_batch_size=16)), layout_words(Layout(per_device_batch_size=8, devices=2))
    ('1 device x 16', '2 devices x 8')
    >>> layout_words(Layout(per_device_batch_size=4, devices=2, accumulate=2))
    '2 devices x 4 x 2 forwards'
    """
    ranks = layout.world_size
    words = f"{ranks} device{'' if ranks == 1 else 's'} x {layout.per_device_batch_size}"
    return words if layout.accumulate == 1 else f"{words} x {layout.accumulate} forwards"


def _step(plain: Mapping[str, Any]) -> ProbedStep:
    micro = [sketch for rank in plain["micro"] for sketch in rank]
    rows = [one for rank in plain["rows"] for one in rank]
    losses = [one for rank in plain["losses"] for one in rank]
    return ProbedStep(
        losses=_array([] if losses and all(loss is None for loss in losses) else losses),
        micro=_array(micro) if micro and all(sketch is not None for sketch in micro) else None,
        whole=_array(plain["whole"]),
        sketches=_array(plain["sketches"]),
        norms=_array(plain["norms"]),
        examples=tuple(one for rank in plain["examples"] for one in rank),
        hashes=tuple(tuple(rank) for rank in plain["hashes"]),
        rows=None if any(one is None for one in rows) else sum(rows) % 2**62,
        shapes=frozenset(one for rank in plain["shapes"] for one in rank),
        drew=bool(plain["drew"]),
        spread=plain["spread"],
    )


def _array(values: Any) -> FloatArray:
    # None, which JSON has for what is not finite, becomes NaN.
    return np.array(values, dtype=np.float64)
