"""What measured noise scales say: the sentence, the numbers, the tables and the caveats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lrscale.laws.noise_scale import NoiseScale
from lrscale.store import Trial
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.noise_scale.cells import INSTRUMENT, NoiseScaleCell, measurement
from lrscale.study.noise_scale.growth import batch_growth
from lrscale.study.words import interval_text, number

KEY, TITLE = "noise_scale", "Gradient noise scale"
ROUGH = 0.3
"""Relative standard error of a first guess, whose steps are named where only a lower bound is known."""


def noise_scale_finding(
    cells: Sequence[NoiseScaleCell],
    chosen: Mapping[int, NoiseScaleCell],
    *,
    headline: int | None,
    best_lrs: Mapping[int, float | None],
    precision: float,
    trials: Iterable[Trial],
) -> Finding:
    """Return the finding.

    Parameters
    ----------
    cells : sequence of NoiseScaleCell
        Everything that was measured.
    chosen : mapping of int to NoiseScaleCell
        By batch size, the ones that stand for it.
    headline : int or None
        Batch size of the sentence; None when nothing was measured.
    best_lrs : mapping of int to float or None
        Best peak LR by batch size, where it is known.
    precision : float
        Relative standard error to name the necessary steps for.
    trials : iterable of Trial
        All finished trials, for the reason where nothing was measured.
    """
    if headline is None:
        reason = _why_nothing(trials)
        return Finding(
            key=KEY,
            title=TITLE,
            status="cannot_tell",
            sentence=f"The noise scale was not measured: {reason}.",
            data={"cells": [], "headline": None},
        )
    cell = chosen[headline]
    rows = [_row(one, best_lrs.get(one.batch_size)) for one in chosen.values()]
    return Finding(
        key=KEY,
        title=TITLE,
        status="ok" if cell.total.ok else "cannot_tell",
        sentence=_sentence(cell, chosen),
        numbers=dict(_numbers(cell, precision)),
        tables={
            "batch_sizes": tuple(rows),
            "groups": tuple(_group_rows(chosen.values())),
            "temperature": tuple(_row(one, best_lrs.get(one.batch_size)) for one in _compared(cells, chosen)),
        },
        checks=tuple(_checks(cells, chosen, headline, precision)),
        data={
            "cells": [one.to_dict() for one in chosen.values()],
            "headline": headline,
            "precision": precision,
            "batch_schedule": batch_growth(cell.course, batch_size=headline, horizon=cell.horizon),
        },
        trial_ids=tuple(dict.fromkeys(trial.trial_id for one in chosen.values() for trial in one.trials)),
    )


def _sentence(cell: NoiseScaleCell, chosen: Mapping[int, NoiseScaleCell]) -> str:
    scope = (
        f"second half of {_plural(len(cell.trials), 'run')} of {cell.horizon:,} steps, {cell.schedule} schedule, "
        f"peak LR {number(cell.lr)}"
    )
    text = f"At batch {cell.batch_size:,} the gradient noise scale is {_said(cell.total, scope)}"
    others = [one for size, one in chosen.items() if size != cell.batch_size]
    if others:
        text += "; " + ", ".join(f"{_short(one.total)} at batch {one.batch_size:,}" for one in others)
    text += ". It is a noise-scale proxy for the critical batch size, for a first guess and for trends."
    known = [one for one in cell.course if one.value is not None]
    if len(known) > 1 and _apart(known[0], known[-1]):
        text += f" Along training it goes from {number(known[0].value)} to {number(known[-1].value)}."
    own = cell.preconditioned
    if own.ok or own.status.value == "lower_bound":
        text += f" Divided as Adam divides it, it is {_short(own)}."
    return text


def _apart(one: NoiseScale, other: NoiseScale) -> bool:
    """Whether the intervals of two numbers have nothing in common."""
    first, second = one.interval, other.interval
    if first is None or second is None:
        return False
    if first.lo is None or first.hi is None or second.lo is None or second.hi is None:
        return False
    return first.hi < second.lo or second.hi < first.lo


def _said(one: NoiseScale, scope: str) -> str:
    assert one.interval is not None
    lo, hi, confidence = one.interval.lo, one.interval.hi, one.interval.confidence
    if one.value is None:
        return f"at least {number(lo)} examples ({100 * confidence:g} %; {scope}): the gradient is not resolved"
    return f"{number(one.value)} examples ({interval_text(lo, hi, confidence)}; {scope})"


def _short(one: NoiseScale) -> str:
    if one.value is not None:
        return number(one.value)
    return "unknown" if one.interval is None else f"at least {number(one.interval.lo)}"


def _numbers(cell: NoiseScaleCell, precision: float) -> Iterator[tuple[str, Quantity]]:
    for name, one in (("noise_scale", cell.total), ("preconditioned_noise_scale", cell.preconditioned)):
        if one.interval is not None:
            interval = one.interval
            yield (
                name,
                Quantity(
                    value=one.value, lo=interval.lo, hi=interval.hi, unit="examples", confidence=interval.confidence
                ),
            )
    needed = cell.total.steps_needed(precision)
    if needed is not None:
        yield "steps_needed", Quantity(value=float(needed), unit="steps")


def _row(cell: NoiseScaleCell, best_lr: float | None) -> dict[str, Any]:
    total, own = cell.total, cell.preconditioned
    return {
        "batch_size": cell.batch_size,
        "lr": cell.lr,
        "best_lr": best_lr,
        "temperature": cell.lr / cell.batch_size,
        "schedule": cell.schedule,
        "horizon": cell.horizon,
        "trials": len(cell.trials),
        "measured_steps": total.steps,
        "micro_gradients": total.micro_gradients,
        **_columns("", total),
        **_columns("whole_", cell.whole),
        **_columns("adam_", own),
        "status": total.status.value,
        "own": cell.own,
    }


def _columns(prefix: str, one: NoiseScale) -> dict[str, Any]:
    return {
        f"{prefix}noise_scale": one.value,
        f"{prefix}lo": None if one.interval is None else one.interval.lo,
        f"{prefix}hi": None if one.interval is None else one.interval.hi,
    }


def _group_rows(cells: Iterable[NoiseScaleCell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        for name, one in {"all": cell.total, **cell.groups}.items():
            own = cell.preconditioned if name == "all" else cell.preconditioned_groups.get(name)
            yield {
                "batch_size": cell.batch_size,
                "group": name,
                **_columns("", one),
                "squared_gradient": one.squared_gradient,
                "noise_trace": one.noise_trace,
                "adam_noise_scale": None if own is None else own.value,
                "adam_lo": None if own is None or own.interval is None else own.interval.lo,
                "adam_hi": None if own is None or own.interval is None else own.interval.hi,
                "status": one.status.value,
            }


def _compared(cells: Sequence[NoiseScaleCell], chosen: Mapping[int, NoiseScaleCell]) -> list[NoiseScaleCell]:
    """Return the cells that differ from a chosen one in nothing but the LR, with it."""
    return [
        cell
        for cell in cells
        if cell.batch_size in chosen
        and (cell.schedule, cell.horizon, cell.own)
        == (chosen[cell.batch_size].schedule, chosen[cell.batch_size].horizon, chosen[cell.batch_size].own)
    ]


def _checks(
    cells: Sequence[NoiseScaleCell], chosen: Mapping[int, NoiseScaleCell], headline: int, precision: float
) -> Iterator[Check]:
    for size, cell in chosen.items():
        name = f"gradient resolved at batch {size}"
        if cell.total.ok:
            yield Check(name=name, status="PASS", sentence=f"{cell.total.reason}.")
            continue
        longer = _longer(cell.total)
        yield Check(
            name=name,
            status="WARNING",
            sentence=f"Only a lower bound is known: {cell.total.reason}.",
            remedy=f"measure at a larger batch size (experiments.noise_scale.batch_sizes), or longer{longer}",
        )
    cell = chosen[headline]
    needed = cell.total.steps_needed(precision)
    if needed is not None and cell.total.ok:
        yield Check(
            name="steps for the precision asked",
            status="INFO",
            sentence=(
                f"At batch {headline} a standard error of {100 * precision:g} % takes {_rounded(needed)} measured "
                f"steps; these were {cell.total.steps:,}."
            ),
        )
    yield Check(
        name="noise scale is a proxy",
        status="INFO",
        sentence=(
            "The noise scale is not the critical batch size: under Adam it has been seen orders of magnitude below it "
            "and with another trend (Merrill et al. 2025, arXiv:2505.23971). No recommendation is made of it."
        ),
    )
    yield Check(name="noise scale moves with the LR", status="INFO", sentence=_temperature(cells, chosen, headline))


def _longer(one: NoiseScale) -> str:
    """Return how many measured steps would resolve the gradient, as the end of a sentence."""
    gradient, error = one.squared_gradient, one.squared_gradient_se
    if gradient is None or error is None:
        return ""
    if gradient > 0:
        # At the estimate itself, which may be off by its own error.
        return f", to about {_rounded(math.ceil(one.steps * (error / gradient / ROUGH) ** 2))} measured steps"
    steps = one.steps_needed(ROUGH)
    return "" if steps is None else f", to {_rounded(max(steps, one.steps))} measured steps or more"


def _temperature(cells: Sequence[NoiseScaleCell], chosen: Mapping[int, NoiseScaleCell], headline: int) -> str:
    cell = chosen[headline]
    text = (
        f"It was measured at LR / batch = {number(cell.lr / cell.batch_size)} and holds there alone. Where training "
        "has settled, a smaller ratio gives a larger noise scale, because training gets closer to where the gradient "
        "vanishes; a learning rate too small to get there leaves it at its low start"
    )
    here = sorted(
        (one for one in _compared(cells, chosen) if one.batch_size == headline and one.total.ok),
        key=lambda one: one.lr,
    )
    if len(here) > 1:
        ends = here[0], here[-1]
        text += f"; at batch {headline} it was " + " and ".join(
            f"{number(one.total.value)} at LR {number(one.lr)}" for one in ends
        )
    return text + "."


def _why_nothing(trials: Iterable[Trial]) -> str:
    reasons: dict[str, None] = {}
    for trial in trials:
        run = measurement(trial)
        if run is not None:
            reasons[run.whole.total.reason] = None
    if reasons:
        return next(iter(reasons))
    return f"no finished trial carried the instrument (instruments.{INSTRUMENT})"


def _rounded(steps: int) -> str:
    return number(float(steps))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
