"""A trial that branches off from another goes on as that one would have."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lrscale_test_trials import Ran, Trials, make_spec, make_task, read_lines

from lrscale.store import BatchScheduleSpec, BranchPoint, StudyFolder, TrialSpec
from lrscale.store.states import has_state, state_path
from lrscale.units import Layout

# 52 examples make epochs of 6 batches of 8: step 12 ends an epoch, 9 and 16 do not.
BATCH, HORIZON = 8, 20
ONE, TWO = Layout(per_device_batch_size=4, accumulate=2), Layout(per_device_batch_size=4, devices=2)


def stateful(record: Path | None = None, **changed: Any) -> TrialSpec:
    task = make_task(
        "branch_modules.Stateful", "branch_modules.Rows", init={"record": str(record or "")}, monitor="val_loss"
    )
    made = make_spec(task, lr=0.02, batch=BATCH, horizon=HORIZON, schedule="wsd", warmup=3, every=5)
    return dataclasses.replace(made, **changed)


def branch_of(spec: TrialSpec, position: int, **changed: Any) -> TrialSpec:
    return dataclasses.replace(spec, branch=BranchPoint(trial_id=spec.trial_id, position=position), **changed)


def rows(ran: Ran, after: int) -> list[tuple[float, ...]]:
    """Return what does not depend on time of the rows after a step."""
    names = ("step", "examples", "global_batch_size", "lr", "train_loss", "val_loss")
    table = zip(*(ran.trajectory[name] for name in names), strict=True)
    return [tuple(-1.0 if cell != cell else float(cell) for cell in row) for row in table if row[0] > after]


def weights(ran: Ran) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(ran.folder / "state.ckpt", weights_only=False)["state_dict"]
    return found


@pytest.mark.parametrize("layout", [ONE, TWO], ids=["one rank", "two ranks"])
def test_a_branch_of_the_same_batch_goes_on_bit_for_bit(trials: Trials, layout: Layout) -> None:
    study = trials.new_study()
    spec = stateful(instruments={"final_state": {}})
    whole = trials.one(spec, layout, study=study, keep=(9, 12, 16))
    assert whole.record.status == "completed", whole.record.reason
    positions = (9, 12, 16)
    branches = trials.run(*((branch_of(spec, position), layout) for position in positions), study=study)
    for position, branch in zip(positions, branches, strict=True):
        assert branch.record.status == "completed", branch.record.reason
        assert rows(branch, 0) == rows(whole, position)
        assert branch.record.final_loss == whole.record.final_loss
        for name, value in weights(whole).items():
            assert torch.equal(weights(branch)[name], value), (position, name)
        assert branch.record.steps == HORIZON - position
        assert branch.record.examples == (HORIZON - position) * BATCH


def test_a_trial_in_three_parts_ends_bit_for_bit_as_one_in_a_single_part(trials: Trials) -> None:
    study = trials.new_study()
    whole = stateful(instruments={"final_state": {}})
    flat = dataclasses.replace(whole.schedule, name="constant", settings={})
    first = dataclasses.replace(whole, horizon=7, schedule=flat, instruments={})
    second = branch_of(first, 7, horizon=15)
    third = dataclasses.replace(whole, branch=BranchPoint(trial_id=second.trial_id, position=15))
    trials.one(first, ONE, study=study, keep=(7,))
    middle = trials.one(second, ONE, study=study, keep=(15,))
    last = trials.one(third, ONE, study=study)
    alone = trials.one(whole, ONE)
    assert (middle.record.steps, last.record.steps) == (8, HORIZON - 15)
    assert rows(last, 0) == rows(alone, 15)
    assert all(torch.equal(weights(last)[name], value) for name, value in weights(alone).items())


@pytest.mark.slow
def test_a_trial_that_keeps_states_trains_as_one_that_keeps_none(trials: Trials) -> None:
    kept, alone = (trials.one(stateful(), ONE, keep=keep) for keep in ((4, 12, HORIZON), ()))
    assert rows(kept, 0) == rows(alone, 0)


def test_a_branch_from_the_end_of_its_trunk_goes_on_as_a_longer_trial(trials: Trials) -> None:
    # The trunk validates at its end and the longer trial does not: validations move no random number of training.
    study = trials.new_study()
    longer = stateful()
    trunk = dataclasses.replace(
        longer, horizon=16, schedule=dataclasses.replace(longer.schedule, name="constant", settings={})
    )
    trials.one(trunk, ONE, study=study, keep=(16,))
    point = BranchPoint(trial_id=trunk.trial_id, position=16)
    branch = trials.one(dataclasses.replace(longer, branch=point), ONE, study=study)
    assert longer.lr_schedule is not None
    assert longer.lr_schedule.factor(16, HORIZON) == 1
    assert rows(branch, 0) == rows(trials.one(longer, ONE), 16)


def test_module_hooks_see_the_place_in_training_that_the_unbranched_run_has(trials: Trials, tmp_path: Path) -> None:
    study = trials.new_study()
    spec = stateful(tmp_path)
    trials.one(spec, ONE, study=study, keep=(9,))
    seen = read_lines(tmp_path / "seen-0.jsonl")
    (tmp_path / "seen-0.jsonl").unlink()
    trials.one(branch_of(spec, 9), ONE, study=study)
    assert read_lines(tmp_path / "seen-0.jsonl") == seen[2 * 9 :]


def test_a_branch_with_another_seed_sees_another_order_from_the_same_place(trials: Trials, tmp_path: Path) -> None:
    study = trials.new_study()
    spec = stateful(tmp_path)
    trials.one(spec, ONE, study=study, keep=(9,))
    (tmp_path / "seen-0.jsonl").unlink()
    other = trials.one(branch_of(spec, 9, seed=5), ONE, study=study)
    seen = [line["ids"] for line in read_lines(tmp_path / "seen-0.jsonl")]
    (tmp_path / "seen-0.jsonl").unlink()
    trials.one(stateful(tmp_path, seed=5), ONE)
    assert seen == [line["ids"] for line in read_lines(tmp_path / "seen-0.jsonl")][2 * 9 :]
    assert other.record.facts["branch"]["same_order"] is False


def test_half_a_state_is_never_read_and_a_missing_one_can_be_tried_again(trials: Trials) -> None:
    study = trials.new_study()
    spec = stateful()
    trials.one(spec, ONE, study=study, keep=(9,))
    branch = branch_of(spec, 9)
    assert branch.branch is not None
    state = state_path(study.path / "trials", branch.branch)
    # A kill in the middle of writing leaves the folder under its other name.
    state.rename(state.with_name(".9.partial"))
    lost = trials.one(branch, ONE, study=study)
    assert (lost.record.status, lost.record.retryable) == ("crashed", True)
    assert "kept no state after 9" in (lost.record.reason or "")


@pytest.mark.slow
def test_a_damaged_state_is_removed_so_that_it_is_made_again(trials: Trials) -> None:
    study = trials.new_study()
    spec = stateful()
    trials.one(spec, ONE, study=study, keep=(9,))
    branch = branch_of(spec, 9)
    assert branch.branch is not None
    common = state_path(study.path / "trials", branch.branch) / "common.pt"
    common.write_bytes(common.read_bytes()[:100])
    lost = trials.one(branch, ONE, study=study)
    assert (lost.record.status, lost.record.retryable) == ("crashed", True)
    assert not has_state(study.path / "trials", branch.branch)


@pytest.mark.slow
def test_states_lie_in_the_folder_of_their_trial_and_go_with_it(trials: Trials, tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "study")
    ran = trials.one(stateful(), ONE, study=study, keep=(9, 12))
    assert sorted(path.name for path in (ran.folder / "states").iterdir()) == ["12", "9"]
    about = json.loads((ran.folder / "states" / "9" / "about.json").read_text())
    assert (about["position"], about["steps"], about["world_size"]) == (9, 9, 1)
    shutil.rmtree(ran.folder)
    assert not has_state(study.path / "trials", BranchPoint(trial_id=ran.spec.trial_id, position=9))


class TestGrowingBatches:
    """The batch grows by accumulation and by larger forwards; the examples stay those of the constant run."""

    @staticmethod
    def seen(folder: Path, ranks: int) -> list[int]:
        """Return the examples of each step over ranks and forwards, in order, as the ranks wrote them."""
        by_rank = [read_lines(folder / f"seen-{rank}.jsonl") for rank in range(ranks)]
        assert len({len(lines) for lines in by_rank}) == 1
        return [number for lines in zip(*by_rank, strict=True) for line in lines for number in line["ids"]]

    def spec(self, folder: Path, batches: BatchScheduleSpec | None, **changed: Any) -> TrialSpec:
        folder.mkdir(exist_ok=True)
        task = make_task(
            "branch_modules.Stateful",
            "branch_modules.Rows",
            init={"record": str(folder), "dropout": 0.0, "optimizer": "sgd"},
            data_init={"jitter": 0.0},
            monitor="val_loss",
        )
        made = make_spec(task, lr=0.005, batch=BATCH, horizon=HORIZON, every=5)
        return dataclasses.replace(made, batch_schedule=batches, **changed)

    @pytest.mark.parametrize(
        ("name", "layout"),
        [
            ("doubling", Layout(per_device_batch_size=4)),
            ("linear_ramp", Layout(per_device_batch_size=8, devices=2)),
            pytest.param("doubling", Layout(per_device_batch_size=8, devices=2), marks=pytest.mark.slow),
            pytest.param("linear_ramp", Layout(per_device_batch_size=8), marks=pytest.mark.slow),
        ],
    )
    def test_the_examples_are_those_of_the_constant_run_in_their_order(
        self, trials: Trials, tmp_path: Path, name: str, layout: Layout
    ) -> None:
        settings = {"every_fraction": 0.3} if name == "doubling" else {"times": 4}
        grown = self.spec(tmp_path / "grown", BatchScheduleSpec(name=name, settings=settings))
        ran = trials.one(grown, layout)
        assert ran.record.status == "completed", ran.record.reason
        trials.one(self.spec(tmp_path / "constant", None), Layout(per_device_batch_size=BATCH))
        assert self.seen(tmp_path / "grown", layout.world_size) == self.seen(tmp_path / "constant", 1)
        course = grown.course
        assert ran.record.steps == course.steps < HORIZON
        assert ran.record.examples == HORIZON * BATCH
        steps = [row for row in rows(ran, 0) if row[5] == -1]
        assert [row[1] for row in steps] == [edge * BATCH for edge in course.edges[1:]]
        assert [row[2] for row in steps] == [multiple * BATCH for multiple in course.multiples()]

    def test_two_ranks_take_the_steps_that_one_rank_takes_with_the_whole_batch(
        self, trials: Trials, tmp_path: Path
    ) -> None:
        # Equal losses after every step of momentum, from equal starts, are equal gradients.
        batches = BatchScheduleSpec(name="doubling", settings={"every_fraction": 0.3, "lr_power": 1.0})
        one = trials.one(self.spec(tmp_path / "one", batches), Layout(per_device_batch_size=32))
        two = trials.one(self.spec(tmp_path / "two", batches), Layout(per_device_batch_size=4, devices=2))
        assert one.train_losses == pytest.approx(two.train_losses, rel=1e-5)
        assert one.record.final_loss == pytest.approx(two.record.final_loss, rel=1e-5)

    def test_a_step_of_four_batches_is_the_step_that_torch_takes_on_all_of_them(
        self, trials: Trials, tmp_path: Path
    ) -> None:
        from branch_modules import Jittered, Stateful

        study = trials.new_study()
        spec = self.spec(tmp_path / "trunk", None)
        trials.one(spec, Layout(per_device_batch_size=4, devices=2), study=study, keep=(4,))
        times = BatchScheduleSpec(name="constant", settings={"times": 4, "lr_power": 1.0})
        branch = branch_of(self.spec(tmp_path / "trunk", times, horizon=12), 4)
        branch = dataclasses.replace(branch, branch=BranchPoint(trial_id=spec.trial_id, position=4))
        (tmp_path / "trunk" / "seen-0.jsonl").unlink()
        (tmp_path / "trunk" / "seen-1.jsonl").unlink()
        ran = trials.one(branch, Layout(per_device_batch_size=4, devices=2), study=study)
        assert ran.record.steps == 2, ran.record.reason
        assert ran.lrs == pytest.approx([0.02, 0.02])
        kept = torch.load(state_path(study.path / "trials", branch.branch) / "common.pt", weights_only=False)
        module = Stateful(optimizer="sgd", dropout=0.0)
        module.load_state_dict(kept["state_dict"])
        optimizer = torch.optim.SGD(module.parameters(), lr=0.02, momentum=0.9)
        own = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": kept["optimizer_states"][0]["state"], "param_groups": own})
        data = Jittered(0.0)
        lines = [read_lines(tmp_path / "trunk" / f"seen-{rank}.jsonl") for rank in range(2)]
        losses = []
        for step in range(2):
            parts = []
            for forward in range(4 * step, 4 * step + 4):
                for own_lines in lines:
                    line = own_lines[forward]
                    error = module.net(data.inputs[line["ids"]]).squeeze(1) - data.targets[line["ids"]]
                    parts.append((error**2).mean())
            loss = torch.stack(parts).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert ran.train_losses == pytest.approx(losses, rel=1e-5)
