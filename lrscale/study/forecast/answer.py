"""From the cells of a study to a forecast in words, with published laws beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrscale.laws.forecast import CellOptimum, Forecast, ForecastCell, Span, forecast
from lrscale.laws.published import PUBLISHED_LAWS, Scale
from lrscale.recipe.experiments import Target
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.words import amount_text, interval_text, number

if TYPE_CHECKING:
    from lrscale.study.experiments.base import AbstractExperiment


def forecast_finding(
    experiment: AbstractExperiment,
    cells: Sequence[ForecastCell],
    *,
    target: Target | None,
    tokens_per_example: int | None,
    tolerance: float,
    training_examples: int | None,
    target_parameters: int | None,
    trial_ids: tuple[str, ...],
    monitor: str | None,
    wanted: int,
) -> Finding:
    """Return the finding of the experiment; without a target of known size and length the cells alone.

    Parameters
    ----------
    experiment : AbstractExperiment
        For its key and title.
    cells : sequence of ForecastCell
        Those with finished trials, horizons in examples.
    target : Target or None
        The recipe's.
    tokens_per_example : int or None
        Length of an example of the task, where its batches show one.
    tolerance : float
        Relative loss difference that the user calls equal.
    training_examples : int or None
        Examples of an epoch.
    target_parameters : int or None
        Parameters of the module that the target's factors make, where it names some.
    trial_ids : tuple of str
        The trials.
    monitor : str or None
        Name of the loss.
    wanted : int
        Cells that the recipe asks for.
    """
    data: dict[str, Any] = {
        "cells": [dataclasses.asdict(cell) for cell in cells],
        "tokens_per_example": tokens_per_example,
        "training_examples": training_examples,
        "target_parameters": target_parameters,
        "tolerance": tolerance,
        "monitor": monitor,
        "forecast": None,
        "published": [],
    }
    finding = Finding(
        key=experiment.key,
        title=experiment.title,
        status="cannot_tell",
        sentence=f"{len(cells)} of {wanted} cells have trials.",
        data=data,
        trial_ids=trial_ids,
        tables={"cells": tuple(run_rows(cells))},
    )
    place = None if target is None else target_place(target, training_examples, tokens_per_example, target_parameters)
    if place is None:
        sentence = (
            f"{len(cells)} cells are measured, and the target names no model size and length: set target.params, "
            "or target.factors, and target.horizon, or ask lrscale recommend --params N --horizon T."
        )
        return dataclasses.replace(finding, sentence=sentence, status="ok" if len(cells) > 1 else "cannot_tell")
    if not any(cell.finite.any() for cell in cells):
        return dataclasses.replace(finding, sentence="Every trial of every cell diverged or was lost.")
    batch = None if target is None or target.batch_size is None else float(target.batch_size)
    found = forecast(cells, params=place[0], horizon=place[1], batch=batch, tolerance=tolerance)
    rows = published_rows(found, tokens_per_example)
    return dataclasses.replace(
        finding,
        status="ok" if found.ok else "cannot_tell",
        sentence=sentence_of(found),
        numbers=numbers_of(found),
        tables={
            "families": tuple(family_rows(found)),
            "cells": tuple(optimum_rows(found)),
            "published": tuple(rows),
        },
        checks=tuple(_checks(found)),
        data={**data, "forecast": found.to_dict(), "published": rows},
    )


def target_place(
    target: Target,
    training_examples: int | None,
    tokens_per_example: float | None,
    target_parameters: int | None = None,
) -> tuple[float, float] | None:
    """Return (params, examples) of a target; None unless it names both.

    `target_parameters` is the size of the module that its factors make.
    """
    horizon, params = target.horizon, target.params
    if params is None and target.factors is not None and target_parameters is not None:
        params = float(target_parameters)
    if params is None or horizon is None:
        return None
    if horizon.unit == "examples":
        return params, float(horizon.value)
    if horizon.unit == "epochs" and training_examples:
        return params, float(horizon.value * training_examples)
    if horizon.unit == "tokens" and tokens_per_example:
        return params, horizon.value / tokens_per_example
    if horizon.unit == "steps" and target.batch_size is not None:
        return params, float(horizon.value * target.batch_size)
    return None


def read_cells(finding: Finding) -> list[ForecastCell]:
    """Return the cells that a finding carries."""
    return [
        ForecastCell(
            label=cell["label"],
            params=cell["params"],
            horizon=cell["horizon"],
            lr=tuple(cell["lr"]),
            batch=tuple(cell["batch"]),
            loss=tuple(cell["loss"]),
        )
        for cell in finding.data["cells"]
    ]


def sentence_of(found: Forecast) -> str:
    """Return the forecast as a sentence with its interval, its held-out miss and its scope; or the refusal."""
    where = f"At {amount_text(found.params)} parameters and {amount_text(found.horizon)} examples"
    if not found.ok or found.lr is None:
        return f"{found.reason} {found.needs}".strip()
    batch = ""
    if found.batch is not None:
        batch = f", the best batch {_with_interval(found.batch, found.confidence)}"
    elif found.fixed_batch is not None:
        batch = f" at batch {number(found.fixed_batch, 6)}"
    loss = (
        ""
        if found.loss is None
        else f", the loss {number(found.loss.value, 3)} ({number(found.loss.lo, 3)} to {number(found.loss.hi, 3)})"
    )
    lr = _with_interval(found.lr, found.confidence)
    return f"{where} the best peak LR is forecast at {lr}{batch}{loss}. {found.reason}"


def _with_interval(span: Span, confidence: float) -> str:
    return f"{number(span.value)} ({interval_text(span.lo, span.hi, confidence)})"


def numbers_of(found: Forecast) -> dict[str, Quantity]:
    """Return the forecast setting as numbers."""
    spans = {"lr": (found.lr, ""), "batch_size": (found.batch, "examples"), "loss": (found.loss, "")}
    return {
        name: Quantity(value=span.value, lo=span.lo, hi=span.hi, unit=unit, confidence=found.confidence)
        for name, (span, unit) in spans.items()
        if span is not None and found.ok
    }


def family_rows(found: Forecast) -> list[dict[str, Any]]:
    """Return a row a family: its setting, its miss on the largest cell, the chosen one marked."""
    return [
        {
            "family": one.family,
            "meaning": one.meaning,
            "chosen": one.family == found.family,
            **_columns("lr", one.lr),
            **_columns("batch", one.batch),
            "miss_cell": None if one.miss is None else one.miss.cell,
            "miss_lr": None if one.miss is None else one.miss.lr_factor,
            "miss_batch": None if one.miss is None else one.miss.batch_factor,
            "miss_regret": None if one.miss is None else one.miss.regret,
            "aicc": one.aicc,
            "reason": one.reason,
        }
        for one in found.families
    ]


def _columns(name: str, span: Span | None) -> dict[str, float | None]:
    value, lo, hi = (None, None, None) if span is None else (span.value, span.lo, span.hi)
    return {name: value, f"{name}_lo": lo, f"{name}_hi": hi}


def optimum_rows(found: Forecast) -> list[dict[str, Any]]:
    """Return a row a cell: its best setting."""
    return [
        {
            "cell": one.label,
            "params": one.params,
            "horizon": one.horizon,
            **_columns("lr", one.lr),
            **_columns("batch", one.batch),
            "loss": one.loss,
            "runs": one.n_runs,
        }
        for one in found.cells
    ]


def run_rows(cells: Sequence[ForecastCell]) -> list[dict[str, Any]]:
    """Return a row a cell before anything is fitted."""
    return [
        {"cell": cell.label, "params": cell.params, "horizon": cell.horizon, "runs": len(cell.lr)} for cell in cells
    ]


def published_rows(found: Forecast, tokens_per_example: float | None) -> list[dict[str, Any]]:
    """Return what each published law says of the target, batches in examples; comparisons, used for nothing.

    Laws count tokens: where an example's tokens are unknown they are silent and say so. A law without a factor of its
    own starts from the largest cell.
    """
    rows = []
    near = max(found.cells, key=lambda one: one.params * one.horizon, default=None)
    for name, law in PUBLISHED_LAWS.items():
        row: dict[str, Any] = {
            "law": name,
            "authors": law.authors,
            "arxiv": law.arxiv,
            "formula": law.formula,
            "counts": law.counts,
            "conventions": law.conventions,
            "lr": None,
            "batch": None,
            "outside": "",
            "silent": "how many tokens an example has is not known",
        }
        if tokens_per_example is not None:
            answer = law.answer(
                Scale(
                    params=found.params,
                    tokens=found.horizon * tokens_per_example,
                    loss=None if found.loss is None else found.loss.value,
                ),
                near=None if near is None else Scale(params=near.params, tokens=near.horizon * tokens_per_example),
                measured=_measured(near, tokens_per_example),
            )
            batch = answer.batch_tokens
            row |= {
                "lr": answer.lr,
                "batch": None if batch is None else batch / tokens_per_example,
                "outside": "; ".join(answer.outside),
                "silent": answer.silent,
            }
        rows.append(row)
    return rows


def _measured(near: CellOptimum | None, tokens_per_example: float) -> Mapping[str, float] | None:
    if near is None:
        return None
    own = {"lr": near.lr.value}
    return own if near.batch is None else {**own, "batch_tokens": near.batch.value * tokens_per_example}


def _checks(found: Forecast) -> list[Check]:
    checks = [Check(name="forecast", status="INFO", sentence=note) for note in found.notes]
    chosen = found.chosen
    if chosen is not None and chosen.miss is not None and not chosen.miss.inside:
        checks.append(
            Check(
                name="largest cell held out",
                status="WARNING",
                sentence=(
                    f"Held out, {chosen.miss.cell} had its best LR outside of the interval that the others gave it."
                ),
                remedy="read the interval of the forecast as too narrow, or add cells nearer to the target",
            )
        )
    return checks
