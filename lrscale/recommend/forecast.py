"""A forecast for a target that is named when a study is read, from the cells that it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.laws.forecast import Forecast, Span, forecast
from lrscale.recommend.measured import find
from lrscale.recommend.recommendation import Refusal
from lrscale.study.finding import Finding
from lrscale.study.forecast.answer import family_rows, optimum_rows, published_rows, read_cells, sentence_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastAnswer:
    """A forecast with what stands beside it."""

    sentence: str
    """The setting with its interval, the held-out miss and the scope."""
    forecast: Forecast
    families: tuple[Mapping[str, Any], ...]
    """A row a family of laws."""
    cells: tuple[Mapping[str, Any], ...]
    """A row a measured cell."""
    published: tuple[Mapping[str, Any], ...]
    """A row a published law, batches in examples."""
    tokens_per_example: float | None
    monitor: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file: the setting, its scope, and what stands beside it."""
        one = self.forecast
        return {
            "target": {"params": one.params, "horizon_examples": one.horizon},
            "lr": _span(one.lr),
            "global_batch_size": _span(one.batch),
            "fixed_batch_size": one.fixed_batch,
            "loss": _span(one.loss),
            "loss_law": one.loss_reason,
            "confidence": one.confidence,
            "monitor": self.monitor,
            "family": one.family,
            "sentence": self.sentence,
            "notes": list(one.notes),
            "families": [dict(row) for row in self.families],
            "cells": [dict(row) for row in self.cells],
            "published": [dict(row) for row in self.published],
            "tokens_per_example": self.tokens_per_example,
        }


def forecast_target(
    findings: Sequence[Finding],
    *,
    params: float,
    horizon: float,
    unit: str = "examples",
    tokens_per_example: float | None = None,
    batch_size: int | None = None,
) -> ForecastAnswer | Refusal:
    """Forecast the best LR, batch and loss for a target, in a study that ran the experiment `forecast`.

    Parameters
    ----------
    findings : sequence of Finding
        Of the study.
    params : float
        Parameters of the target's model, counted like those of the task.
    horizon : float
        Length of the target, in `unit`.
    unit : {"examples", "tokens"}, optional
        Defaults to ``"examples"``.
    tokens_per_example : float or None, optional
        Default None: what the batches of the task showed.
    batch_size : int or None, optional
        Global batch size of the target. Default None: the best one, as far as the cells reach it.

    Returns
    -------
    ForecastAnswer or Refusal
        A refusal where no cells were measured, the interval of the LR is useless, or tokens cannot be counted.

    Raises
    ------
    LrscaleError
        For an unknown unit, or a number that is not positive.
    """
    if unit not in ("examples", "tokens"):
        raise LrscaleError(f"--unit {unit} is unknown", hint="use examples or tokens")
    for name, value in (("params", params), ("horizon", horizon), ("tokens per example", tokens_per_example)):
        if value is not None and not value > 0:
            raise LrscaleError(f"{name} must be a positive number, not {value:g}", hint="write for example 1e9")
    finding = find(findings, "forecast")
    cells = [] if finding is None else read_cells(finding)
    if finding is None or not any(cell.finite.any() for cell in cells):
        return Refusal(
            sentence="No cells of several model sizes or horizons were measured.",
            needs="Add experiments.forecast with factors and horizons to the recipe, and run it.",
        )
    tokens = tokens_per_example or finding.data.get("tokens_per_example")
    if unit == "tokens" and not tokens:
        return Refusal(
            sentence="The horizon is in tokens, and nothing says how many tokens an example of this task has.",
            needs="Give --tokens-per-example, or the horizon in examples.",
        )
    examples = horizon / tokens if unit == "tokens" and tokens else horizon
    found = forecast(
        cells,
        params=params,
        horizon=examples,
        batch=None if batch_size is None else float(batch_size),
        tolerance=float(finding.data["tolerance"]),
    )
    if not found.ok:
        return Refusal(sentence=found.reason, needs=found.needs)
    return ForecastAnswer(
        sentence=sentence_of(found),
        forecast=found,
        families=tuple(family_rows(found)),
        cells=tuple(optimum_rows(found)),
        published=tuple(published_rows(found, tokens)),
        tokens_per_example=tokens,
        monitor=finding.data.get("monitor"),
    )


def _span(span: Span | None) -> dict[str, float] | None:
    return None if span is None else asdict(span)
