"""What every registered schedule keeps, whatever its shape."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.schedules import SCHEDULES, AbstractSchedule, build_schedule
from lrscale.schedules.cooldown import SHAPES, TO_FINAL

FRACTIONS = st.floats(0.01, 0.99)
SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "constant": st.just({}),
    "cosine_restarts": st.fixed_dictionaries(
        {"cycles": st.integers(1, 6), "growth": st.floats(1, 3), "final_factor": st.floats(0, 1)}
    ),
    "exponential": st.fixed_dictionaries({"final_factor": st.floats(1e-6, 1)}),
    "inverse": st.fixed_dictionaries({"timescale_fraction": FRACTIONS}),
    "multi_step": st.fixed_dictionaries(
        {"milestones": st.lists(FRACTIONS, min_size=1, max_size=4, unique=True).map(sorted), "gamma": FRACTIONS}
    ),
    "polynomial": st.fixed_dictionaries({"power": st.floats(0.1, 5), "final_factor": st.floats(0, 1)}),
    "power": st.fixed_dictionaries(
        {
            "knee_fraction": FRACTIONS,
            "exponent": st.floats(-2, 0),
            "decay_fraction": FRACTIONS,
            "final_factor": st.floats(0.01, 1),
            "decay": st.sampled_from([*SHAPES, *TO_FINAL]),
        }
    ),
    "step": st.fixed_dictionaries({"every_fraction": FRACTIONS, "gamma": FRACTIONS}),
    "triangular": st.fixed_dictionaries(
        {
            "cycles": st.integers(1, 6),
            "base_factor": st.floats(0, 1),
            "halve": st.booleans(),
            "cycle_momentum": st.booleans(),
        }
    ),
    "wsd_s": st.fixed_dictionaries(
        {
            "ends": st.sampled_from([(1.0,), (0.5, 1.0), (0.25, 0.5, 1.0)]),
            "decay_fraction": st.floats(0.01, 0.5),
            "final_factor": st.floats(0.01, 1),
            "decay": st.sampled_from([*SHAPES, *TO_FINAL]),
        }
    ),
    "cosine": st.fixed_dictionaries({"final_factor": st.floats(0, 1)}),
    "inverse_sqrt": st.fixed_dictionaries({"timescale_fraction": FRACTIONS}),
    "linear": st.fixed_dictionaries({"final_factor": st.floats(0, 1)}),
    "one_cycle": st.fixed_dictionaries(
        {"rise_fraction": FRACTIONS, "start_divisor": st.floats(1, 100), "final_divisor": st.floats(1, 1e6)}
    ),
    "piecewise": st.builds(
        lambda shares, factors, between: {
            "points": [[share, factor] for share, factor in zip([0, *sorted(shares)], [1, *factors], strict=False)],
            "between": between,
        },
        st.sets(FRACTIONS, max_size=5),
        st.lists(st.floats(0, 1), min_size=5, max_size=5),
        st.sampled_from(["constant", "linear"]),
    ),
    "ramp": st.fixed_dictionaries({"start_factor": st.floats(1e-9, 0.5), "hold": st.integers(1, 10)}),
    "reduce_on_plateau": st.fixed_dictionaries(
        {"gamma": st.floats(0.01, 0.99), "patience": st.integers(0, 5), "cooldown": st.integers(0, 3)}
    ),
    "wsd": st.fixed_dictionaries(
        {
            "decay_fraction": st.floats(0.01, 1),
            "final_factor": st.floats(0.01, 1),
            "decay": st.sampled_from([*SHAPES, *TO_FINAL]),
        }
    ),
}
HORIZONS = st.integers(1, 300)


@st.composite
def schedules(draw: st.DrawFn) -> AbstractSchedule:
    name = draw(st.sampled_from(sorted(SCHEDULES)))
    return build_schedule(name, draw(SETTINGS[name]), warmup_steps=draw(st.integers(0, 20)))


def test_every_member_is_drawn() -> None:
    assert set(SETTINGS) == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_member_is_frozen_final_and_documented(name: str) -> None:
    kind = SCHEDULES[name]
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]  # dataclasses keep it there
    assert getattr(kind, "__final__", False)
    assert "Examples" in (kind.__doc__ or "")
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        kind().needs_warmup = True


@given(schedules(), HORIZONS)
def test_the_factor_is_between_0_and_1_everywhere(schedule: AbstractSchedule, horizon: int) -> None:
    for position in range(horizon):
        factor = schedule.factor(position, horizon)
        assert isinstance(factor, float)
        assert math.isfinite(factor)
        assert -1e-12 <= factor <= 1 + 1e-12


@given(schedules(), HORIZONS)
def test_momentum_is_absent_everywhere_or_a_momentum_everywhere(schedule: AbstractSchedule, horizon: int) -> None:
    values = [schedule.momentum(position, horizon) for position in range(horizon)]
    if None in values:
        assert set(values) == {None}
    else:
        assert all(value is not None and 0 <= value < 1 for value in values)


@given(schedules(), st.integers(2, 300))
def test_the_same_position_has_the_same_factor_in_any_order(schedule: AbstractSchedule, horizon: int) -> None:
    forward = [schedule.factor(position, horizon) for position in range(horizon)]
    backward = [schedule.factor(position, horizon) for position in reversed(range(horizon))]
    assert forward == backward[::-1]
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert [again.factor(position, horizon) for position in range(horizon)] == forward


@given(schedules())
def test_settings_survive_json(schedule: AbstractSchedule) -> None:
    inner = getattr(schedule, "then", schedule)
    plain = json.loads(json.dumps(dataclasses.asdict(inner)))
    name = next(name for name, kind in SCHEDULES.items() if kind is type(inner))
    assert build_schedule(name, plain) == inner


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_horizon_of_one_step_works(name: str) -> None:
    assert 0 <= build_schedule(name, warmup_steps=3).factor(0, 1) <= 1


@pytest.mark.parametrize("name", [name for name, kind in SCHEDULES.items() if kind.needs_warmup])
def test_a_schedule_reaches_its_peak_at_the_end_of_warm_up(name: str) -> None:
    schedule = build_schedule(name, warmup_steps=10)
    assert schedule.factor(9, 200) == 1.0
    assert schedule.factor(10, 200) == pytest.approx(1.0)
    assert max(schedule.factor(position, 200) for position in range(200)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("cosin", {}, "unknown schedule cosin; did you mean cosine?"),
        ("cosine", {"final_fctor": 0.1}, "schedule cosine has no setting final_fctor; did you mean final_factor?"),
        ("constant", {"x": 1}, "schedule constant has no setting x; it takes none"),
        ("cosine", {"final_factor": 1.5}, "final_factor must be in [0, 1], not 1.5"),
        ("cosine", {"final_factor": "low"}, "final_factor of schedule cosine must be a number, not 'low'"),
        ("cosine", {"final_factor": True}, "final_factor of schedule cosine must be a number, not True"),
        ("cosine", {"final_factor": float("nan")}, "final_factor must be in [0, 1], not nan"),
        ("wsd", {"decay_fraction": 0}, "decay_fraction must be in (0, 1], not 0"),
        (
            "wsd",
            {"decay": "sqrt"},
            "unknown decay sqrt; known: cosine, exponential, linear, mirror_cosine, one_minus_sqrt, one_minus_square, "
            "reciprocal",
        ),
        ("wsd", {"decay": "exponential"}, "decay exponential never reaches 0; set a final_factor above 0, such as 0.1"),
        ("polynomial", {"power": 0}, "power must be above 0, not 0"),
        ("exponential", {"final_factor": 0}, "final_factor must be in (0, 1], not 0"),
        ("step", {"every_fraction": 1.5}, "every_fraction must be in (0, 1], not 1.5"),
        ("multi_step", {"milestones": 0.5}, "milestones of schedule multi_step must be a list of numbers, not 0.5"),
        ("multi_step", {"milestones": [0.5, 0.5]}, "milestones must be rising fractions in (0, 1), not [0.5, 0.5]"),
        ("multi_step", {"milestones": []}, "milestones must be rising fractions in (0, 1), not []"),
        ("cosine_restarts", {"cycles": 0}, "cycles must be at least 1, not 0"),
        ("cosine_restarts", {"growth": 0.5}, "growth must be at least 1, not 0.5"),
        ("power", {"exponent": 0.5}, "exponent must be at most 0, not 0.5"),
        ("triangular", {"base_momentum": 0.95}, "momenta must satisfy 0 <= base_momentum <= max_momentum < 1"),
        ("wsd_s", {"ends": [0.5]}, "ends must be rising fractions in (0, 1], the last one 1, not [0.5]"),
        (
            "wsd_s",
            {"ends": [0.95, 1.0]},
            "the decay that ends at 1.0 would begin before the end at 0.95; set a smaller decay_fraction, or ends "
            "further apart",
        ),
        ("wsd", {"decay": ["linear"]}, "decay of schedule wsd must be a name, not ['linear']"),
        ("one_cycle", {"rise_fraction": 1}, "rise_fraction must be below 1: a cycle also falls"),
        ("one_cycle", {"start_divisor": 0.5}, "start_divisor must be at least 1, not 0.5"),
        ("one_cycle", {"cycle_momentum": 1}, "cycle_momentum of schedule one_cycle must be true or false, not 1"),
        (
            "one_cycle",
            {"base_momentum": 0.99},
            "momenta must satisfy 0 <= base_momentum <= max_momentum < 1",
        ),
        ("ramp", {"start_factor": 1}, "start_factor must be in (0, 1), not 1"),
        ("ramp", {"hold": 0}, "hold must be at least 1, not 0"),
        ("ramp", {"hold": 1.5}, "hold of schedule ramp must be a whole number, not 1.5"),
        ("piecewise", {"points": []}, "points of schedule piecewise are empty; write for example [[0, 1], [0.8, 0.1]]"),
        ("piecewise", {"points": 0.5}, "points of schedule piecewise must be a list of pairs, not 0.5"),
        (
            "piecewise",
            {"points": [[0, 1], 0.5]},
            "a point of schedule piecewise is a share and a factor, not 0.5; write for example [0.8, 0.1]",
        ),
        ("piecewise", {"points": [[0.1, 1]]}, "points must begin at share 0, not 0.1"),
        (
            "piecewise",
            {"points": [[0, 1], [0.5, 0.5], [0.2, 0.1]]},
            "shares of points must rise and end by 1: 0.2 follows 0.5",
        ),
        ("piecewise", {"points": [[0, 1], [0.5, 2]]}, "factors of points must be in [0, 1], not 2"),
        (
            "piecewise",
            {"points": [[0, 0.5]]},
            "the largest factor of points must be 1, not 0.5; divide all by it, and multiply the peak LR instead",
        ),
        (
            "piecewise",
            {"points": [[0, 1]], "between": "cosine"},
            "unknown between cosine; known: constant, linear",
        ),
        ("inverse_sqrt", {"timescale_fraction": 0}, "timescale_fraction must be in (0, 1], not 0"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LrscaleError) as caught:
        build_schedule(name, settings)
    assert str(caught.value) == said
