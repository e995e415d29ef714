"""Where searches look: LRs in equal steps of their logarithm, batch sizes in their order."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.ray_tune import Space

SPACE = Space(learning_rates=(1e-5, 3e-1), batch_sizes=(16, 64, 256))


@given(st.floats(allow_nan=False), st.floats(-10, 10))
def test_whatever_a_library_asks_for_is_inside(exponent: float, place: float) -> None:
    lr, size = SPACE.decode({"exponent": exponent, "place": place})
    assert 1e-5 <= lr <= 3e-1
    assert size in SPACE.batch_sizes


def test_equal_steps_of_the_exponent_are_equal_ratios() -> None:
    lo, hi = SPACE.exponents
    lrs = [SPACE.decode({"exponent": lo + (hi - lo) * place / 4})[0] for place in range(5)]
    assert (lrs[0], lrs[-1]) == (1e-5, 3e-1)
    ratios = [after / before for before, after in itertools.pairwise(lrs)]
    assert ratios == pytest.approx([(3e-1 / 1e-5) ** 0.25] * 4, rel=1e-5)


def test_each_batch_size_has_an_equal_share() -> None:
    sizes = [SPACE.decode({"exponent": -2.0, "place": 3 * number / 300})[1] for number in range(300)]
    assert [sizes.count(size) for size in SPACE.batch_sizes] == [100, 100, 100]
    assert sizes == sorted(sizes)


def test_one_batch_size_is_no_axis() -> None:
    assert list(Space(learning_rates=(1e-3, 1e-1), batch_sizes=(32,)).bounds) == ["exponent"]
    assert SPACE.bounds == {"exponent": (math.log10(1e-5), math.log10(3e-1)), "place": (0.0, 3.0)}
