from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrscale.errors import LrscaleError
from lrscale.store.files import to_json
from lrscale.sweep import SweepFit, analyse_table
from lrscale.sweep.slices import MOST_RUNS

from .tables import BATCHES, best_lr, grid, sweep, write


def fitted(folder: Path, frame: pd.DataFrame, **settings: object) -> SweepFit:
    return analyse_table(write(frame, folder / "runs.csv"), resamples=200, **settings)[0]  # type: ignore[arg-type]  # settings of several types


@pytest.fixture(scope="module")
def grid_fit(tmp_path_factory: pytest.TempPathFactory) -> SweepFit:
    return fitted(tmp_path_factory.mktemp("grid"), grid(), by=["params", "tokens"], holdout="largest")


def test_the_optima_of_every_slice_are_found(tmp_path: Path) -> None:
    fit = fitted(tmp_path, sweep())
    (group,) = fit.groups
    assert group.finding.data["best_batch_size"] == 64
    for size in BATCHES:
        one = group.slices[size]
        assert one.interval is not None
        assert one.interval.contains(best_lr(size)), size
    assert group.law.ok
    slope = group.finding.numbers["local_slope"]
    assert slope.lo is not None and slope.hi is not None
    assert slope.lo < 0.5 < slope.hi


def test_optima_agree_with_the_best_cells(grid_fit: SweepFit) -> None:
    step = math.log(2)
    slices = [fit for group in grid_fit.groups for fit in group.slices.values()]
    near = 0
    for fit in slices:
        lowest = min((loss, lr) for lr, loss in zip(fit.lr, fit.loss, strict=True) if loss is not None)[1]
        assert fit.interval is not None and fit.interval.lo is not None and fit.interval.hi is not None
        low, high = math.log(fit.interval.lo) - step / 2, math.log(fit.interval.hi) + step / 2
        near += low <= math.log(lowest) <= high
    assert near == len(slices) == 32


def test_groups_are_sorted_and_named_by_their_values(grid_fit: SweepFit) -> None:
    assert [group.label for group in grid_fit.groups][:3] == [
        "params 100M, tokens 4B",
        "params 100M, tokens 16B",
        "params 200M, tokens 4B",
    ]
    assert grid_fit.groups[0].key == {"params": 1e8, "tokens": 4e9}
    assert grid_fit.groups[0].n_runs == 36


def test_groups_are_named_by_column_or_by_role(tmp_path: Path) -> None:
    frame = grid(sizes=(1e8,)).rename(columns={"tokens": "D", "params": "N"})
    by_role = fitted(tmp_path, frame, by=["tokens"])
    by_name = fitted(tmp_path, frame, by=["D"])
    assert [group.to_dict() for group in by_role.groups] == [group.to_dict() for group in by_name.groups]
    with pytest.raises(LrscaleError, match="there is no column token"):
        fitted(tmp_path, frame, by=["token"])
    with pytest.raises(LrscaleError, match="which holds the lr"):
        fitted(tmp_path, frame, by=["lr"])


def test_laws_against_scale_find_the_exponent_of_params(grid_fit: SweepFit) -> None:
    assert grid_fit.scale is not None and grid_fit.scale.lr is not None
    found = grid_fit.scale.lr.estimate("e_params")
    assert found.value == pytest.approx(-0.4, abs=0.05)
    assert found.interval is not None and found.interval.contains(-0.4)
    assert grid_fit.scale.lr.law == "power"
    assert grid_fit.scale.lr.estimate("e_batch").value == pytest.approx(0.5, abs=0.05)
    assert grid_fit.scale.loss is not None and grid_fit.scale.loss.n_points == 8


def test_the_largest_batch_is_held_out(grid_fit: SweepFit) -> None:
    for group in grid_fit.groups:
        assert group.holdout is not None and not isinstance(group.holdout, str)
        assert group.holdout.what == "batch 1024"
        assert group.holdout.measured == pytest.approx(group.slices[1024].best_lr)


def test_fits_survive_json(grid_fit: SweepFit) -> None:
    plain = json.loads(to_json(grid_fit.to_dict()))
    again = SweepFit.from_dict(plain)
    assert json.loads(to_json(again.to_dict())) == plain
    assert again.groups[0].law == grid_fit.groups[0].law
    with pytest.raises(LrscaleError, match="not the fits of a table"):
        SweepFit.from_dict({"scaling": {}})


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    frame = sweep()
    first, second = fitted(tmp_path, frame), fitted(tmp_path, frame.sample(frac=1, random_state=0))
    assert first.groups == second.groups


@pytest.mark.parametrize(("column", "factor"), [("lr", 1000.0), ("batch_size", 2048.0), ("loss", 1.4427)])
def test_a_unit_changes_the_answer_by_its_constant_only(tmp_path: Path, column: str, factor: float) -> None:
    frame = sweep()
    own = fitted(tmp_path, frame).groups[0]
    other = fitted(tmp_path, frame.assign(**{column: frame[column] * factor})).groups[0]
    by = {"best_lr": "lr", "best_batch_size": "batch_size", "loss": "loss", "local_slope": ""}
    for name, quantity in own.finding.numbers.items():
        scale = factor if by[name] == column else 1.0
        again = other.finding.numbers[name]
        for end in ("value", "lo", "hi"):
            if getattr(quantity, end) is not None:
                assert getattr(again, end) == pytest.approx(scale * getattr(quantity, end), rel=1e-3, abs=1e-3), name


def test_thin_slices_are_fitted_in_one_surface(tmp_path: Path) -> None:
    frame = sweep()
    kept = pd.concat(
        part[np.abs(np.log(part.lr / best_lr(float(size)))) < 1.2] for size, part in frame.groupby("batch_size")
    )
    assert kept.groupby("batch_size").lr.nunique().max() < 4
    (group,) = fitted(tmp_path, kept).groups
    assert group.surface is not None
    for size in BATCHES:
        assert group.slices[size].best_lr == pytest.approx(best_lr(size), rel=0.2)
    assert any("one surface" in note for note in group.notes)


def test_one_lr_per_batch_is_too_few(tmp_path: Path) -> None:
    frame = pd.DataFrame({"lr": [1e-3, 2e-3, 4e-3], "bs": [8, 16, 32], "loss": [3.0, 2.9, 2.95]})
    fit = fitted(tmp_path, frame)
    assert not fit.ok
    assert "1 distinct LRs" in fit.groups[0].finding.sentence
    assert any(check.remedy and "four LRs" in check.remedy for check in fit.groups[0].finding.checks)


def test_all_diverged_is_a_status(tmp_path: Path) -> None:
    fit = fitted(tmp_path, sweep().assign(loss=math.nan))
    assert not fit.ok
    assert {one.status.value for one in fit.groups[0].slices.values()} == {"all_diverged"}
    assert fit.groups[0].best_run is None


def test_bad_luck_leaves_the_intervals_honest(tmp_path: Path) -> None:
    # A tenth of the runs diverged, a wild outlier in every slice, a batch size with few runs, unequal seeds.
    frame = pd.concat([sweep(seed=seed).assign(seed=seed) for seed in range(3)], ignore_index=True)
    rng = np.random.default_rng(1)
    frame.loc[rng.choice(len(frame), len(frame) // 10, replace=False), "loss"] = math.nan
    for size in BATCHES:
        rows = frame.index[frame.batch_size == size]
        frame.loc[rng.choice(rows), "loss"] = 6.0
    frame = frame[~((frame.batch_size == 256) & (frame.seed == 2))]
    (group,) = fitted(tmp_path, frame).groups
    inside = [one.interval is not None and one.interval.contains(best_lr(size)) for size, one in group.slices.items()]
    assert sum(inside) >= 3
    assert group.n_diverged == int(frame.loss.isna().sum()) > 5


def test_a_slice_of_thousands_of_runs_is_condensed_aloud(tmp_path: Path) -> None:
    frame = pd.concat([sweep(batches=(64,), noise=0.02, seed=seed) for seed in range(60)], ignore_index=True)
    (group,) = fitted(tmp_path, frame).groups
    assert group.n_runs > MOST_RUNS
    assert group.slices[64].interval is not None
    assert group.slices[64].best_lr == pytest.approx(best_lr(64), rel=0.05)
    assert any("averaged in up to 4 blocks" in note for note in group.notes)


def test_replicates_without_a_seed_are_said_to_be_independent(tmp_path: Path) -> None:
    frame = pd.concat([sweep(batches=(64,), seed=seed) for seed in range(2)], ignore_index=True)
    assert any("taken as independent" in note for note in fitted(tmp_path, frame).source.notes)
    assert not fitted(tmp_path, frame.assign(seed=frame.index // 9)).source.notes


def test_values_mixed_inside_a_group_are_warned_about(tmp_path: Path) -> None:
    fit = fitted(tmp_path, grid(sizes=(1e8,)))
    assert any("Column tokens takes 2 values" in warning and "--by" in warning for warning in fit.warnings)


def test_points_of_curves_are_suspected(tmp_path: Path) -> None:
    frame = pd.concat([sweep().assign(steps=steps) for steps in (100, 200)], ignore_index=True)
    assert any("not the points of its curve" in warning for warning in fitted(tmp_path, frame).warnings)
