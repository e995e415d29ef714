"""From findings to a recommendation, or to the reason why there is none."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus
from lrscale.laws.lr_slice.slice import MIN_DISTINCT_LRS
from lrscale.recipe import Recipe, ScheduleChoice
from lrscale.recipe.experiments import Target
from lrscale.recommend.assemble import (
    FEW_STEPS,
    alternatives,
    batch_size_home,
    checks,
    evidence,
    expected_seconds,
    fewest_steps,
    shaping,
    validity,
)
from lrscale.recommend.companions import recommended_companions
from lrscale.recommend.layout import layout_for
from lrscale.recommend.measured import Cell, Speeds, find, scaling_cells, schedule_results, unlocated
from lrscale.recommend.recommendation import MODULE, Confidence, Recommendation, RecommendedSchedule, Refusal
from lrscale.recommend.schedule_choice import ScheduleVerdict, choose_schedule
from lrscale.recommend.to_target import choose
from lrscale.recommend.transfer import NoTransfer, judge_horizon, transfer_batch, useless_interval
from lrscale.recommend.words import count, with_interval
from lrscale.schedules import brings_rise
from lrscale.store import StudyView, Trial
from lrscale.study.analysed import KEPT_OUT
from lrscale.study.budget.findings import REMEDY as BUDGET_REMEDY
from lrscale.study.finding import Finding, Quantity
from lrscale.study.lost import REMEDY as LOST_REMEDY
from lrscale.study.lost import waits
from lrscale.study.specs import WARMUP_FRACTION, warmup_steps
from lrscale.units import Duration


@final
@dataclass(frozen=True, slots=True)
class _Setting:
    """The LR, batch and schedule that were decided on."""

    cell: Cell
    cells: tuple[Cell, ...]
    schedule: ScheduleChoice
    confidence: Confidence
    reasons: tuple[str, ...]
    horizon_examples: int
    monitor: str
    findings: tuple[Finding, ...]


def recommend(
    recipe: Recipe,
    view: StudyView,
    findings: Sequence[Finding],
    *,
    batch_size: int | None = None,
    horizon: Duration | str | None = None,
) -> Recommendation | Refusal:
    """Recommend a setting for a target.

    Parameters
    ----------
    recipe : Recipe
        Its `target` says what for, its `layout` on which devices.
    view : StudyView
        The finished trials.
    findings : sequence of Finding
        What the experiments found; `scaling`, `search` or `schedules` is needed. The first of them that located a best
        LR decides.
    batch_size : int or None, optional
        Global batch size of the job. Default: the recipe's target, else the best one by its objective (`choose`).
    horizon : Duration, str or None, optional
        Length of the job. Default: the recipe's target, else the length that was calibrated.

    Returns
    -------
    Recommendation or Refusal
        A refusal where no optimum was located, or where the interval of the LR spans more than a factor of
        `lrscale.recommend.transfer.MAX_INTERVAL_RATIO`, or where the job has fewer steps than every trial and than
        `lrscale.recommend.assemble.FEW_STEPS`.

    Raises
    ------
    LrscaleError
        For a target that the layout cannot form, or whose length cannot be counted in examples.
    """
    target = recipe.target or Target()
    wanted = batch_size if batch_size is not None else target.batch_size
    speeds = Speeds.of(findings, view)
    setting = _decide(recipe, findings, wanted, speeds)
    if isinstance(setting, Refusal):
        return setting
    useless = useless_interval(setting.cell.lr)
    if useless is not None:
        return Refusal(
            sentence=f"The best LR at batch {count(setting.cell.batch_size)} {useless}: too wide to recommend one.",
            needs=_more_seeds(recipe),
        )
    examples = _horizon_examples(horizon or target.horizon, setting, view)
    layout, layout_reason = layout_for(recipe, setting.cell.batch_size, speeds)
    steps = max(1, examples // layout.global_batch_size)
    fewest = fewest_steps(view, setting.findings)
    if steps < FEW_STEPS and fewest is not None and steps < fewest:
        return Refusal(
            sentence=f"A job of {steps} step{'s' if steps > 1 else ''} at batch {count(layout.global_batch_size)} is "
            f"shorter than any trial: none had fewer than {count(fewest)} steps, and so few ask for another LR.",
            needs=f"Name a smaller batch or a longer horizon, of {min(FEW_STEPS, fewest)} steps at least.",
        )
    verdict = judge_horizon(setting.horizon_examples, examples, float(setting.cell.lr.value or 0.0))
    confidence, reasons = setting.confidence, [*setting.reasons]
    if verdict is not None:
        confidence = verdict.confidence
        reasons.append(verdict.reason)
    if layout_reason is not None:
        reasons.append(layout_reason)
    calibrated = verdict is None
    used = setting.findings
    companions, said = recommended_companions(findings, view, layout.global_batch_size)
    reasons += said
    return Recommendation(
        name=recipe.name,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        lrscale_version=_version(),
        monitor=setting.monitor,
        lr=setting.cell.lr,
        equivalent_lr=setting.cell.equivalent_lr,
        global_batch_size=layout.global_batch_size,
        per_device_batch_size=layout.per_device_batch_size,
        accumulate_grad_batches=layout.accumulate,
        devices=layout.devices,
        num_nodes=layout.num_nodes,
        schedule=_schedule(recipe, setting, steps, layout.global_batch_size, view),
        horizon_steps=steps,
        horizon_examples=steps * layout.global_batch_size,
        expected_loss=setting.cell.loss if calibrated else Quantity(value=None),
        expected_seconds=expected_seconds(speeds, layout, steps),
        validity=validity(recipe, view, setting.cells, setting.cell, setting.horizon_examples, used),
        stands_on=evidence(view, used),
        confidence=confidence,
        reasons=tuple(reasons),
        companions=companions,
        alternatives=alternatives(recipe, setting.cells, setting.cell, layout, speeds),
        checks=checks(recipe, setting.cell, setting.confidence, verdict, view, used),
        trainer=shaping(recipe),
        batch_size_home=batch_size_home(view, used),
    )


def _decide(recipe: Recipe, findings: Sequence[Finding], wanted: int | None, speeds: Speeds) -> _Setting | Refusal:
    scaling, comparison = find(findings, "scaling"), find(findings, "schedules")
    cells = () if scaling is None else scaling_cells(scaling)
    searched = find(findings, "search")
    if not cells and searched is not None and scaling_cells(searched):
        # It names one batch size; what the sweep measures at each goes first.
        scaling, cells = searched, scaling_cells(searched)
    if scaling is None or not cells:
        if comparison is not None and any(result.cell for result in schedule_results(comparison)):
            return _from_comparison(recipe, comparison, wanted)
        return _nothing_located(recipe, scaling or searched)
    reasons: list[str] = []
    confidence: Confidence = "measured"
    if wanted is None:
        cell, said = choose(recipe, cells, scaling, speeds)
        reasons = [*said]
        if scaling is searched:
            tried = ", ".join(count(size) for size in scaling.data.get("batch_sizes", ()))
            reasons = [f"The search over batch {tried} named it."] if tried else []
    else:
        known = {cell.batch_size: cell for cell in cells}
        if wanted in known:
            cell = known[wanted]
        elif scaling is searched:
            return Refusal(
                sentence=f"A search named batch {count(cells[0].batch_size)}; nothing measured batch {count(wanted)}.",
                needs=f"Search it alone: --set experiments.search.batch_sizes=[{wanted}], in a new study.",
            )
        else:
            status = unlocated(scaling).get(wanted)
            moved = transfer_batch(cells, scaling.data.get("law"), wanted)
            if isinstance(moved, NoTransfer):
                return Refusal(sentence=moved.sentence, needs=moved.needs)
            cell, confidence = moved.cell, moved.confidence
            reasons = [moved.reason]
            if status is not None:
                reasons.append(f"Trials at batch {count(wanted)} did not locate its best LR ({status}).")
    schedule = _own_schedule(recipe, scaling)
    found = choose_schedule(recipe, comparison, schedule, cell, scaling.data["horizon_examples"])
    if found.cell is not None:
        cell, schedule = found.cell, found.schedule
    used = tuple(finding for finding in (scaling, comparison if found.used else None) if finding is not None)
    return _Setting(
        cell=cell,
        cells=cells,
        schedule=schedule,
        confidence=confidence,
        reasons=(_measured_sentence(cell, confidence, scaling), *reasons, *found.reasons),
        horizon_examples=int(scaling.data["horizon_examples"]),
        monitor=str(scaling.data.get("monitor") or recipe.task.monitor or "loss"),
        findings=used,
    )


def _from_comparison(recipe: Recipe, comparison: Finding, wanted: int | None) -> _Setting | Refusal:
    size = int(comparison.data["batch_size"])
    if wanted not in (None, size):
        return Refusal(
            sentence=(
                f"Only batch {count(size)} was measured, and nothing says how its LR moves to batch {count(wanted)}."
            ),
            needs="Measure more batch sizes: add experiments.scaling to the recipe.",
        )
    found: ScheduleVerdict = choose_schedule(recipe, comparison, None, None, int(comparison.data["horizon_examples"]))
    if found.cell is None:
        return _nothing_located(recipe, comparison)
    return _Setting(
        cell=found.cell,
        cells=(found.cell,),
        schedule=found.schedule,
        confidence="measured",
        reasons=(_measured_sentence(found.cell, "measured", comparison), *found.reasons),
        horizon_examples=int(comparison.data["horizon_examples"]),
        monitor=str(comparison.data.get("monitor") or recipe.task.monitor or "loss"),
        findings=(comparison,),
    )


def _nothing_located(recipe: Recipe, finding: Finding | None) -> Refusal:
    if finding is None and recipe.experiments.forecast is not None:
        return Refusal(
            sentence="The trials are cells of a forecast; no setting of the task itself was measured.",
            needs=(
                "Name the target's scale: lrscale recommend STUDY --params N --horizon T; or add experiments.scaling."
            ),
        )
    if finding is None:
        return Refusal(
            sentence="Nothing measured the best LR: none of scaling, search and schedules has a finding.",
            needs="Run them: lrscale run, with experiments.scaling or experiments.search in the recipe.",
        )
    if KEPT_OUT in finding.data:
        needs = f"{BUDGET_REMEDY.capitalize()}."
        return Refusal(sentence=f"Nothing measured the best LR. {finding.sentence}", needs=needs)
    if any(check.remedy == BUDGET_REMEDY and check.status == "WARNING" for check in finding.checks):
        needs = f"{BUDGET_REMEDY.capitalize()}."
        return Refusal(sentence=f"The best LR was located at no batch size. {finding.sentence}", needs=needs)
    if waits(finding):
        needs = f"{LOST_REMEDY.capitalize()}."
        return Refusal(sentence=f"Nothing measured the best LR. {finding.sentence}", needs=needs)
    statuses = ", ".join(f"batch {count(size)}: {status}" for size, status in unlocated(finding).items())
    detail = f" ({statuses})" if statuses else ""
    return Refusal(
        sentence=f"The best LR was located at no batch size{detail}. {finding.sentence}".strip(),
        needs=finding.data.get("needs") or _remedy(recipe, finding),
    )


def _measured_sentence(cell: Cell, confidence: Confidence, finding: Finding) -> str:
    how = "measured" if confidence == "measured" else "predicted"
    return (
        f"At batch {count(cell.batch_size)} the best peak LR is {with_interval(cell.lr)}, {how} from "
        f"{count(cell.trials)} "
        f"trials over {count(int(finding.data['horizon_examples']))} examples."
    )


def _own_schedule(recipe: Recipe, finding: Finding) -> ScheduleChoice:
    search = recipe.experiments.search
    if recipe.task.schedule == MODULE:
        return ScheduleChoice(name=MODULE)
    if finding.key == "search" and search is not None and search.schedule is not None:
        return search.schedule
    return ScheduleChoice(name="cosine") if recipe.experiments.scaling is None else recipe.experiments.scaling.schedule


def _schedule(recipe: Recipe, setting: _Setting, steps: int, batch_size: int, view: StudyView) -> RecommendedSchedule:
    choice = setting.schedule
    trained = _trained(recipe, setting, view)
    if choice.warmup is None and brings_rise(choice.name):
        share = 0.0
    elif choice.warmup is None and recipe.experiments.scaling is not None and find(setting.findings, "search") is None:
        share = recipe.experiments.scaling.warmup_fraction
    else:
        share = 0.0 if trained is None else trained.spec.schedule.warmup_steps / trained.spec.horizon
    warmup = round(share * steps)
    if trained is not None and (trained.spec.horizon, trained.spec.global_batch_size) == (steps, batch_size):
        warmup = trained.spec.schedule.warmup_steps
    # The planner may complete a schedule's settings (a time scale that fits the warm-up): recommend what was trained.
    settings = choice.settings if trained is None else trained.spec.schedule.settings
    return RecommendedSchedule(
        name=choice.name,
        settings=dict(settings),
        warmup_steps=warmup,
        warmup_examples=warmup * batch_size,
        warmup_shape="linear" if trained is None else trained.spec.schedule.warmup_shape,
        first_group_lr=_first_group_lr(setting, trained) if choice.name == MODULE else None,
    )


def _first_group_lr(setting: _Setting, trained: Trial | None) -> float | None:
    """Return the LR with which a module that was told the recommended peak makes its first group."""
    if trained is None or setting.cell.lr.value is None or not trained.record.facts.get("lr_home"):
        return None
    made = trained.record.facts.get("reference_lr")
    return None if made is None else float(made) * setting.cell.lr.value / trained.spec.peak_lr


def _trained(recipe: Recipe, setting: _Setting, view: StudyView) -> Trial | None:
    """Return a trial of the chosen schedule and warm-up, at the chosen batch size where there is one."""
    choice = setting.schedule
    ids = [trial_id for finding in setting.findings for trial_id in finding.trial_ids]
    found = [
        view.trials[trial_id]
        for trial_id in ids
        if trial_id in view.trials
        and not view.trials[trial_id].spec.other_optimizer
        and view.trials[trial_id].spec.schedule.name == choice.name
        and choice.settings.items() <= dict(view.trials[trial_id].spec.schedule.settings).items()
    ]
    found.sort(key=lambda trial: not _warms_up_as(recipe, choice, trial))
    same = [trial for trial in found if trial.spec.global_batch_size == setting.cell.batch_size]
    return next(iter([*same, *found]), None)


def _warms_up_as(recipe: Recipe, choice: ScheduleChoice, trial: Trial) -> bool:
    """Whether a trial has the warm-up that a choice states; where it states none, that of an experiment."""
    spec = trial.spec
    size = trial.record.facts.get("training_examples")
    stated: list[Duration | float] = [choice.warmup] if choice.warmup is not None else []
    if choice.warmup is None and not brings_rise(choice.name):
        asked = recipe.experiments
        own = (asked.scaling, asked.search)
        stated = [WARMUP_FRACTION, *(one.warmup_fraction or 0.0 for one in own if one is not None)]
    steps = [
        warmup_steps(one, spec.horizon, spec.global_batch_size, size if isinstance(size, int) else None)
        for one in stated
    ]
    shaped = not spec.schedule.warmup_steps or spec.schedule.warmup_shape == choice.warmup_shape
    return shaped and spec.schedule.warmup_steps in (steps or [0])


def _horizon_examples(horizon: Duration | str | None, setting: _Setting, view: StudyView) -> int:
    if horizon is None:
        return setting.horizon_examples
    length = Duration.parse(horizon) if isinstance(horizon, str) else horizon
    if length.unit == "examples":
        return length.value
    if length.unit == "epochs":
        sizes = {trial.record.facts.get("training_examples") for trial in view}
        known = [size for size in sizes if isinstance(size, int) and size > 0]
        if len(known) != 1:
            raise LrscaleError(f"{length} cannot be counted in examples: the trials do not say how many an epoch has")
        return length.value * known[0]
    return length.steps(setting.cell.batch_size) * setting.cell.batch_size


def _remedy(recipe: Recipe, finding: Finding) -> str:
    """Return what helps where no batch size has a best LR: more seeds do not where all ended alike."""
    statuses, scaling = set(unlocated(finding).values()), recipe.experiments.scaling
    own = f"experiments.{finding.key}"
    if statuses == {FitStatus.ALL_DIVERGED.value}:
        return (
            "Look at the module first: whether its loss is finite at LR 0, and its clipping; then name lower LRs: "
            f"{own}.learning_rates."
        )
    losses = [cell["slice"].get("loss") or () for cell in finding.data.get("cells", ())]
    if statuses == {FitStatus.NOT_IDENTIFIABLE.value} and losses and all(len(set(same)) == 1 for same in losses):
        return f"Lengthen {own}.horizon, or set another task.monitor, in a new study."
    stated = () if scaling is None else scaling.learning_rates or ()
    if statuses == {FitStatus.TOO_FEW_POINTS.value} and 0 < len(stated) < MIN_DISTINCT_LRS:
        return f"Name {MIN_DISTINCT_LRS} learning rates or more, or leave them to the study: {own}.learning_rates."
    return _more_seeds(recipe)


def _more_seeds(recipe: Recipe) -> str:
    scaling = recipe.experiments.scaling
    if scaling is None and recipe.experiments.search is not None:
        return f"More trials would tell: --set experiments.search.trials={recipe.experiments.search.trials + 10}."
    if scaling is None:
        return "More seeds, or a wider grid of LRs, would tell."
    return (
        f"More seeds would tell: --set experiments.scaling.seeds={scaling.seeds + 2}; where the optimum is at "
        "the edge, "
        f"a wider grid: --set experiments.scaling.max_learning_rates={scaling.max_learning_rates + 6}."
    )


def _version() -> str:
    import lrscale

    return lrscale.__version__
