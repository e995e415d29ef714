"""The same trial, formed in four ways: the same examples, the same losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Trials, as_layouts, make_spec, make_task, read_lines

BATCH, HORIZON = 8, 20


def _ids_of_steps(folder: Path, ranks: int, accumulate: int) -> list[list[int]]:
    """Return the examples of every global batch, sorted, from what each rank wrote."""
    by_rank = [[line["ids"] for line in read_lines(folder / f"train-{rank}.jsonl")] for rank in range(ranks)]
    steps = len(by_rank[0]) // accumulate
    return [
        sorted(
            example
            for forwards in by_rank
            for ids in forwards[step * accumulate : (step + 1) * accumulate]
            for example in ids
        )
        for step in range(steps)
    ]


@pytest.fixture(scope="module")
def ran(trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = {}
    wanted = []
    for label, layout in as_layouts(BATCH):
        folder = tmp_path_factory.mktemp("ids")
        init = {"record": str(folder), "ratios": [1.0, 0.1]}
        spec = make_spec(make_task(init=init), batch=BATCH, horizon=HORIZON, schedule="cosine", warmup=4, every=10)
        wanted.append((spec, layout))
        found[label] = (folder, layout)
    results = trials.run(*wanted)
    return {label: (result, *found[label]) for label, result in zip(found, results, strict=True)}


def test_every_layout_completes(ran: dict[str, Any]) -> None:
    assert {label: one[0].record.status for label, one in ran.items()} == dict.fromkeys(ran, "completed")


def test_train_losses_of_every_step_agree_for_every_layout(ran: dict[str, Any]) -> None:
    reference = ran["1 rank"][0].train_losses
    assert len(reference) == HORIZON
    for result, _, _ in ran.values():
        np.testing.assert_allclose(result.train_losses, reference, rtol=1e-5)


def test_final_losses_agree_for_every_layout(ran: dict[str, Any]) -> None:
    reference = ran["1 rank"][0].record.final_loss
    assert 0 < reference < 3
    for result, _, _ in ran.values():
        assert result.record.final_loss == pytest.approx(reference, rel=1e-5)


def test_global_batches_hold_the_same_examples_for_every_layout(ran: dict[str, Any]) -> None:
    reference = _ids_of_steps(ran["1 rank"][1], 1, 1)
    assert len(reference) == HORIZON
    for _, folder, layout in ran.values():
        assert _ids_of_steps(folder, layout.world_size, layout.accumulate) == reference


def test_an_epoch_brings_every_example_once_and_the_next_another_order(ran: dict[str, Any]) -> None:
    steps = _ids_of_steps(ran["2 ranks"][1], 2, 1)
    first, second = steps[:8], steps[8:16]
    assert sorted(np.concatenate(first)) == sorted(np.concatenate(second)) == list(range(64))
    assert first != second


def test_first_loss_is_the_mean_over_ranks_and_forwards(ran: dict[str, Any]) -> None:
    from trial_modules import points

    targets = points()[1].numpy().astype(np.float64)
    for result, folder, layout in ran.values():
        ids = _ids_of_steps(folder, layout.world_size, layout.accumulate)[0]
        assert result.train_losses[0] == pytest.approx(np.mean(targets[ids] ** 2), rel=1e-6)


def test_validation_sees_the_whole_set_in_batches_of_the_tasks_own_size(ran: dict[str, Any]) -> None:
    for result, folder, layout in ran.values():
        assert result.validation_steps == [10, 20]
        for rank in range(layout.world_size):
            batches = [line["ids"] for line in read_lines(folder / f"val-{rank}.jsonl")]
            once = [list(range(8)), list(range(8, 16)), list(range(16, 21))]
            assert batches == once * 2


def test_record_says_where_it_ran_and_what_was_found(ran: dict[str, Any]) -> None:
    result, _, layout = ran["2 ranks, accumulate 2"]
    record = result.record
    assert record.layout == layout
    assert record.steps == HORIZON
    assert record.examples == HORIZON * BATCH
    assert record.monitor == "val_loss"
    assert record.facts["training_examples"] == 64
    assert record.facts["batch_size_home"] == "data.init_args.batch_size"
    assert record.facts["own_batch_size"] == 8
    assert record.facts["optimizers"] == ["SGD"]
    assert record.facts["group_lrs"] == pytest.approx([0.01, 0.001])
    assert record.timing["total"] > record.timing["training"] > 0
    assert record.warnings == ()


def test_nothing_is_left_of_the_scratch_folders(ran: dict[str, Any]) -> None:
    for result, _, _ in ran.values():
        names = {path.name for path in result.folder.iterdir()}
        assert names >= {"spec.json", "record.json", "trajectory.parquet", "job.json"}
        assert not [name for name in names if name.startswith(("scratch", "lightning_logs", "checkpoints"))]


def test_two_runs_of_one_trial_on_two_ranks_agree_to_the_last_bit(trials: Trials) -> None:
    layout = as_layouts(BATCH)[1][1]
    task = make_task("trial_modules.Noisy", init={"optimizer": "adam", "random_init": True})
    spec = make_spec(task, horizon=25, schedule="one_cycle", every=5)
    first = trials.run((spec, layout))[0]
    second = trials.run((spec, layout))[0]
    assert first.record.final_loss == second.record.final_loss
    assert first.train_losses == second.train_losses
    assert list(first.trajectory.points("val_loss")[1]) == list(second.trajectory.points("val_loss")[1])


def test_seeds_decide_order_and_initialisation_and_lrs_do_not(trials: Trials, tmp_path: Path) -> None:
    def spec(name: str, **changed: Any) -> Any:
        init = {"record": str(tmp_path / name), "random_init": True}
        return make_spec(make_task(init=init), horizon=9, **changed)

    layout = as_layouts(BATCH)[0][1]
    specs = [spec("a"), spec("b", lr=1e-4), spec("c", seed=1), spec("d", seed=70_000_000_000)]
    base, other_lr, other_seed, large_seed = trials.run(*((one, layout) for one in specs))
    seen = {name: [line["ids"] for line in read_lines(tmp_path / name / "train-0.jsonl")] for name in "abcd"}
    assert seen["a"] == seen["b"]
    assert base.train_losses[0] == other_lr.train_losses[0]
    assert base.record.final_loss != other_lr.record.final_loss
    assert seen["a"] != seen["c"] != seen["d"]
    assert len({base.train_losses[0], other_seed.train_losses[0], large_seed.train_losses[0]}) == 3


def test_ranks_draw_different_random_numbers(trials: Trials, tmp_path: Path) -> None:
    task = make_task("trial_modules.Noisy", init={"record": str(tmp_path)})
    trials.one(make_spec(task, horizon=4), as_layouts(BATCH)[1][1])
    first, second = ([line["value"] for line in read_lines(tmp_path / f"noise-{rank}.jsonl")] for rank in (0, 1))
    assert len(first) == 4
    assert not set(first) & set(second)
