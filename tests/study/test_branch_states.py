"""States are kept for the branches that are wanted, made again where they are gone, and removed once they served."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lrscale.errors import StudyError
from lrscale.recipe import Recipe
from lrscale.store import BatchScheduleSpec, BranchPoint, ScheduleSpec, StudyFolder, Trial, TrialRecord, TrialSpec
from lrscale.store.states import drop_states, has_state, partial_path, publish_state, state_path
from lrscale.study.branch_states import BranchStates
from lrscale.study.specs import riding_instruments, trial_layout

TRUNK = TrialSpec(
    task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=8, horizon=100, seed=0
)


def branch(position: int, horizon: int = 200) -> TrialSpec:
    point = BranchPoint(trial_id=TRUNK.trial_id, position=position)
    return dataclasses.replace(TRUNK, horizon=horizon, branch=point)


def ended(spec: TrialSpec, *, steps: int | None = None, retryable: bool = False) -> Trial:
    steps = spec.course.steps if steps is None else steps
    status = "crashed" if retryable else "completed"
    return Trial(
        spec, TrialRecord(trial_id=spec.trial_id, status=status, final_loss=1.0, steps=steps, retryable=retryable)
    )


def by_id(*specs: TrialSpec) -> dict[str, TrialSpec]:
    return {spec.trial_id: spec for spec in specs}


def write_state(folder: StudyFolder, position: int, trunk: TrialSpec = TRUNK) -> Path:
    state = state_path(folder.path / "trials", BranchPoint(trial_id=trunk.trial_id, position=position))
    partial_path(state).mkdir(parents=True)
    (partial_path(state) / "about.json").write_text("{}")
    publish_state(state)
    return state


def test_branches_wait_for_their_trunk_and_it_keeps_their_places(tmp_path: Path) -> None:
    states = BranchStates(StudyFolder(tmp_path))
    wanted = by_id(branch(50), TRUNK, branch(100), branch(50, horizon=300))
    assert states.runnable(list(wanted.values()), wanted, {}) == [TRUNK]
    assert states.positions(TRUNK, wanted.values(), {}) == (50, 100)
    done = {branch(100).trial_id: ended(branch(100))}
    assert states.positions(TRUNK, wanted.values(), done) == (50,)


def test_a_trunk_without_its_state_is_trained_again_once(tmp_path: Path) -> None:
    states, folder = BranchStates(StudyFolder(tmp_path)), StudyFolder(tmp_path)
    wanted, trials = by_id(TRUNK, branch(50)), {TRUNK.trial_id: ended(TRUNK)}
    assert states.runnable([branch(50)], wanted, trials) == [TRUNK]
    assert states.is_again(TRUNK, trials)
    # It has diverged this time, say: the branch cannot run, and nothing goes round in circles.
    assert states.runnable([branch(50)], wanted, trials) == []
    write_state(folder, 50)
    assert states.runnable([branch(50)], wanted, trials) == [branch(50)]


def test_a_chain_without_states_is_trained_again_from_its_beginning(tmp_path: Path) -> None:
    states, folder = BranchStates(StudyFolder(tmp_path)), StudyFolder(tmp_path)
    first = dataclasses.replace(TRUNK, horizon=50)
    second = dataclasses.replace(TRUNK, branch=BranchPoint(trial_id=first.trial_id, position=50))
    last = dataclasses.replace(
        TRUNK, horizon=200, branch=BranchPoint(trial_id=second.trial_id, position=second.horizon)
    )
    wanted = by_id(first, second, last)
    trials = {first.trial_id: ended(first), second.trial_id: ended(second, steps=50)}
    assert states.runnable([last], wanted, trials) == [first]
    # The second part is there and runs again, so that the first keeps the state that it begins with.
    assert states.positions(first, wanted.values(), trials) == (50,)
    assert states.is_again(first, trials)
    states.drop(wanted, trials)
    write_state(folder, 50, first)
    assert states.runnable([last], wanted, trials) == [second]
    assert states.is_again(second, trials)
    assert states.positions(second, wanted.values(), trials) == (100,)
    write_state(folder, 100, second)
    assert states.runnable([last], wanted, trials) == [last]
    states.drop(wanted, {**trials, last.trial_id: ended(last, steps=100)})
    assert not list(tmp_path.glob("trials/*/states"))


def test_states_stay_where_a_later_round_may_return_to_them(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    states, wanted = BranchStates(folder), by_id(TRUNK, branch(50))
    state = write_state(folder, 50)
    trials = {spec.trial_id: ended(spec) for spec in (TRUNK, branch(50))}
    states.drop(wanted, trials, stays=lambda spec: spec == TRUNK)
    assert state.exists()
    states.drop(wanted, trials)
    assert not state.exists()


def test_no_branch_begins_where_its_trunk_has_not_been(tmp_path: Path) -> None:
    states = BranchStates(StudyFolder(tmp_path))
    wanted, trials = by_id(TRUNK, branch(50), branch(20)), {TRUNK.trial_id: ended(TRUNK, steps=30)}
    assert states.runnable([branch(50)], wanted, trials) == []
    assert states.runnable([branch(50), branch(20)], wanted, trials) == [TRUNK]


def test_a_state_goes_when_no_branch_from_it_is_missing(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    states, wanted = BranchStates(folder), by_id(TRUNK, branch(50), branch(100), branch(100, horizon=300))
    for position in (50, 100):
        write_state(folder, position)
    trials = {spec.trial_id: ended(spec) for spec in (TRUNK, branch(50), branch(100))}
    states.drop(wanted, trials)
    there = [
        position
        for position in (50, 100)
        if has_state(tmp_path / "trials", BranchPoint(trial_id=TRUNK.trial_id, position=position))
    ]
    assert there == [100]
    last = branch(100, horizon=300)
    states.drop(wanted, {**trials, last.trial_id: ended(last)})
    assert not (tmp_path / "trials" / TRUNK.trial_id / "states").exists()


def test_half_a_state_is_not_there_and_goes_with_the_others(tmp_path: Path) -> None:
    point = BranchPoint(trial_id="ab", position=3)
    partial = partial_path(state_path(tmp_path, point))
    partial.mkdir(parents=True)
    (partial / "about.json").write_text("{}")
    assert not has_state(tmp_path, point)
    drop_states(tmp_path, "ab", keep=(3,))
    assert not partial.exists()


def test_a_finished_trial_runs_again_for_its_states_and_keeps_its_record_until_then(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.begin_trial(TRUNK)
    folder.finish_trial(ended(TRUNK).record)
    with pytest.raises(StudyError, match="never run again"):
        folder.begin_trial(TRUNK)
    folder.begin_trial(TRUNK, again=True)
    folder.withdraw_trial(TRUNK.trial_id)
    assert folder.record(TRUNK.trial_id) == ended(TRUNK).record


def test_a_trial_whose_batch_grows_is_laid_out_for_its_largest_batch() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "task": {"model": {"class_path": "m.Net"}},
            "layout": {"devices": 2, "max_per_device_batch_size": 32},
            "experiments": {"range_test": {}},
        }
    )
    grown = dataclasses.replace(
        TRUNK, batch_schedule=BatchScheduleSpec(name="doubling", settings={"every_fraction": 0.2})
    )
    assert grown.course.largest == 16
    layout = trial_layout(recipe, grown)
    assert (layout.per_device_batch_size, layout.accumulate, layout.devices) == (32, 2, 2)
    assert trial_layout(recipe, TRUNK).per_device_batch_size == 4
    assert riding_instruments(recipe, grown) == {}
    assert grown.examples == grown.own_examples == 800
    assert branch(50).own_examples == 150 * 8
