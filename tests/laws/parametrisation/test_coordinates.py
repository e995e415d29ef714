"""The coordinate check on outputs whose growth is known, and how often it errs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.base import Interval
from lrscale.laws.optimal_lr.factor_law import FactorLaw
from lrscale.laws.parametrisation import coordinate_check, lr_drift

WIDTHS = (64.0, 128.0, 256.0)


def outputs(
    power: float, rng: np.random.Generator, *, initial: float = 0.0, seeds: int = 4, noise: float = 0.05
) -> dict[int, dict[float, list[float]]]:
    """Return sizes of a part: width^initial before the updates, width^power after them."""
    powers = [initial] + [power] * 5
    return {
        seed: {
            width: [float(width**one * math.exp(noise * rng.standard_normal())) for one in powers] for width in WIDTHS
        }
        for seed in range(seeds)
    }


def test_a_part_that_grows_is_told_among_many_that_do_not() -> None:
    rng = np.random.default_rng(1)
    parts = {f"still {place}": outputs(0.0, rng) for place in range(12)}
    check = coordinate_check({**parts, "grows": outputs(0.8, rng), "shrinks": outputs(-0.5, rng)})
    assert check.drift == "grows"
    verdicts = {part.name: part.drift(check.confidence) for part in check.parts}
    assert [name for name, verdict in verdicts.items() if verdict == "grows"] == ["grows"]
    assert verdicts["shrinks"] == "does not grow"
    grown = next(part for part in check.parts if part.name == "grows")
    assert grown.claim is not None and grown.claim.value == pytest.approx(0.8, abs=0.05)
    assert grown.powers[1:4] == pytest.approx([0.8] * 3, abs=0.1)


def test_the_initial_output_of_a_readout_may_fall_with_the_width() -> None:
    check = coordinate_check({"readout": outputs(0.0, np.random.default_rng(2), initial=-0.5)})
    assert check.drift == "does not grow"
    assert check.parts[0].initial == pytest.approx(-0.5, abs=0.1)


def test_what_happens_after_the_first_updates_decides_nothing() -> None:
    rng = np.random.default_rng(3)
    late = outputs(0.0, rng)
    for widths in late.values():
        for width, row in widths.items():
            row[4:] = [width, width]
    assert coordinate_check({"late": late}).drift == "does not grow"


def test_one_seed_or_much_noise_cannot_tell() -> None:
    rng = np.random.default_rng(4)
    assert coordinate_check({"part": outputs(0.8, rng, seeds=1)}).drift == "cannot tell"
    assert coordinate_check({"part": outputs(0.3, rng, seeds=3, noise=1.0)}).drift == "cannot tell"


def test_growth_is_named_falsely_in_at_most_five_percent_of_modules() -> None:
    rng = np.random.default_rng(5)
    count = 300
    # Every part at the margin itself, which no module is: the worst case.
    named = sum(
        coordinate_check({str(part): outputs(0.2, rng) for part in range(6)}).drift == "grows" for _ in range(count)
    )
    assert named / count < 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


def test_a_part_that_was_not_called_at_a_width_or_is_zero_has_no_power() -> None:
    rng = np.random.default_rng(6)
    missing = outputs(0.5, rng)
    for widths in missing.values():
        widths[128.0] = [None] * 6  # type: ignore[list-item]
    zero = {seed: {width: [0.0, *row[1:]] for width, row in own.items()} for seed, own in outputs(0.0, rng).items()}
    check = coordinate_check({"missing": missing, "zero at first": zero})
    assert check.parts[0].claim is None and set(check.parts[0].powers) == {None}
    assert check.parts[1].initial is None and check.parts[1].drift(0.95) == "does not grow"
    assert check.drift == "cannot tell"


def test_one_width_is_refused() -> None:
    with pytest.raises(LrscaleError, match="needs two positive widths"):
        coordinate_check({"part": {0: {64.0: [1.0, 2.0]}}})


@pytest.mark.parametrize(
    ("lo", "hi", "transfer", "excluded"),
    [
        (-0.1, 0.2, "transfers", (False, True)),
        (-1.2, -0.7, "drifts", (True, False)),
        (-0.6, -0.3, "drifts", (True, True)),
        (-0.6, 0.1, "cannot tell", (False, True)),
        (None, 0.1, "cannot tell", (False, False)),
        (None, -0.3, "drifts", (True, False)),
    ],
)
def test_the_drift_of_the_best_lr_is_that_of_its_interval(
    lo: float | None, hi: float, transfer: str, excluded: tuple[bool, bool]
) -> None:
    law = FactorLaw(exponent=hi, interval=Interval(lo, hi, 0.95), levels=3, reason="")
    found = lr_drift(law)
    assert found.transfer == transfer
    assert (found.excluded["maximal update"], found.excluded["standard, Adam"]) == excluded


def test_without_a_power_nothing_is_excluded() -> None:
    found = lr_drift(FactorLaw(exponent=None, interval=None, levels=0, reason=""))
    assert found.transfer == "cannot tell" and not any(found.excluded.values())
