"""Optuna as the engine of a search: the same question, the same answer, and the same trials after any kill."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import LrscaleError
from lrscale.recipe import Recipe
from lrscale.recipe.amounts import Speed
from lrscale.store import StudyFolder, StudyView, Trajectory, TrialSpec
from lrscale.study import Study, read_findings
from lrscale.study.engines import ENGINES, engine_of, optuna_game
from lrscale.study.engines import optuna as optuna_engine
from lrscale.study.engines.optuna_game import Game, Told, next_round
from lrscale.study.experiments import EXPERIMENTS
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from tests.study.searched import check, context, regret, run

pytest.importorskip("optuna")
SAMPLERS = ("tpe", "gp", "cmaes", "random")
PRUNERS = {
    "none": "none",
    "median": "median",
    # By its default one of four passes the first validation, and of 24 trials too few are left to name one.
    "successive_halving": {"name": "successive_halving", "settings": {"reduction_factor": 2, "first": 6}},
    "hyperband": "hyperband",
    "survivors": "survivors",
    "predicted": "predicted",
}
SIZES = [16, 64, 256]
EXAMPLES = 8_192
SEARCH = EXPERIMENTS["search"]


@pytest.fixture(autouse=True)
def _absent_extras(request: pytest.FixtureRequest) -> None:
    sampler = getattr(request.node, "callspec", None)
    if sampler is not None and sampler.params.get("sampler") == "cmaes":
        pytest.importorskip("cmaes")


def recipe(engine: dict[str, Any] | None = None, **search: object) -> Recipe:
    """Return a recipe that asks for a search over the synthetic task."""
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": None,
                "equivalence": None,
                "search": {
                    "batch_sizes": SIZES,
                    "learning_rates": [3e-5, 3e-1],
                    "horizon": f"{EXAMPLES} examples",
                    "trials": 24,
                    "confirm": False,
                    "engine": {"name": "optuna"} | (engine or {}),
                    **search,
                },
            },
        }
    )


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each trial of a study has left, without its timing."""
    return {one.trial_id: {**one.record.to_dict(), "timing": None} for one in StudyView.of(StudyFolder(folder))}


PAIRS = [
    # Each sampler and each pruner by default, and every pair of them among the slow tests.
    pytest.param(sampler, pruner, marks=[] if "tpe" == sampler or pruner == "none" else [pytest.mark.slow])
    for sampler in SAMPLERS
    for pruner in PRUNERS
]


@pytest.mark.parametrize(("sampler", "pruner"), PAIRS)
def test_a_search_names_a_setting_that_it_trained_to_the_end(tmp_path: Path, sampler: str, pruner: str) -> None:
    finding = run(tmp_path, recipe({"sampler": sampler, "pruner": PRUNERS[pruner]}))
    rows = finding.tables["trials"]
    assert len(rows) == 24
    assert finding.data["engine"]["name"] == "optuna"
    stopped = [row for row in rows if row["status"] == "stopped"]
    assert bool(stopped) == (pruner != "none")
    assert all(row["loss"] is None and row["examples"] < EXAMPLES * 0.95 for row in stopped)
    whole = {(row["lr"], row["batch_size"]) for row in rows if row["status"] == "completed"}
    assert finding.status == "ok", finding.sentence
    named = finding.numbers["best_lr"].value, finding.numbers["best_batch_size"].value
    assert named in whole
    # The worst of the surface costs tens of it; random settings alone come within this with 24 trials.
    assert regret(finding, Truth(), SIZES, EXAMPLES) < 0.1
    lr = finding.numbers["best_lr"]
    assert lr.lo is not None
    assert lr.hi is not None
    assert lr.lo < named[0] < lr.hi  # type: ignore[operator]


@pytest.mark.parametrize(("sampler", "pruner"), [("tpe", "hyperband"), ("cmaes", "median"), ("random", "none")])
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(
    tmp_path: Path, sampler: str, pruner: str, at_once: int
) -> None:
    asked = recipe({"sampler": sampler, "pruner": pruner}, trials=11, at_once=at_once)
    run(tmp_path / "undisturbed", asked)
    killed = tmp_path / "killed"
    for more in (1, 4, 2):
        with pytest.raises(KeyboardInterrupt):
            run(killed, asked, SyntheticLauncher(SyntheticStudy(), stop_after=more))
        # A process that starts anew has played nothing yet.
        next_round.cache_clear()
        optuna_game._live.cache_clear()
    finding = run(killed, asked)
    assert records(killed) == records(tmp_path / "undisturbed")
    assert [row["trial_id"] for row in finding.tables["trials"]] == [
        row["trial_id"] for row in read_findings(StudyFolder(tmp_path / "undisturbed"))[0].tables["trials"]
    ]


def test_a_search_that_has_ended_asks_for_nothing_more_whatever_else_is_in_the_study(tmp_path: Path) -> None:
    asked = recipe({"pruner": "hyperband"}, trials=8)
    run(tmp_path, asked)
    wanted = [spec.trial_id for spec in SEARCH.plan(context(asked, tmp_path))]
    run(tmp_path, recipe({"sampler": "random"}, trials=5))
    assert [spec.trial_id for spec in SEARCH.plan(context(asked, tmp_path))] == wanted
    launcher = SyntheticLauncher(SyntheticStudy())
    run(tmp_path, asked, launcher)
    assert launcher.ran == []


def test_more_trials_later_go_on_with_those_that_are_there(tmp_path: Path) -> None:
    fewer, more = (recipe({"pruner": "hyperband"}, trials=count, at_once=3) for count in (8, 13))
    run(tmp_path, fewer)
    before = [spec.trial_id for spec in SEARCH.plan(context(fewer, tmp_path))]
    launcher = SyntheticLauncher(SyntheticStudy())
    run(tmp_path, more, launcher)
    after = [spec.trial_id for spec in SEARCH.plan(context(more, tmp_path))]
    assert after[:8] == before
    assert launcher.ran == after[8:]


def test_a_budget_leaves_a_long_search_half_of_its_trials_before_a_few() -> None:
    assert [one["trials"] for one in SEARCH.reductions(recipe(trials=40))] == [20, 10, 8, 6, 5]


def test_a_task_without_validation_stops_nothing_and_says_so(tmp_path: Path) -> None:
    blind = SyntheticLauncher(SyntheticStudy(validations=0))
    finding = run(tmp_path, recipe({"pruner": "hyperband"}, trials=8), blind)
    assert "stopped" not in finding.tables
    warned = check(finding, "search stopping")
    assert warned.status == "WARNING"
    assert "the task validates nothing along the way" in warned.sentence


def test_trials_that_are_planned_one_by_one_are_timed_one_by_one(tmp_path: Path) -> None:
    seconds = {}
    for at_once in (1, 4):
        asked = recipe(trials=8, at_once=at_once)
        cost = asked.cost.model_copy(update={"throughput": Speed.parse("1000 examples/s")})
        layout = asked.layout.model_copy(update={"trials_at_once": 4})
        asked = asked.model_copy(update={"cost": cost, "layout": layout})
        (planned,) = Study(asked, StudyFolder(tmp_path)).plan(StudyView({}, lambda _: Trajectory()))
        seconds[at_once] = planned.seconds
    assert seconds[1] == pytest.approx(4 * seconds[4])


def test_a_stopped_trial_is_no_answer_to_a_question_asked_without_the_stopper(tmp_path: Path) -> None:
    asked = recipe({"pruner": "successive_halving"}, trials=12)
    run(tmp_path, asked)
    view = StudyView.of(StudyFolder(tmp_path))
    bounded = [trial for trial in view if trial.spec.stopper]
    assert any(trial.record.status == "stopped" for trial in bounded)
    for trial in bounded:
        assert view.get(dataclasses.replace(trial.spec, stopper={})) is None
    # The first ones could not be stopped, and are trials like any other.
    free = [trial for trial in view if not trial.spec.stopper]
    assert free
    assert all(trial.record.status == "completed" for trial in free)


def test_too_few_that_were_left_are_no_answer(tmp_path: Path) -> None:
    finding = run(tmp_path, recipe({"pruner": "successive_halving"}, trials=20))
    assert finding.status == "cannot_tell"
    assert "were stopped, and from fewer than 5 nothing can be named: it would take more trials" in finding.sentence


def test_trials_that_run_side_by_side_know_only_those_before_them(tmp_path: Path) -> None:
    asked = recipe({"pruner": "successive_halving"}, trials=12, at_once=6)
    study = Study(asked, StudyFolder(tmp_path))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    specs = [one for one in SEARCH.plan(context(asked, tmp_path)) if isinstance(one, TrialSpec)]
    assert [bool(spec.stopper) for spec in specs] == [False] * 6 + [True] * 6
    assert all(bound["among"] == 6 for spec in specs[6:] for bound in spec.stopper["bounds"][:1])


def test_bounds_stand_at_the_same_examples_for_every_batch_size(tmp_path: Path) -> None:
    asked = recipe({"pruner": "median"}, trials=16)
    run(tmp_path, asked)
    specs = [spec for spec in SEARCH.plan(context(asked, tmp_path)) if spec.stopper]
    assert {spec.global_batch_size for spec in specs} == set(SIZES)
    for spec in specs:
        shares = [bound["step"] / spec.horizon for bound in spec.stopper["bounds"]]
        # Validations are every tenth of the horizon in steps, rounded up.
        expected = [place / 10 for place in range(1, 10)]
        assert len(shares) <= 9
        assert all(min(abs(share - one) for one in expected) < 10 / spec.horizon for share in shares)


def test_the_same_seed_asks_for_the_same_and_another_for_something_else(tmp_path: Path) -> None:
    game = Game(
        sampler="tpe",
        startup=None,
        pruner=None,
        pruner_settings=(),
        validations=10,
        learning_rates=(1e-4, 1e-1),
        batch_sizes=(16, 64),
        at_once=2,
        trials=9,
        seed=0,
    )
    told = tuple(((Told(how="completed", loss=1.0 + 0.1 * place), Told(how="diverged"))) for place in range(4))
    first = next_round(game, told)
    next_round.cache_clear()
    optuna_game._live.cache_clear()
    assert next_round(game, told) == first
    assert len(first) == 1
    assert next_round(dataclasses.replace(game, seed=1), told) != first


def test_learning_rates_are_drawn_evenly_in_their_logarithm() -> None:
    game = Game(
        sampler="random",
        startup=None,
        pruner=None,
        pruner_settings=(),
        validations=10,
        learning_rates=(1e-6, 1e0),
        batch_sizes=(16, 64, 256),
        at_once=600,
        trials=600,
        seed=0,
    )
    asked = next_round(game, ())
    shares = [math.log10(lr) / 6 + 1 for lr, _ in asked]
    # Of 600 uniform draws a fourth has 150, with a standard deviation of 10.6.
    quarters = [sum(place <= 4 * share < place + 1 for share in shares) for place in range(4)]
    assert all(abs(count - 150) < 43 for count in quarters)
    thirds = [sum(size == one for _, size in asked) for one in (16, 64, 256)]
    assert all(abs(count - 200) < 47 for count in thirds)


def test_the_best_at_the_end_of_the_range_is_no_answer_where_the_range_was_a_guess(tmp_path: Path) -> None:
    asked = recipe({"sampler": "random"}, batch_sizes=[256], learning_rates=[0.02, 0.05], trials=16)
    bound = run(tmp_path / "bound", asked)
    assert bound.status == "ok"
    assert check(bound, "search inside").status == "WARNING"
    shifted = SyntheticLauncher(SyntheticStudy(truth=Truth(peak=30.0)))
    free = run(tmp_path / "free", recipe({"sampler": "random"}, learning_rates=None, trials=12), shifted)
    assert free.status == "cannot_tell"
    assert "experiments.search.learning_rates that reach higher than 0.0" in free.sentence


def test_where_memory_was_short_no_larger_batch_is_tried_again(tmp_path: Path) -> None:
    class Tight(SyntheticLauncher):
        def run(self, requests: Any, progress: Any) -> Any:
            for record in super().run(requests, progress):
                spec = next(one.spec for one in requests if one.spec.trial_id == record.trial_id)
                short = {"status": "out_of_memory", "final_loss": None, "reason": "no memory"}
                yield dataclasses.replace(record, **short) if spec.global_batch_size >= 64 else record

    finding = run(tmp_path, recipe({"sampler": "random"}), Tight(SyntheticStudy()))
    rows = finding.tables["trials"]
    assert len(rows) == 24
    assert sum(row["status"] == "out_of_memory" for row in rows) <= 2
    assert finding.numbers["best_batch_size"].value == 16
    assert check(finding, "search trials ran").status == "WARNING"


def test_the_finding_says_what_was_stopped_and_whether_early_losses_tell(tmp_path: Path) -> None:
    finding = run(tmp_path, recipe({"pruner": "median"}, trials=30))
    stopped = [row for row in finding.tables["trials"] if row["status"] == "stopped"]
    assert sum(row["stopped"] for row in finding.tables["stopped"]) == len(stopped)
    told = finding.data["stopping"]
    assert told["stopped"] == len(stopped)
    assert told["saved"] == sum(EXAMPLES - row["examples"] for row in stopped)
    # The synthetic losses fall alike, so that the order is the same from the first validation on but for noise.
    assert told["agreement"] > 0.75
    assert check(finding, "search stopping").status == "PASS"
    assert f"but for {len(stopped)} that were stopped early" in finding.sentence


def test_a_plan_says_less_for_a_search_that_stops_trials_and_never_too_little_at_most(tmp_path: Path) -> None:
    whole, pruned = recipe(), recipe({"pruner": "hyperband"})
    planned = {}
    for name, asked in (("whole", whole), ("pruned", pruned)):
        (planned[name],) = Study(asked, StudyFolder(tmp_path / name)).plan(StudyView({}, lambda _: Trajectory()))
    assert planned["whole"].trials_at_most == planned["pruned"].trials_at_most == 24
    assert planned["whole"].examples == 24 * EXAMPLES
    assert 0.3 < planned["pruned"].examples / planned["whole"].examples < 0.6
    run(tmp_path / "pruned", pruned)
    spent = sum(trial.record.examples for trial in StudyView.of(StudyFolder(tmp_path / "pruned")))
    assert 0.6 < planned["pruned"].examples / spent < 1.6


def test_a_budget_is_kept(tmp_path: Path) -> None:
    asked = recipe({"pruner": "median"}, trials=20)
    cost = asked.cost.model_copy(update={"budget": type(asked.cost).model_validate({"budget": "60k examples"}).budget})
    run(tmp_path, asked.model_copy(update={"cost": cost}))
    assert sum(trial.record.examples for trial in StudyView.of(StudyFolder(tmp_path))) <= 60_000


def test_without_optuna_a_search_says_what_to_install_and_a_finished_one_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe({"pruner": "median"}, trials=20)
    before = run(tmp_path, asked)
    next_round.cache_clear()
    optuna_game._live.cache_clear()
    for module in (optuna_game, optuna_engine):
        monkeypatch.setattr(module, "is_installed", lambda package: package != "optuna")
    with pytest.raises(LrscaleError) as caught:
        run(tmp_path / "new", asked)
    assert "needs the package optuna" in str(caught.value)
    assert "pip install 'lrscale[optuna]'" in str(caught.value)
    (after,) = Study(asked, StudyFolder(tmp_path)).analyse(StudyView.of(StudyFolder(tmp_path)))
    assert after.numbers["best_lr"].value == before.numbers["best_lr"].value
    assert len(after.tables["trials"]) == len(before.tables["trials"])


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_of_a_recipe_is_there_and_says_how_it_plans(name: str) -> None:
    asked = recipe(trials=5)
    search = asked.experiments.search
    assert search is not None
    chosen = type(search).model_validate({**search.model_dump(mode="json"), "engine": {"name": name}})
    experiments = asked.experiments.model_copy(update={"search": chosen})
    asked = asked.model_copy(update={"experiments": experiments})
    assert engine_of(asked) is ENGINES[name]
    assert len(ENGINES[name].method(asked)) > 100


@pytest.mark.parametrize("engine", [{"name": "planner"}, {"name": "optuna", "pruner": "median"}])
def test_a_trial_that_was_lost_is_waited_for_and_changes_no_course(tmp_path: Path, engine: dict[str, Any]) -> None:
    class Losing(SyntheticLauncher):
        """Loses the third trial, as when its node goes twice."""

        def run(self, requests: Any, progress: Any) -> Any:
            for record in super().run(requests, progress):
                gone = {"status": "crashed", "final_loss": None, "retryable": True, "reason": "rank 1 is gone"}
                yield dataclasses.replace(record, **gone) if len(self.ran) == 3 else record

    asked = recipe(engine, trials=9)
    run(tmp_path / "undisturbed", asked)
    launcher = Losing(SyntheticStudy())
    waiting = run(tmp_path / "disturbed", asked, launcher)
    assert len(launcher.ran) == 3
    assert waiting.status == "cannot_tell"
    run(tmp_path / "disturbed", asked)
    assert records(tmp_path / "disturbed") == records(tmp_path / "undisturbed")
