"""The learning rates that searches may try: equal ratios through one common LR."""

from __future__ import annotations

import math

LATTICE_ORIGIN = 1e-3
"""An LR of every lattice, so that experiments with the same ratio share trials."""
LOWEST_LR, HIGHEST_LR = 1e-9, 1e3
"""No search leaves this range: an optimum beyond is a mistake in the task's scale, not a result."""


def lattice_lr(index: float, ratio: float) -> float:
    """Return the LR number `index` of the lattice ``1e-3 * ratio ** index``.

    Rounded to six significant digits, so that equal settings give equal trial ids on every machine.

    Examples
    --------
    >>> lattice_lr(1, 2.0), lattice_lr(-1, 2.0)
    (0.002, 0.0005)
    """
    return float(f"{LATTICE_ORIGIN * ratio**index:.6g}")


def lattice_index(lr: float, ratio: float) -> int:
    """Return the index of the lattice point nearest to an LR.

    Examples
    --------
    >>> lattice_index(0.0021, 2.0)
    1
    """
    return round(lattice_place(lr, ratio))


def lattice_place(lr: float, ratio: float) -> float:
    """Return where an LR lies on the lattice, in units of its steps.

    Examples
    --------
    >>> round(lattice_place(0.00282843, 2.0), 3)
    1.5
    """
    return math.log(lr / LATTICE_ORIGIN) / math.log(ratio)
