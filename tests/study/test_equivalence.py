from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.recipe import Recipe
from lrscale.store import StudyView, Trajectory
from lrscale.study.experiments import Context
from lrscale.study.experiments.equivalence import check_layouts
from lrscale.study.layout_check.probe import layout_words


def context(layout: dict[str, Any], scaling: int | None = None, **facts: Any) -> Context:
    experiments: dict[str, Any] = {"equivalence": {}}
    if scaling is not None:
        experiments["scaling"] = {"batch_sizes": [scaling], "horizon": "10k examples"}
    plain = {"name": "demo", "task": {"model": {"class_path": "m.Net"}}, "layout": layout, "experiments": experiments}
    recipe = Recipe.model_validate(plain)
    view = StudyView({}, lambda trial_id: Trajectory())
    return Context(recipe=recipe, view=view, facts=facts, findings={})


@pytest.mark.parametrize(
    ("layout", "facts", "expected"),
    [
        (
            {"devices": 8},
            {},
            ["1 device x 32", "2 devices x 16", "1 device x 16 x 2 forwards", "2 devices x 8 x 2 forwards"],
        ),
        ({"devices": 1}, {}, ["1 device x 32", "1 device x 16 x 2 forwards"]),
        ({"devices": 2}, {"automatic_optimization": False}, ["1 device x 32", "2 devices x 16"]),
        ({"devices": 1}, {"automatic_optimization": False}, ["1 device x 32"]),
        # One example leaves batch normalisation nothing to average over.
        (
            {"devices": 2, "max_per_device_batch_size": 4},
            {},
            ["1 device x 4", "2 devices x 2", "1 device x 2 x 2 forwards"],
        ),
        ({"devices": 2, "max_per_device_batch_size": 2}, {}, ["2 devices x 2", "1 device x 2 x 2 forwards"]),
        ({"devices": 2, "per_device_batch_size": 1}, {}, ["2 devices x 1", "1 device x 1 x 2 forwards"]),
    ],
)
def test_layouts_follow_the_devices_and_what_one_of_them_holds(
    layout: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    assert [layout_words(one) for one in check_layouts(context(layout, **facts))] == expected


def test_nodes_of_one_device_are_compared_as_nodes() -> None:
    layouts = check_layouts(context({"devices": 1, "num_nodes": 4}))
    assert {(one.devices, one.num_nodes) for one in layouts} == {(1, 1), (1, 2)}


@given(
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(1, 100)),
    st.one_of(st.none(), st.integers(8, 4096)),
)
def test_all_layouts_form_one_batch_within_the_bound(devices: int, bound: int | None, smallest: int | None) -> None:
    scaling = None if smallest is None else smallest // 8 * 8
    layout: dict[str, Any] = {"devices": devices, "max_per_device_batch_size": bound}
    found = check_layouts(context(layout, scaling))
    assert len(found) >= (1 if bound is None or bound >= 2 or devices > 1 else 0)
    assert len({one.global_batch_size for one in found}) <= 1
    assert all(bound is None or one.per_device_batch_size <= bound for one in found)
