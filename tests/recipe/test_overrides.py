from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import RecipeError
from lrscale.recipe import parse_recipe
from lrscale.recipe.overrides import apply_overrides

NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z").filter(lambda name: not name.isdigit())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc xyz", min_size=0, max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


TEXT = """\
name: demo
task:
  model: {class_path: shop.Net, init_args: {width: 64}}
layout: {devices: 2}
experiments:
  range_test: {seeds: 2}
  scaling: {batch_sizes: [16, 64, 256], horizon: 20k examples, schedule: cosine}
  schedules: [constant, linear, cosine]
  throughput: {}
"""


def dump(*overrides: str) -> dict[str, Any]:
    return parse_recipe(TEXT, overrides=overrides).dump()


@given(st.lists(NAMES, min_size=1, max_size=5), VALUES)
def test_a_value_lands_where_its_path_says(path: list[str], value: Any) -> None:
    changed, sources, problems = apply_overrides({}, [f"{'.'.join(path)}={json.dumps(value)}"])
    assert problems == []
    node = changed
    for part in path:
        node = node[part]
    assert node == value
    assert list(sources) == [tuple(path)]


def test_any_field_can_be_set() -> None:
    found = dump(
        "seed=7",
        "layout.devices=1",
        "task.model.init_args.width=128",
        "task.trainer.precision=bf16-mixed",
        "task.trainer.plugins.deep.er=1e-3",
        "experiments.scaling.batch_sizes=[8, 32]",
        "experiments.scaling.batch_sizes[1]=64",
        "experiments.range_test.lr_max=1e0",
        "experiments.throughput=null",
        "target.horizon=1M examples",
    )
    assert found["seed"] == 7
    assert found["task"]["model"]["init_args"] == {"width": 128}
    assert found["task"]["trainer"] == {"precision": "bf16-mixed", "plugins": {"deep": {"er": 1e-3}}}
    assert found["experiments"]["scaling"]["batch_sizes"] == [8, 64]
    assert found["experiments"]["range_test"]["lr_max"] == 1.0
    assert found["experiments"]["throughput"] is None
    assert found["target"]["horizon"] == "1M examples"


def test_the_last_override_wins() -> None:
    assert dump("seed=1", "seed=2")["seed"] == 2


def test_a_list_grows_by_one_at_its_end() -> None:
    assert dump("experiments.scaling.batch_sizes[3]=512")["experiments"]["scaling"]["batch_sizes"] == [16, 64, 256, 512]


def test_a_part_of_a_short_form_can_be_set() -> None:
    found = dump(
        "experiments.schedules[1]=wsd",
        "experiments.schedules[3]=linear",
        "experiments.schedules.seeds=7",
        "experiments.schedules[3].settings.final_factor=0.1",
        "experiments.scaling.schedule.settings.final_factor=0.2",
    )["experiments"]
    assert found["schedules"]["seeds"] == 7
    assert found["schedules"]["schedules"][1]["name"] == "wsd"
    assert found["schedules"]["schedules"][3]["settings"] == {"final_factor": 0.1}
    assert found["scaling"]["schedule"]["settings"] == {"final_factor": 0.2}


def test_setting_a_part_turns_an_experiment_on() -> None:
    base = "name: a\ntask: {model: {class_path: m.Net}}\nexperiments: {range_test: false}\n"
    recipe = parse_recipe(base, overrides=["experiments.range_test.steps=50"])
    assert recipe.experiments.range_test is not None
    assert recipe.experiments.range_test.steps == 50


def test_a_confirmation_is_turned_off_and_by_a_part_of_it_on() -> None:
    base = "name: a\ntask: {model: {class_path: m.Net}}\nexperiments: {range_test: {confirm: false}}\n"
    off = parse_recipe(base).experiments.range_test
    assert off is not None
    assert off.confirm is None
    on = parse_recipe(base, overrides=["experiments.range_test.confirm.steps=50"]).experiments.range_test
    assert on is not None
    assert on.confirm is not None
    assert (on.confirm.steps, on.confirm.seeds) == (50, 2)
    again = parse_recipe(base, overrides=["experiments.range_test.confirm=true"]).experiments.range_test
    assert again is not None
    assert again.confirm is not None


def test_overrides_alone_make_a_recipe() -> None:
    recipe = parse_recipe("", overrides=["name=demo", "task.model.class_path=shop.Net"])
    assert recipe.name == "demo"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.modle.x=1", "--set task.modle.x=1: task.modle is not known; did you mean model?"),
        ("experiment.seeds=3", "--set experiment.seeds=3: experiment is not known; did you mean experiments?"),
        (
            "task.model.initargs.w=3",
            "--set task.model.initargs.w=3: task.model.initargs is not known; did you mean init_args?",
        ),
        ("seed=-1", "--set seed=-1: seed must be at least 0, not -1"),
        (
            "experiments.scaling.batch_sizes[1]=33",
            "--set experiments.scaling.batch_sizes[1]=33: experiments.scaling.batch_sizes[1]: "
            "global batch 33 is not a multiple of 2 devices; use 32 or 34",
        ),
        (
            "experiments.scaling.batch_sizes[9]=33",
            "--set experiments.scaling.batch_sizes[9]=33: experiments.scaling.batch_sizes has 3 entries, "
            "and no entry 9",
        ),
        (
            "experiments.range_test.lr_min=100",
            "recipe.yaml line 6: experiments.range_test must have lr_min below lr_max, not 100 and 10 "
            "(with --set experiments.range_test.lr_min=100)",
        ),
        (
            "experiments.scaling={batch_sizes: [16], horizon: 1k examples, schedule: {settings: {}}}",
            "--set experiments.scaling={batch_sizes: [16], horizon: 1k examples, schedule: {settings: {}}}: "
            "experiments.scaling.schedule.name is missing; name a schedule, such as cosine",
        ),
        ("name.x=3", "--set name.x=3: name is a single value, and has no x"),
        ("seed", "--set seed: an override is written a.b=c; for example seed=1"),
        ("=3", "--set =3: an override is written a.b=c; for example seed=1"),
        ("a..b=3", "--set a..b=3: an override is written a.b=c; for example seed=1"),
    ],
)
def test_a_wrong_override_is_quoted_with_the_remedy(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(TEXT, overrides=[override])
    assert str(caught.value) == said
