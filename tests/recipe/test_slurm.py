"""What a recipe may ask of SLURM, and what a person reads when it asks wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, SlurmSettings, parse_recipe
from lrscale.recipe.slurm import seconds_of

BASE = "name: demo\ntask:\n  model: {class_path: shop.Net}\n"


def parsed(slurm: str, layout: str = "") -> Recipe:
    return parse_recipe(f"{BASE}slurm: {{{slurm}}}\nlayout: {{{layout}}}\n", root=Path())


@pytest.mark.parametrize(
    ("slurm", "expected"),
    [
        ("time: 90", 'slurm.time must be a time limit with its unit, not 90; write "2h", "1h30m" or "02:00:00"'),
        ("time: 0m", "slurm.time must be a time limit with its unit, not '0m'; "),
        ("time: '1:30'", "slurm.time must be a time limit with its unit, not '1:30'; "),
        ("partition: a b", "slurm.partition must be a name as SLURM knows it, without spaces, not 'a b'; see: sinfo"),
        ("account: 'x; rm'", "slurm.account must be a name as SLURM knows it, without spaces, not 'x; rm'; "),
        ("mem: 64", 'slurm.mem must be the memory of a node with its unit, not 64; write for example "64G"'),
        ("gpus: 0", 'slurm.gpus must be a number of GPUs of each node, not 0; write 4, or "a100:4"'),
        ("max_jobs: 0", "slurm.max_jobs must be at least 1, not 0"),
        ("extra: ['--nodes=3']", "slurm.extra must not set --nodes; set slurm.nodes"),
        ("extra: ['--cpus-per-task=3']", "slurm.extra must not set --cpus-per-task; set slurm.cpus_per_task"),
        ("extra: ['--array=1-3']", "slurm.extra must not set --array; remove it: a job of a study needs its own value"),
        ("extra: ['-p x']", "slurm.extra must hold options of sbatch in their long form, not '-p x'; "),
        ("setup: 3", "slurm.setup must be lines of shell, not 3; "),
        ("poll: 900", "slurm has poll 900 above lost_after 180; make poll smaller"),
        ("partitoin: x", "slurm.partitoin is not known; did you mean partition?"),
    ],
)
def test_a_wrong_request_is_refused_with_value_rule_and_remedy(slurm: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parsed(slurm)
    assert f"recipe.yaml line 4: {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("slurm", "layout", "expected"),
    [
        ("nodes: 1", "num_nodes: 2", "slurm.nodes is 1, and layout.num_nodes of one trial is 2; set slurm.nodes: 2"),
        ("gpus: 'a100:2'", "devices: 4", "slurm.gpus is a100:2 a node, and layout.devices of one trial is 4; ask for"),
        ("gpus: 2", "accelerator: cpu", "slurm.gpus asks for 2 a node, and layout.accelerator is cpu; remove one"),
    ],
)
def test_a_job_that_no_trial_fits_into_is_refused(slurm: str, layout: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parsed(slurm, layout)
    assert expected in str(caught.value)


def test_auto_counts_what_a_job_has_and_says_what_it_would_need_to_know() -> None:
    on_cores = SlurmSettings.model_validate({"cpus_per_task": 8, "nodes": 2})
    assert [on_cores.trials_at_once(devices, nodes) for devices, nodes in ((1, 1), (2, 1), (2, 2), (16, 1))] == [
        16,
        8,
        4,
        1,
    ]
    for wish, needed in (({}, "slurm.gpus or slurm.cpus_per_task"), ({"extra": ["--gres=gpu:4"]}, "set slurm.gpus,")):
        with pytest.raises(RecipeError, match="auto counts the devices of a job") as caught:
            SlurmSettings.model_validate(wish).trials_at_once(1, 1)
        assert needed in (caught.value.hint or "")


def test_lines_and_counts_are_read_as_people_write_them() -> None:
    settings = parsed(
        'time: 02:00:00, gpus: 4, account: 123, setup: "module load a\\n\\nmodule load b", max_jobs: 1e1'
    ).slurm
    assert (settings.seconds, settings.gpu_count, settings.account) == (7200, 4, "123")
    assert settings.setup == ("module load a", "module load b")
    assert settings.max_jobs == 10
    assert SlurmSettings.model_validate(settings.model_dump(mode="json")) == settings


@given(days=st.integers(0, 30), hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_every_spelling_of_a_time_limit_is_the_same_time(days: int, hours: int, minutes: int, seconds: int) -> None:
    whole = ((days * 24 + hours) * 60 + minutes) * 60
    assert seconds_of(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == (whole + seconds or None)
    assert seconds_of(f"{days * 24 + hours}:{minutes:02}:{seconds:02}") == (whole + seconds or None)
    assert seconds_of(f"{days}d{hours}h{minutes}m") == (whole or None)
    assert seconds_of(f"{days}-{hours:02}:{minutes:02}") == (whole or None)
