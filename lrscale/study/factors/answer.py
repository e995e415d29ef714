"""What the factors found, in sentences, numbers and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrscale.laws import LRSliceFit, compare_minima
from lrscale.laws.optimal_lr.factor_law import FactorLaw, fit_factor_law, move_of_optimum
from lrscale.store import Trial
from lrscale.study.cells import fit_cell, with_trials
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import tolerance
from lrscale.study.factors.coordinates import is_width
from lrscale.study.factors.gaps import change_of_gap, gaps_at_best, mean_gap
from lrscale.study.factors.grid import FactorGrid, LevelCell, factor_settings
from lrscale.study.factors.parametrisation import parametrisation
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.lr_answer import bounds
from lrscale.study.words import interval_text, number

if TYPE_CHECKING:
    from lrscale.study.experiments.base import AbstractExperiment


def factors_finding(
    experiment: AbstractExperiment,
    context: Context,
    grids: Sequence[FactorGrid],
    trials: Sequence[Mapping[str, list[Trial]]],
    checked: Sequence[Sequence[Trial]],
) -> Finding:
    """Return the finding of the factors as far as their trials have ended.

    Parameters
    ----------
    experiment : AbstractExperiment
    context : Context
    grids : sequence of FactorGrid
    trials : sequence of mapping of str to list of Trial
        For each factor the finished trials of each value, by its label.
    checked : sequence of sequence of Trial
        For each factor the finished trials that compare the outputs of a width; none where it is no width.
    """
    settings = factor_settings(context.recipe)
    factors = [
        _factor(context, grid, dict(own), short) for grid, own, short in zip(grids, trials, checked, strict=True)
    ]
    swept = [trial for own in trials for some in own.values() for trial in some]
    every = [*swept, *(trial for short in checked for trial in short)]
    sentences = [str(one["sentence"]) for one in factors]
    numbers = {}
    for one in factors:
        law = one["law"]
        if law is not None and law["exponent"] is not None:
            ends = law["interval"]
            numbers[f"{one['name']}_power"] = Quantity(value=law["exponent"], lo=ends["lo"], hi=ends["hi"])
    examples = max((trial.spec.examples for trial in swept), default=None)
    cell = grids[0].cells[0].cell
    known = any(level["best_lr"] is not None for one in factors for level in one["levels"])
    seeds = f"{settings.seeds} seed{'' if settings.seeds == 1 else 's'}"
    scope = "" if examples is None else f" All runs are at batch {cell.batch_size:,}, {examples:,} examples, {seeds}."
    hidden = ("slice", "trials")
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok" if known else "cannot_tell",
        sentence=f"{' '.join(sentences).rstrip('.')}.{scope}",
        numbers=numbers,
        tables={
            "levels": tuple(
                {"factor": one["name"], **{key: value for key, value in level.items() if key not in hidden}}
                for one in factors
                for level in one["levels"]
            )
        },
        checks=tuple(check for one in factors for check in _checks(one, settings.max_learning_rates)),
        data={
            "factors": factors,
            "batch_size": cell.batch_size,
            "horizon_examples": examples,
            "schedule": cell.schedule,
            "seeds": settings.seeds,
            "margin": settings.margin,
            "monitor": next((trial.record.monitor for trial in swept if trial.record.monitor), None),
        },
        trial_ids=tuple(dict.fromkeys(trial.trial_id for trial in every)),
    )


def _factor(
    context: Context, grid: FactorGrid, trials: Mapping[str, list[Trial]], checked: Sequence[Trial]
) -> dict[str, Any]:
    settings = factor_settings(context.recipe)
    whole = with_trials(dict(trials))
    fits = {label: fit_cell(own, tolerance=tolerance(context.recipe)) for label, own in whole.items()}
    gaps = {label: gaps_at_best(fit, whole[label]) for label, fit in fits.items()}
    levels = [_level(cell, fits.get(cell.level.label), whole.get(cell.level.label, []), gaps) for cell in grid.cells]
    ordered = sorted(levels, key=lambda level: level["value"]) if grid.numeric else levels
    _compare(ordered, fits, settings.margin)
    law = _law(grid, ordered, fits)
    found = {
        "name": grid.short,
        "path": grid.path,
        "numeric": grid.numeric,
        "width": settings.is_width(grid.name),
        "levels": ordered,
        "law": None if law is None else law.to_dict(),
        "move": _move(ordered, fits),
        "gap_change": _gap_change(ordered, gaps),
        "parametrisation": parametrisation(grid, law, checked, _optimizers(trials)) if is_width(grid) else None,
    }
    return {**found, "sentence": _sentence(found)}


def _optimizers(trials: Mapping[str, list[Trial]]) -> list[str]:
    """Return the optimizers that the module makes, as the first trial that says so has them."""
    known = (trial.record.facts.get("optimizers") for own in trials.values() for trial in own)
    return next((list(names) for names in known if names), [])


def _level(
    cell: LevelCell, fit: LRSliceFit | None, trials: Sequence[Trial], gaps: Mapping[str, Mapping[int, float]]
) -> dict[str, Any]:
    lo, hi = bounds(None if fit is None else fit.interval)
    loss_lo, loss_hi = bounds(None if fit is None else fit.min_loss_interval)
    gap, gap_lo, gap_hi = mean_gap(gaps.get(cell.level.label, {}))
    return {
        "label": cell.level.label,
        "value": cell.level.value,
        "best_lr": None if fit is None else fit.best_lr,
        "lo": lo,
        "hi": hi,
        "loss": None if fit is None else fit.min_loss,
        "loss_lo": loss_lo,
        "loss_hi": loss_hi,
        "gap": gap,
        "gap_lo": gap_lo,
        "gap_hi": gap_hi,
        "difference": None,
        "difference_lo": None,
        "difference_hi": None,
        "verdict": "cannot tell",
        "trials_count": len(trials),
        "status": "no trials" if fit is None else fit.status.value,
        "reason": "No trial has a loss." if fit is None else fit.reason,
        "slice": None if fit is None else fit.to_dict(),
        "trials": [trial.trial_id for trial in trials],
    }


def _compare(levels: Sequence[dict[str, Any]], fits: Mapping[str, LRSliceFit], margin: float) -> None:
    """Write down which values end lowest, each at its own best LR; ties are an answer."""
    losses = [fit.min_loss for fit in fits.values() if fit.best_lr is not None and fit.min_loss is not None]
    if not losses:
        return
    ranking = compare_minima(fits, margin * abs(min(losses)))
    by_label = {level["label"]: level for level in levels}
    for row in ranking.rows:
        level = by_label[row.name]
        if row.leads:
            level |= {"difference": 0.0, "difference_lo": 0.0, "difference_hi": 0.0, "verdict": row.verdict}
            continue
        ends = bounds(None if row.gap is None else row.gap.interval)
        level |= {
            "difference": None if row.gap is None else row.gap.value,
            "difference_lo": ends[0],
            "difference_hi": ends[1],
            "verdict": row.verdict,
        }


def _law(grid: FactorGrid, levels: Sequence[Mapping[str, Any]], fits: Mapping[str, LRSliceFit]) -> FactorLaw | None:
    """Return the power of the best LR in the factor, where that is a positive number everywhere."""
    known = _telling(levels)
    if not grid.numeric or len(known) < 2 or any(level["value"] <= 0 for level in known):
        return None
    return fit_factor_law([level["value"] for level in known], [fits[level["label"]] for level in known])


def _telling(levels: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the values whose slice says where its optimum is, or on which side of its rates."""
    return [level for level in levels if level["status"] in ("ok", "censored_high", "censored_low")]


def _move(levels: Sequence[Mapping[str, Any]], fits: Mapping[str, LRSliceFit]) -> dict[str, Any] | None:
    """Return the best LR of the last located value over that of the first, with its interval."""
    known = [level["label"] for level in levels if level["best_lr"] is not None]
    if len(known) < 2:
        return None
    draws = move_of_optimum(fits[known[0]], fits[known[-1]])
    lo, middle, hi = (math.exp(float(end)) for end in np.percentile(draws, [2.5, 50, 97.5]))
    return {"first": known[0], "last": known[-1], "factor": middle, "lo": lo, "hi": hi}


def _gap_change(levels: Sequence[Mapping[str, Any]], gaps: Mapping[str, Mapping[int, float]]) -> dict[str, Any] | None:
    known = [level["label"] for level in levels if level["gap"] is not None]
    if len(known) < 2:
        return None
    claim = change_of_gap(gaps[known[0]], gaps[known[-1]])
    if claim is None:
        return None
    return {"first": known[0], "last": known[-1], "value": claim.value, "lo": claim.lo, "hi": claim.hi}


def _sentence(factor: Mapping[str, Any]) -> str:
    levels, name = factor["levels"], factor["name"]
    located = [level for level in levels if level["best_lr"] is not None]
    if not located:
        first = next((level["reason"] for level in levels), "no trial has finished")
        return f"No value of {name} has its best learning rate inside those tried: {first}"
    law, move, telling = factor["law"], factor["move"], _telling(levels)
    if law is not None and law["exponent"] is not None and law["interval"] is not None:
        ends = interval_text(law["interval"]["lo"], law["interval"]["hi"], law["interval"]["confidence"])
        told = (
            f"From {telling[0]['label']} to {telling[-1]['label']} the best learning rate goes as {name} to the power "
            f"{number(law['exponent'])} ({ends})"
        )
    elif move is not None:
        told = (
            f"From {move['first']} to {move['last']} the best learning rate moves by a factor of "
            f"{number(move['factor'])} ({interval_text(move['lo'], move['hi'])})"
        )
    else:
        told = f"With {located[0]['label']} the best learning rate is {number(located[0]['best_lr'])}"
    gap = factor["gap_change"]
    if gap is not None:
        told += (
            f"; the gap between validation and training loss changes by {number(gap['value'])} "
            f"({interval_text(gap['lo'], gap['hi'])})"
        )
    checked = factor["parametrisation"]
    return f"{told}. {_ranking(levels)}" + ("" if checked is None else f" {checked['sentence']}")


def _ranking(levels: Sequence[Mapping[str, Any]]) -> str:
    by = {word: [level["label"] for level in levels if level["verdict"] == word] for word in ("tied", "worse")}
    lowest = next((level for level in levels if level["verdict"] in ("best", "lowest")), None)
    unclear = [level["label"] for level in levels if level["verdict"] == "cannot tell" and level["best_lr"] is not None]
    if lowest is None:
        return "Which value ends lowest cannot be told."
    # Where no difference is shown the lowest fit says little: the next seed may name another.
    sure = "" if lowest["verdict"] == "best" else ", by its fit alone"
    told = f"The loss ends lowest with {lowest['label']}{sure}"
    for word, text in (("tied", "tied with it"), ("worse", "worse")):
        if by[word]:
            told += f", {_listed(by[word])} {'is' if len(by[word]) == 1 else 'are'} {text}"
    if unclear:
        told += f", for {_listed(unclear)} the seeds cannot tell"
    return f"{told}."


def _checks(factor: Mapping[str, Any], most: int) -> list[Check]:
    checks = []
    for level in factor["levels"]:
        located = level["best_lr"] is not None
        checks.append(
            Check(
                name=f"optimum inside with {level['label']}",
                status="PASS" if located else "WARNING",
                sentence=level["reason"],
                remedy=None
                if located
                else f"raise experiments.factors.max_learning_rates above {most}, or experiments.factors.seeds",
            )
        )
    return checks


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
