from __future__ import annotations

import numpy as np
import pytest

import lrscale.laws.steps  # noqa: F401  # registers the laws
from lrscale.laws.separable import SEPARABLE_LAWS
from lrscale.laws.varpro import solve

BATCH = np.geomspace(16, 16384, 6)


def test_both_laws_are_registered_and_recovered_by_variable_projection():
    for name, truth in (("steps_hyperbola", [500.0, 4e5]), ("steps_hyperbola_free", [500.0, 4e5, 1.2])):
        law = SEPARABLE_LAWS[name]
        x = law.read({"batch": BATCH})
        found = solve(law, x, law.predict(truth, x))
        assert found.params == pytest.approx(truth, rel=1e-4)


def test_steps_and_examples_trade_as_mccandlish_writes():
    law = SEPARABLE_LAWS["steps_hyperbola"]
    steps = law.predict([500.0, 4e5], {"batch": BATCH})
    assert (steps / 500 - 1) * (steps * BATCH / 4e5 - 1) == pytest.approx(np.ones(6))
