"""Short runs at fixed LR find the best one, say how sure they are, and cost few runs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus, RangeFinding, analyse_range_curves
from lrscale.laws.lr_slice.basin import basin
from lrscale.laws.range_test.confirm import ConfirmSettings, confirm, next_runs
from lrscale.laws.range_test.confirmation import Confirmation, FixedRun

LR = np.geomspace(1e-7, 10, 100)


@dataclass(frozen=True)
class Task:
    """A task whose loss at a fixed LR is known, and its ramps, which fall with the sum of the LRs so far."""

    seed: int
    noise: float = 0.01

    @property
    def truth(self) -> tuple[float, float, Callable[[float], float]]:
        rng = np.random.default_rng(self.seed)
        p, q, curvature = rng.uniform(0.4, 1.2), rng.uniform(0.6, 2.0), 10 ** rng.uniform(-1.6, -0.7)
        best = 10 ** rng.uniform(-3.5, -0.5)
        edge = best * 10 ** rng.uniform(0.35, 1.2)
        return best, edge, lambda lr: float(2 + curvature * basin(np.log(lr / best), p, q))

    def ramps(self) -> RangeFinding:
        best, edge, _ = self.truth
        rng = np.random.default_rng([self.seed, 1])
        done = np.cumsum(LR)
        curves = []
        for _ in range(2):
            loss = 4.6 - 2 * done / (done + 10 * best) + 0.5 * (LR / edge) ** 2 + rng.normal(0, 0.03, LR.size)
            curves.append((LR, np.where(loss > 8, np.nan, loss)))
        return analyse_range_curves(curves)

    def run(self, lr: float, seed: int) -> FixedRun:
        _, edge, loss = self.truth
        rng = np.random.default_rng([self.seed, 2, seed, round(1e6 * math.log(lr) + 1e8)])
        level = np.random.default_rng([self.seed, 3, seed]).normal(0, 0.02)
        blown = lr > edge * math.exp(rng.normal(0, 0.1))
        return FixedRun(lr=lr, seed=seed, loss=None if blown else loss(lr) + level + rng.normal(0, self.noise))

    def play(self, settings: ConfirmSettings) -> tuple[RangeFinding, list[FixedRun]]:
        finding, runs = self.ramps(), []
        for _ in range(40):
            wanted = next_runs(finding, runs, settings=settings)
            if not wanted:
                return finding, runs
            runs += [self.run(lr, seed) for lr, seed in wanted]
        raise AssertionError("the confirmation does not end")


def parabola(lr: float, seed: int) -> FixedRun:
    return FixedRun(lr=lr, seed=seed, loss=3 + 0.1 * math.log(lr / 3e-3) ** 2 + 0.05 * seed if lr < 0.3 else None)


def ramp_finding(*, fall: float = 3e-3, edge: float = 0.5) -> RangeFinding:
    loss = 2.3 - 1.8 / (1 + fall / LR) + np.where(LR > edge, (LR / edge) ** 2 - 1, 0)
    return analyse_range_curves([(LR, loss)])


def test_the_confirmed_lr_is_right_and_its_interval_covers_the_truth() -> None:
    covered, regrets, rules, cost, stable = [], [], [], [], []
    for number in range(80):
        task = Task(number)
        best, edge, loss = task.truth
        finding, runs = task.play(ConfirmSettings())
        found = confirm(finding, runs)
        cost.append(len(runs))
        assert found.complete
        if found.lr is None:
            continue
        assert found.interval is not None
        assert found.stable is not None
        covered.append(found.interval.contains(best))
        regrets.append(loss(found.lr) - loss(best))
        rules.append([loss(min(row.lr, edge)) - loss(best) for row in found.agreement])
        stable.append(found.stable.lo <= 1.3 * edge and (found.stable.hi is None or edge <= 1.3 * found.stable.hi))
    # Nearly all decide; 95 % of these intervals cover, within 3 standard errors of a binomial.
    assert len(covered) >= 77
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 80) <= np.mean(covered)
    # The noise of a run is 0.01; a regret well below it cannot be had by the lowest of single runs.
    assert np.median(regrets) < 0.001
    assert np.percentile(regrets, 95) < 0.004
    assert np.median(regrets) < 0.2 * min(np.median([row[place] for row in rules]) for place in range(5))
    assert np.mean(stable) > 0.97
    assert np.mean(cost) < 14
    assert max(cost) <= 20


@pytest.mark.parametrize("number", range(4))
def test_what_is_wanted_depends_on_what_has_finished_and_on_nothing_else(number: int) -> None:
    task, settings = Task(number), ConfirmSettings(seeds=3)
    finding, runs = task.play(settings)
    # Interrupted anywhere and in any order, the course ends with the same runs.
    shuffled, done = random.Random(number), []
    while True:
        wanted = list(next_runs(finding, done, settings=settings))
        assert wanted == list(next_runs(finding, shuffled.sample(done, len(done)), settings=settings))
        if not wanted:
            break
        lr, seed = shuffled.choice(wanted)
        done.append(task.run(lr, seed))
    assert {(run.lr, run.seed) for run in runs} == {(run.lr, run.seed) for run in done}


def test_a_good_bracket_costs_few_runs_and_both_sides_are_known() -> None:
    finding, runs = ramp_finding(), []
    while wanted := next_runs(finding, runs):
        runs += [parabola(lr, seed) for lr, seed in wanted]
    found = confirm(finding, runs, steps=100, batch_size=128, beta2=0.999, warmup_steps=5)
    assert found.ok
    assert len(runs) <= 16
    assert found.lr == pytest.approx(3e-3, rel=0.02)
    assert sum(lr < found.lr for lr in {run.lr for run in runs}) >= 2
    assert sum(lr > found.lr for lr in {run.lr for run in runs}) >= 2
    assert found.stable is not None
    assert (found.stable.lo, found.stable.hi) == (0.256, 0.512)
    assert found.stable.warmup_steps == 5
    assert found.stable.ramp == finding.hi.value
    # 2 / (1 - 0.999) steps of 128 examples.
    assert found.warmup is not None
    assert (found.warmup.steps, found.warmup.examples) == (2000, 256_000)
    assert found.one_cycle is not None
    assert found.one_cycle.max == pytest.approx(found.lr / 0.506)
    assert found.one_cycle.max / found.one_cycle.base == pytest.approx(25)
    assert "100 steps, batch 128" in found.sentence


def test_rules_are_ranked_by_their_distance_and_their_regret_is_that_of_the_slice() -> None:
    finding, runs = ramp_finding(), []
    while wanted := next_runs(finding, runs):
        runs += [parabola(lr, seed) for lr, seed in wanted]
    found = confirm(finding, runs)
    assert found.lr is not None
    distances = [abs(math.log(row.lr / found.lr)) for row in found.agreement]
    assert distances == sorted(distances)
    assert found.nearest_rule == found.agreement[0].rule
    assert {row.rule for row in found.agreement} == {rule for rule, own in finding.suggestions.items() if own.n}
    for row in found.agreement:
        if row.regret is not None and row.factor is not None and 0.2 < row.factor < 5:
            assert row.regret == pytest.approx(0.1 * math.log(row.lr / 3e-3) ** 2, abs=0.02)


def test_an_optimum_far_above_every_suggestion_is_walked_to() -> None:
    finding, runs = ramp_finding(fall=1e-5, edge=5.0), []
    while wanted := next_runs(finding, runs):
        runs += [FixedRun(lr=lr, seed=seed, loss=math.log(lr / 1.5) ** 2) for lr, seed in wanted]
    assert confirm(finding, runs).lr == pytest.approx(1.5, rel=0.02)


def test_a_loss_that_falls_until_it_diverges_is_censored_and_confirms_nothing() -> None:
    finding, runs = ramp_finding(), []
    rng = np.random.default_rng(0)
    while wanted := next_runs(finding, runs):
        runs += [
            FixedRun(lr=lr, seed=seed, loss=None if lr > 0.04 else 5 - math.log(lr) + rng.normal(0, 0.01))
            for lr, seed in wanted
        ]
    found = confirm(finding, runs)
    assert found.status is FitStatus.CENSORED_HIGH
    assert found.lr is None
    assert found.one_cycle is None
    assert found.nearest_rule is None
    assert found.lowest_tested is not None
    assert found.interval is not None
    assert found.interval.lo is not None
    assert "which is not confirmed" in found.sentence


def test_a_flat_loss_is_not_identifiable_after_all_seeds_were_spent() -> None:
    finding, runs = ramp_finding(), []
    rng = np.random.default_rng(1)
    settings = ConfirmSettings(seeds=4, find_edge=False)
    while wanted := next_runs(finding, runs, settings=settings):
        runs += [FixedRun(lr=lr, seed=seed, loss=2 + rng.normal(0, 0.1)) for lr, seed in wanted]
    found = confirm(finding, runs, settings=settings)
    assert found.lr is None
    assert found.status is not FitStatus.OK
    assert {run.seed for run in runs} == {0, 1, 2, 3}


def test_seeds_beyond_two_are_added_only_where_two_do_not_decide() -> None:
    settings = ConfirmSettings(seeds=5, find_edge=False)

    def seeds_spent(noise: float) -> int:
        rng = np.random.default_rng(2)
        finding, runs = ramp_finding(), []
        while wanted := next_runs(finding, runs, settings=settings):
            for lr, seed in wanted:
                loss = 3 + 0.1 * math.log(lr / 3e-3) ** 2 + rng.normal(0, noise)
                runs.append(FixedRun(lr=lr, seed=seed, loss=loss))
        return len({run.seed for run in runs})

    assert seeds_spent(0.001) == 2
    assert seeds_spent(0.2) > 2


def test_when_all_runs_diverge_the_search_goes_down_and_stops_at_its_limit() -> None:
    finding, runs = ramp_finding(), []
    settings = ConfirmSettings(most_lrs=6)
    while wanted := next_runs(finding, runs, settings=settings):
        runs += [FixedRun(lr=lr, seed=seed, loss=None) for lr, seed in wanted]
    found = confirm(finding, runs, settings=settings)
    assert found.status is FitStatus.ALL_DIVERGED
    assert (found.lr, found.lowest_tested, found.stable) == (None, None, None)
    assert len(runs) == 6


def test_a_run_that_comes_back_to_its_start_has_not_trained_and_is_no_point_of_the_slice() -> None:
    # At a large LR units die: the loss ends where it began, without leaving for good.
    def stuck(lr: float, seed: int) -> FixedRun:
        run = parabola(lr, seed)
        if lr <= 0.1:
            return FixedRun(lr=lr, seed=seed, loss=run.loss, gain=6 - (run.loss or 0))
        return FixedRun(lr=lr, seed=seed, loss=6.0, gain=0.02)

    finding, runs = ramp_finding(), []
    while wanted := next_runs(finding, runs):
        runs += [stuck(lr, seed) for lr, seed in wanted]
    found = confirm(finding, runs)
    assert found.stable is not None
    assert (found.stable.lo, found.stable.hi) == (0.064, 0.128)
    assert found.lr == pytest.approx(3e-3, rel=0.02)
    assert found.fit is not None
    assert found.fit.diverged_above == 0.128
    assert len(found.runs) == len(runs)


def test_no_more_runs_are_wanted_than_the_settings_allow() -> None:
    finding, runs = ramp_finding(), []
    settings = ConfirmSettings(most_runs=7, seeds=3)
    while wanted := next_runs(finding, runs, settings=settings):
        runs += [parabola(lr, seed) for lr, seed in wanted]
    assert len(runs) == 7
    assert confirm(finding, runs, settings=settings).complete


def test_a_ramp_without_a_bracket_is_confirmed_by_nothing() -> None:
    flat = analyse_range_curves([(LR, 2 + np.random.default_rng(0).normal(0, 0.1, LR.size))])
    assert next_runs(flat, []) == ()
    found = confirm(flat, [])
    assert found.status is FitStatus.NOT_IDENTIFIABLE
    assert found.sentence == flat.reason
    assert found.agreement == ()


def test_suggestions_stay_untested_until_a_run_has_ended() -> None:
    found = confirm(ramp_finding(), [])
    assert found.status is FitStatus.TOO_FEW_POINTS
    assert not found.complete
    assert found.agreement
    assert not any(row.tested for row in found.agreement)
    assert "untested" in found.sentence


@pytest.mark.parametrize("most", [0, 3, 6, 24])
def test_a_confirmation_survives_json_exactly(most: int) -> None:
    task = Task(3)
    finding, runs = task.play(ConfirmSettings())
    found = confirm(finding, runs[:most], batch_size=32, beta2=0.95)
    again = Confirmation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.summary() == found.summary()


@pytest.mark.parametrize(
    ("setting", "value"), [("seeds", 0), ("ratio", 1.0), ("most_runs", 2), ("most_lrs", 3), ("tolerance", 1.0)]
)
def test_settings_outside_their_range_are_misuse(setting: str, value: float) -> None:
    with pytest.raises(LrscaleError, match=setting):
        ConfirmSettings(**{setting: value})  # type: ignore[arg-type]  # one of several fields


def test_beta2_outside_its_range_is_misuse() -> None:
    with pytest.raises(LrscaleError, match="beta2"):
        confirm(ramp_finding(), [], beta2=1.0)
