"""From findings to a setting, or to the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import LayoutError, LrscaleError
from lrscale.laws import fit_lr_slice, fit_optimal_lr
from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, Refusal, recommend
from lrscale.store import ScheduleSpec, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study.budget.findings import REMEDY as BUDGET_REMEDY
from lrscale.study.finding import Check, Finding
from lrscale.units import Duration, split_global_batch

H = 40_000


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "name": "demo",
        "task": {"model": {"class_path": "shop.Net"}, "trainer": {"precision": "bf16-mixed"}},
        "layout": {"devices": 2, "max_per_device_batch_size": 64},
        "experiments": {
            "scaling": {"batch_sizes": [16, 64, 256], "horizon": "40k examples"},
            "schedules": ["cosine", "wsd", {"name": "linear", "settings": {"final_factor": 0.1}}],
        },
    }
    return Recipe.model_validate({**plain, **changes})


def row(batch: int, lr: float | None, loss: float | None, half: float = 0.001, **changes: Any) -> dict[str, Any]:
    located = lr is not None and loss is not None
    values = {
        "batch_size": batch,
        "best_lr": lr,
        "lo": lr * 0.8 if located else None,
        "hi": lr * 1.25 if located else None,
        "equivalent_lo": lr * 0.7 if located else None,
        "equivalent_hi": lr * 1.4 if located else None,
        "loss": loss,
        "loss_lo": loss - half if located else None,
        "loss_hi": loss + half if located else None,
        "diverged_above": 0.5,
        "trials": 15,
        "status": "ok" if located else "censored_high",
    }
    return {**values, **changes}


def trial(batch: int, lr: float, seed: int, status: str = "completed", schedule: str = "cosine") -> Trial:
    steps = H // batch
    spec = TrialSpec(
        task={},
        schedule=ScheduleSpec(name=schedule, warmup_steps=round(0.05 * steps)),
        peak_lr=lr,
        global_batch_size=batch,
        horizon=steps,
        seed=seed,
    )
    return Trial(
        spec,
        TrialRecord(
            trial_id=spec.trial_id,
            status=status,  # type: ignore[arg-type]  # a status
            final_loss=1.0,
            steps=steps,
            layout=split_global_batch(batch, devices=2, max_per_device_batch_size=64),
            timing={"examples_per_second": 100.0 * batch**0.5},
            environment={"device": "H100"},
            facts={"optimizers": ["AdamW"], "training_examples": 1000},
        ),
    )


TRIALS = [trial(batch, lr, seed) for batch in (16, 64, 256) for lr in (0.01, 0.02, 0.05) for seed in (0, 1, 2)]
ROWS = [row(16, 0.01, 1.05), row(64, 0.02, 1.0), row(256, 0.05, 1.02)]


def view(trials: Sequence[Trial] = TRIALS) -> StudyView:
    return StudyView({one.trial_id: one for one in trials}, lambda _: Trajectory())


def scaling(rows: Sequence[dict[str, Any]] = ROWS, law: Any = None, trials: Sequence[Trial] = TRIALS) -> Finding:
    return Finding(
        key="scaling",
        title="Scaling",
        status="ok",
        sentence="It was measured.",
        tables={"slices": tuple(rows), "laws": ()},
        data={"horizon_examples": H, "schedule": "cosine", "monitor": "val_loss", "law": law},
        trial_ids=tuple(one.trial_id for one in trials),
    )


def comparison(verdicts: dict[str, str], *, batch: int = 64, horizon: int = H) -> Finding:
    entries = [
        {
            "name": name.split()[0],
            "label": name,
            "slice": {"equivalence": [0.015, 0.04], "diverged_above": 0.4, "lr": [0.01] * 9},
            "best_lr": 0.025,
            "lr_lo": 0.02,
            "lr_hi": 0.03,
            "loss": 0.95 if verdict == "best" else 1.0,
            "loss_lo": 0.94,
            "loss_hi": 0.96,
            "difference": 0.0 if verdict == "best" else 0.05,
            "verdict": verdict,
        }
        for name, verdict in verdicts.items()
    ]
    return Finding(
        key="schedules",
        title="Schedules",
        status="ok",
        sentence="They were compared.",
        data={"batch_size": batch, "horizon_examples": horizon, "monitor": "val_loss", "schedules": entries},
    )


def throughput(*rows: tuple[int, int, float]) -> Finding:
    return Finding(
        key="throughput",
        title="Throughput",
        status="ok",
        sentence="Measured.",
        data={
            "rows": [
                {
                    "devices": devices,
                    "num_nodes": 1,
                    "per_device_batch_size": size,
                    "accumulate": 1,
                    "global_batch_size": size * devices,
                    "examples_per_second": speed,
                }
                for devices, size, speed in rows
            ]
        },
    )


def made(*findings: Finding, recipe_: Recipe | None = None, **target: Any) -> Recommendation:
    answer = recommend(recipe_ or recipe(), view(), findings, **target)
    assert isinstance(answer, Recommendation), answer
    return answer


def refused(*findings: Finding, recipe_: Recipe | None = None, **target: Any) -> Refusal:
    answer = recommend(recipe_ or recipe(), view(), findings, **target)
    assert isinstance(answer, Refusal), answer
    return answer


def law(batches: Sequence[int] = (16, 64, 256), noise: float = 0.002) -> dict[str, Any]:
    """A law through slices whose optimum follows the square-root rule, lr = 0.01 sqrt(B / 16)."""
    import numpy as np

    random = np.random.default_rng(0)
    slices = []
    for batch in batches:
        best = 0.01 * (batch / 16) ** 0.5
        lr = np.repeat(best * 2.0 ** np.arange(-3, 4), 3)
        loss = 1 + 0.05 * np.log(lr / best) ** 2 + noise * random.standard_normal(lr.size)
        slices.append(fit_lr_slice(lr, loss, seed=list(range(3)) * 7))
    return fit_optimal_lr(batches, slices).to_dict()


LAW = law()


def test_numbers_are_those_of_the_finding() -> None:
    one = made(scaling())
    assert one.global_batch_size == 64
    assert (one.lr.value, one.lr.lo, one.lr.hi) == (0.02, 0.02 * 0.8, 0.02 * 1.25)
    assert one.equivalent_lr == (0.02 * 0.7, 0.02 * 1.4)
    assert (one.expected_loss.value, one.expected_loss.lo, one.expected_loss.hi) == (1.0, 0.999, 1.001)
    assert one.validity.diverges_above == 0.5
    assert one.confidence == "measured"
    assert one.monitor == "val_loss"


def test_the_setting_is_that_of_the_trials() -> None:
    one = made(scaling())
    assert (one.per_device_batch_size, one.accumulate_grad_batches, one.devices) == (32, 1, 2)
    assert (one.horizon_steps, one.horizon_examples) == (625, H)
    assert (one.schedule.name, one.schedule.warmup_steps) == ("cosine", TRIALS[9].spec.schedule.warmup_steps)
    assert one.schedule.warmup_examples == one.schedule.warmup_steps * 64
    assert one.validity.batch_sizes == (16, 256)
    assert one.validity.learning_rates == (0.01, 0.05)
    assert (one.validity.precision, one.validity.optimizers) == ("bf16-mixed", ("AdamW",))
    assert (one.stands_on.trials, one.stands_on.seeds, one.stands_on.devices) == (27, 3, ("2 x H100",))
    assert one.expected_seconds is not None
    assert one.expected_seconds.value == pytest.approx(H / 800)


def test_settings_that_the_planner_completed_are_recommended() -> None:
    spec = TRIALS[9].spec
    full = dataclasses.replace(
        spec, schedule=ScheduleSpec(name="inverse_sqrt", settings={"timescale_fraction": 0.0526}, warmup_steps=31)
    )
    trials = [Trial(full, dataclasses.replace(TRIALS[9].record, trial_id=full.trial_id))]
    other = recipe(
        experiments={"scaling": {"batch_sizes": [64], "horizon": "40k examples", "schedule": "inverse_sqrt"}}
    )
    answer = recommend(other, view(trials), [scaling([row(64, 0.02, 1.0)], trials=trials)])
    assert isinstance(answer, Recommendation)
    assert answer.schedule.settings == {"timescale_fraction": 0.0526}
    assert answer.schedule.warmup_steps == 31


def test_alternatives_are_the_other_batches_with_what_they_cost() -> None:
    one = made(scaling())
    first, second = one.alternatives
    assert (first.batch_size, first.lr, first.loss) == (256, 0.05, 1.02)
    assert first.relative_loss == pytest.approx(0.02)
    assert first.relative_seconds == pytest.approx(800 / 1600 - 1)
    assert second.batch_size == 16
    assert second.relative_seconds == pytest.approx(800 / 400 - 1)


@pytest.mark.parametrize(
    ("losses", "half", "chosen"),
    [
        ((1.05, 1.0, 1.02), 0.001, 64),  # one is lowest
        ((1.05, 1.0, 1.0005), 0.0, 256),  # within the tolerance of 0.1 %
        ((1.05, 1.0, 1.003), 0.003, 256),  # not within it, but not told apart
        ((1.05, 1.0, 1.003), 0.0005, 64),  # told apart
        ((1.05, 1.0, 1.02), 0.5, 64),  # not told apart, but too far: noise does not choose the largest batch
        ((-1.05, -1.0, -1.02), 0.001, 16),  # negative losses
    ],
)
def test_the_lowest_loss_is_chosen_and_ties_go_to_the_larger_batch(
    losses: tuple[float, float, float], half: float, chosen: int
) -> None:
    rows = [row(batch, 0.02, loss, half) for batch, loss in zip((16, 64, 256), losses, strict=True)]
    one = made(scaling(rows))
    assert one.global_batch_size == chosen
    assert any(str(chosen) in reason for reason in one.reasons)


def test_the_shortest_time_is_chosen_among_losses_within_the_tolerance() -> None:
    wants = recipe(target={"objective": "time", "tolerance": 0.03})
    assert made(scaling(), recipe_=wants).global_batch_size == 256
    strict = recipe(target={"objective": "time", "tolerance": 0.001})
    assert made(scaling(), recipe_=strict).global_batch_size == 64


FEWER = throughput((2, 32, 1000.0), (2, 64, 1200.0), (1, 32, 640.0), (1, 64, 700.0))
"""Two devices train 1.7 times as many examples a second as one."""


def test_by_cost_a_job_takes_as_few_devices_as_an_example_takes_the_least_time_of() -> None:
    wants = recipe(target={"objective": "cost", "tolerance": 0.03})
    found = made(scaling(), FEWER, recipe_=wants)
    # 2 devices / 1200 examples a second against 1 / 700 at batch 256: 14 % less for the same examples.
    assert (found.global_batch_size, found.devices, found.per_device_batch_size) == (256, 1, 64)
    assert found.accumulate_grad_batches == 4
    assert "1 of 2 devices takes 14 % fewer device-hours and 1.7 x the time, as measured." in found.reasons
    assert any("takes the fewest device-hours of the 2 batch sizes" in reason for reason in found.reasons)
    by_time = made(scaling(), FEWER, recipe_=recipe(target={"objective": "time", "tolerance": 0.03}))
    assert by_time.devices == 2


def test_by_cost_fewer_devices_are_not_taken_where_they_save_nothing_or_were_not_timed() -> None:
    wants = recipe(target={"objective": "cost", "tolerance": 0.03})
    even = throughput((2, 32, 1390.0), (2, 64, 1390.0), (1, 32, 640.0), (1, 64, 700.0))
    assert made(scaling(), even, recipe_=wants).devices == 2
    untimed = made(scaling(), throughput((2, 32, 1000.0), (2, 64, 1200.0)), recipe_=wants)
    assert untimed.devices == 2
    assert "Whether fewer than 2 devices cost less was not timed" in " ".join(untimed.reasons)


def test_time_without_a_measured_speed_falls_back_to_loss_and_says_so() -> None:
    wants = recipe(target={"objective": "time", "tolerance": 0.01})
    answer = recommend(wants, view([]), [scaling()])
    assert isinstance(answer, Recommendation)
    assert answer.global_batch_size == 64
    assert answer.expected_seconds is None
    assert any("no speed was measured" in reason for reason in answer.reasons)


def test_a_target_batch_that_was_measured_is_taken_as_measured() -> None:
    one = made(scaling(), batch_size=256)
    assert (one.global_batch_size, one.lr.value, one.confidence) == (256, 0.05, "measured")
    assert (one.per_device_batch_size, one.accumulate_grad_batches) == (64, 2)
    by_recipe = made(scaling(), recipe_=recipe(target={"batch_size": 16}))
    assert by_recipe.lr.value == 0.01
    assert made(scaling(), recipe_=recipe(target={"batch_size": 16}), batch_size=256).lr.value == 0.05


def test_a_batch_between_the_measured_ones_is_interpolated_by_the_law() -> None:
    one = made(scaling(law=LAW), batch_size=128)
    assert one.confidence == "interpolated"
    assert one.lr.value == pytest.approx(0.01 * 8**0.5, rel=0.15)
    assert one.lr.lo is not None
    assert one.lr.hi is not None
    assert one.lr.lo < 0.01 * 8**0.5 < one.lr.hi
    # Half way between 64 and 256 on a log scale.
    assert one.expected_loss.value == pytest.approx(1.01)
    assert (one.expected_loss.lo, one.expected_loss.hi) == pytest.approx((0.999, 1.021))
    assert any("was not measured: its LR is between" in reason for reason in one.reasons)
    assert next(check for check in one.checks if check.name == "batch measured").status == "WARNING"


def test_a_batch_beyond_the_measured_ones_is_extrapolated_without_a_loss() -> None:
    one = made(scaling(law=LAW), batch_size=1024)
    assert one.confidence == "extrapolated"
    assert one.lr.value == pytest.approx(0.08, rel=0.3)
    assert one.expected_loss.value is None
    assert one.alternatives[0].relative_loss is None


def test_a_batch_far_beyond_is_refused() -> None:
    answer = refused(scaling(law=LAW), batch_size=4096)
    assert "more than 10 x outside the measured batch sizes (16, 64, 256)" in answer.sentence
    assert "experiments.scaling.batch_sizes=[16, 64, 256, 4096]" in answer.needs


@pytest.mark.parametrize("broken", [None, {"status": "too_few_points", "reason": "one slice"}])
def test_without_a_law_another_batch_is_refused(broken: Any) -> None:
    answer = refused(scaling(law=broken), batch_size=128)
    assert "no law links" in answer.sentence


def test_a_batch_whose_optimum_was_not_located_says_so() -> None:
    rows = [ROWS[0], ROWS[1], row(256, None, None)]
    one = made(scaling(rows, law=LAW), batch_size=256)
    assert one.confidence == "extrapolated"
    assert any("did not locate its best LR (censored_high)" in reason for reason in one.reasons)


def test_a_batch_that_the_devices_cannot_form_is_misuse() -> None:
    with pytest.raises(LayoutError, match="global batch 33 is not a multiple of 2 devices; use 32 or 34"):
        recommend(recipe(), view(), [scaling(law=LAW)], batch_size=33)


@pytest.mark.parametrize("interval", [{"lo": 0.002, "hi": 0.0201}, {"lo": None}, {"hi": None}, {"lo": 0.0, "hi": 0.1}])
def test_an_interval_of_more_than_a_decade_is_refused(interval: dict[str, Any]) -> None:
    answer = refused(scaling([row(64, 0.02, 1.0, **interval)]))
    assert "too wide to recommend" in answer.sentence
    assert "experiments.scaling.seeds=5" in answer.needs


def test_an_interval_of_a_decade_is_still_recommended_with_a_warning() -> None:
    one = made(scaling([row(64, 0.02, 1.0, lo=0.005, hi=0.05)]))
    assert next(check for check in one.checks if check.name == "LR interval").status == "WARNING"


def test_no_optimum_anywhere_is_refused_with_every_status() -> None:
    rows = [row(16, None, None), row(64, None, None, status="all_diverged")]
    answer = refused(scaling(rows))
    assert "batch 16: censored_high, batch 64: all_diverged" in answer.sentence
    assert answer.needs


@pytest.mark.parametrize(
    ("status", "losses", "named", "needs"),
    [
        ("all_diverged", [None, None], None, "Look at the module first"),
        ("not_identifiable", [2.0, 2.0], None, "Lengthen experiments.scaling.horizon"),
        ("too_few_points", [2.0], [0.01], "Name 4 learning rates or more"),
        ("not_identifiable", [2.0, 2.1], None, "More seeds would tell"),
    ],
)
def test_more_seeds_are_not_asked_for_where_they_would_not_help(
    status: str, losses: list[float | None], named: list[float] | None, needs: str
) -> None:
    found = scaling([row(64, None, None, status=status)])
    found.data["cells"] = [{"batch_size": 64, "slice": {"loss": [loss for loss in losses if loss is not None]}}]
    own = {"batch_sizes": [64], "horizon": "40k examples", "learning_rates": named}
    assert refused(found, recipe_=recipe(experiments={"scaling": own})).needs.startswith(needs)


def test_a_sweep_that_a_budget_cut_short_asks_for_a_larger_one() -> None:
    kept_out = Check(name="Scaling: trials kept out", status="WARNING", sentence="9 trials.", remedy=BUDGET_REMEDY)
    found = dataclasses.replace(scaling([row(64, None, None, status="too_few_points")]), checks=(kept_out,))
    assert refused(found).needs.startswith("Raise the budget")


def test_nothing_measured_is_refused() -> None:
    assert "none of scaling, search and schedules" in refused().sentence


def test_another_horizon_is_never_scaled_silently() -> None:
    one = made(scaling(), horizon="400k examples")
    assert one.lr.value == 0.02
    assert one.confidence == "extrapolated"
    assert one.horizon_steps == 6250
    assert one.schedule.warmup_steps == round(0.05 * 6250)
    assert one.expected_loss.value is None
    sentence = next(reason for reason in one.reasons if "not scaled" in reason)
    # 10 times longer: between 0.02 * 10 ** -0.5 and 0.02.
    assert "between 6.3e-3 and 0.02" in sentence
    assert next(check for check in one.checks if check.name == "horizon calibrated").status == "WARNING"


def test_a_horizon_out_of_reach_cannot_be_told() -> None:
    one = made(scaling(), recipe_=recipe(target={"horizon": "50M examples"}))
    assert one.confidence == "cannot tell"
    assert one.lr.value == 0.02
    assert next(check for check in one.checks if check.name == "horizon calibrated").status == "FAIL"


@pytest.mark.parametrize(
    ("horizon", "examples"),
    [("40k examples", 40_000), ("625 steps", 40_000), ("40 epochs", 40_000), (Duration(40_000, "examples"), 40_000)],
)
def test_the_calibrated_horizon_in_any_unit_is_measured(horizon: Any, examples: int) -> None:
    one = made(scaling(), horizon=horizon)
    assert (one.horizon_examples, one.confidence) == (examples, "measured")


def test_a_horizon_that_cannot_be_counted_is_misuse() -> None:
    with pytest.raises(LrscaleError, match="tokens"):
        made(scaling(), horizon="1M tokens")
    with pytest.raises(LrscaleError, match="how many an epoch has"):
        recommend(recipe(), view([]), [scaling()], horizon="3 epochs")


def test_a_tied_schedule_is_kept() -> None:
    one = made(scaling(), comparison({"wsd": "best", "cosine": "tied", "linear (final_factor=0.1)": "worse"}))
    assert (one.schedule.name, one.lr.value) == ("cosine", 0.02)
    assert any("tied with wsd" in reason for reason in one.reasons)
    assert one.stands_on.experiments == ("scaling", "schedules")


def test_a_better_schedule_is_taken_with_its_own_lr() -> None:
    one = made(scaling(), comparison({"linear (final_factor=0.1)": "best", "wsd": "tied", "cosine": "worse"}))
    assert (one.schedule.name, one.schedule.settings) == ("linear", {"final_factor": 0.1})
    assert (one.lr.value, one.lr.lo, one.lr.hi) == (0.025, 0.02, 0.03)
    assert one.expected_loss.value == 0.95
    assert one.equivalent_lr == (0.015, 0.04)


@pytest.mark.parametrize("where", [{"batch": 256}, {"horizon": 10_000}])
def test_a_schedule_that_was_better_elsewhere_is_named_and_not_taken(where: dict[str, int]) -> None:
    one = made(scaling(), comparison({"wsd": "best", "cosine": "worse"}, **where))
    assert (one.schedule.name, one.lr.value) == ("cosine", 0.02)
    assert any("experiments.scaling.schedule=wsd" in reason for reason in one.reasons)


def test_an_undecided_comparison_changes_nothing() -> None:
    one = made(scaling(), comparison({"wsd": "best", "cosine": "cannot tell"}))
    assert one.schedule.name == "cosine"
    assert any("cannot be told" in reason for reason in one.reasons)


def test_a_comparison_alone_is_enough() -> None:
    alone = recipe(
        experiments={"schedules": {"schedules": ["wsd", "cosine"], "batch_size": 64, "horizon": "40k examples"}}
    )
    one = made(comparison({"wsd": "best", "cosine": "worse"}), recipe_=alone)
    assert (one.schedule.name, one.lr.value, one.global_batch_size) == ("wsd", 0.025, 64)
    assert "Only batch 64 was measured" in refused(comparison({"wsd": "best"}), recipe_=alone, batch_size=128).sentence


def test_a_study_of_the_modules_own_schedule_recommends_it() -> None:
    own = recipe(task={"model": {"class_path": "shop.Net"}, "schedule": "module"})
    one = made(scaling(), recipe_=own)
    assert (one.schedule.name, one.schedule.warmup_steps) == ("module", 0)
    assert one.schedule.first_group_lr is None
    with pytest.raises(LrscaleError, match="only the module can compute"):
        one.lr_factor(0)


def test_what_the_module_makes_of_the_peak_that_it_was_told_is_recommended_with_it() -> None:
    own = recipe(task={"model": {"class_path": "shop.Net"}, "schedule": "module"})
    told = trial(64, 0.02, 0, schedule="module")
    told.record.facts.update(lr_home="task.lr model.init_args.lr", reference_lr=0.002)
    one = recommend(own, view([told]), [scaling(trials=[told])])
    assert isinstance(one, Recommendation)
    assert one.lr.value is not None
    assert one.schedule.first_group_lr == pytest.approx(one.lr.value / 10)


def test_a_faster_split_of_the_batch_is_taken_when_it_was_measured() -> None:
    slow_large = throughput((2, 64, 1000.0), (2, 32, 1500.0), (1, 64, 9000.0))
    one = made(scaling(), slow_large, batch_size=256)
    assert (one.per_device_batch_size, one.accumulate_grad_batches) == (32, 4)
    assert one.expected_seconds is not None
    assert one.expected_seconds.value == pytest.approx(one.horizon_examples / 1500)
    assert any("+50% faster than 64 per device x 2" in reason for reason in one.reasons)
    close = throughput((2, 64, 1000.0), (2, 32, 1030.0))
    assert made(scaling(), close, batch_size=256).per_device_batch_size == 64


def test_a_split_is_not_called_faster_than_one_that_only_the_sweep_ran_at_another_hour() -> None:
    """The sweep trained 800 examples a second at batch 64, the timed 2 x 16 x 2 1,500 on an idle machine."""
    one = made(scaling(), throughput((2, 16, 1500.0)), batch_size=64)
    assert (one.per_device_batch_size, one.accumulate_grad_batches) == (32, 1)
    assert not any("faster" in reason for reason in one.reasons)


def test_a_job_of_a_handful_of_steps_is_refused() -> None:
    """The largest batch measured had 156 steps; 4,000 examples are 3 of batch 1,024."""
    answer = refused(scaling(law=LAW), batch_size=1024, horizon="4000 examples")
    assert "A job of 3 steps at batch 1,024" in answer.sentence
    assert "none had fewer than 156 steps" in answer.sentence
    assert "20 steps at least" in answer.needs
    assert made(scaling(law=LAW), batch_size=1024).horizon_steps == 39


def memory(size: int) -> Finding:
    return Finding(key="memory", title="Memory", status="ok", sentence="Probed.", data={"size": size})


def test_no_more_is_put_on_a_device_than_was_probed() -> None:
    free = made(scaling(), batch_size=256)
    assert free.per_device_batch_size > 24
    one = made(scaling(), memory(24), batch_size=256)
    assert (one.per_device_batch_size, one.accumulate_grad_batches) == (16, 8)
    assert any("At most 24 per device fit within the memory" in reason for reason in one.reasons)
    fast = throughput((2, 64, 9000.0), (2, 32, 1500.0), (2, 16, 1000.0))
    assert made(scaling(), memory(24), fast, batch_size=256).per_device_batch_size == 16
    fixed = recipe(layout={"devices": 2, "per_device_batch_size": 64})
    bounded = made(scaling(), memory(24), recipe_=fixed, batch_size=256)
    assert bounded.per_device_batch_size == 16
    assert any("64 per device do not fit" in reason for reason in bounded.reasons)


def test_without_a_probe_or_a_bound_no_forward_is_larger_than_one_that_ran() -> None:
    unbounded = recipe(layout={"devices": 2})
    one = made(scaling(), recipe_=unbounded, batch_size=256)
    # The trials ran at 64 per device at the most.
    assert (one.per_device_batch_size, one.accumulate_grad_batches) == (64, 2)
    assert any("No trial ran more than 64 per device" in reason for reason in one.reasons)


def test_the_time_has_the_interval_of_the_speed_where_that_layout_was_timed() -> None:
    timed = throughput((2, 32, 1000.0))
    rows = [{**timed.data["rows"][0], "lo": 800.0, "hi": 1250.0}]
    one = made(scaling(), dataclasses.replace(timed, data={"rows": rows}), batch_size=64)
    seconds = one.expected_seconds
    assert seconds is not None
    assert seconds.value is not None
    assert seconds.lo == pytest.approx(0.8 * seconds.value)
    assert seconds.hi == pytest.approx(1.25 * seconds.value)


def test_divergence_close_above_is_a_warning() -> None:
    one = made(scaling([row(64, 0.02, 1.0, diverged_above=0.03)]))
    check = next(check for check in one.checks if check.name == "margin to divergence")
    assert check.status == "WARNING"
    assert "1.5 x above" in check.sentence


def test_few_seeds_are_a_warning() -> None:
    few = [one for one in TRIALS if one.spec.seed == 0]
    answer = recommend(recipe(), view(few), [scaling(trials=few)])
    assert isinstance(answer, Recommendation)
    assert next(check for check in answer.checks if check.name == "seeds").status == "WARNING"


def test_a_synthetic_study_is_answered_near_its_truth(tmp_path: Path) -> None:
    from lrscale.store import StudyFolder
    from lrscale.testing.synthetic import SyntheticStudy, read_findings, write_synthetic_study

    settings = SyntheticStudy(schedules=(), throughput=True, ratio=2.0)
    folder = write_synthetic_study(tmp_path, settings)
    plain = recipe(experiments={"scaling": {"batch_sizes": list(settings.batch_sizes), "horizon": "40960 examples"}})
    view_ = StudyView.of(StudyFolder(tmp_path))
    answer = recommend(plain, view_, read_findings(folder), batch_size=512)
    assert isinstance(answer, Recommendation), answer
    assert answer.confidence == "interpolated"
    assert answer.lr.lo is not None
    assert answer.lr.hi is not None
    assert answer.lr.lo <= settings.truth.best_lr(512) <= answer.lr.hi
    answer.save(tmp_path / "recommendation.yaml")
    assert Recommendation.load(tmp_path) == answer


def searched() -> Finding:
    """What a search found: one batch size, at its best LR."""
    found = dataclasses.replace(scaling([row(64, 0.02, 1.0)]), key="search", title="Search")
    return dataclasses.replace(found, data={**found.data, "law": None})


def test_a_search_is_recommended_where_no_sweep_located_an_optimum() -> None:
    one = made(searched())
    assert (one.lr.value, one.global_batch_size) == (0.02, 64)
    assert one.stands_on.experiments == ("search",)
    assert one.confidence == "measured"


def test_a_sweep_goes_before_a_search() -> None:
    assert made(searched(), scaling([row(256, 0.04, 1.0)])).global_batch_size == 256


def test_a_batch_that_a_search_did_not_name_is_refused_and_not_extrapolated() -> None:
    answer = refused(searched(), batch_size=128)
    assert "named batch 64" in answer.sentence
    assert "experiments.search.batch_sizes=[128]" in answer.needs
