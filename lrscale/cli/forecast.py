"""``lrscale recommend STUDY --params N --horizon T``: a forecast for a larger model or a longer run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrscale.cli.guard import DONE
from lrscale.cli.outputs import print_answer
from lrscale.cli.study_access import open_study
from lrscale.cli.text import number, table, wrapped
from lrscale.errors import LrscaleError, did_you_mean
from lrscale.units import exact_number

if TYPE_CHECKING:
    from lrscale.cli.study_access import OpenStudy
    from lrscale.recommend import Refusal
    from lrscale.recommend.forecast import ForecastAnswer

FORMATS = ("text", "yaml")
_AMOUNT = re.compile(r"^\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kMBGT]?)\s*([a-z]*)\s*$")


def print_forecast(
    path: Path,
    *,
    params: str,
    horizon: str | None,
    unit: str | None,
    tokens_per_example: float | None,
    batch_size: int | None,
    format_name: str,
) -> int:
    """Forecast for a target and print it; nothing is written.

    Parameters
    ----------
    path : Path
        Study folder.
    params : str
        Parameters of the target's model, such as ``"1e9"`` or ``"1.3B"``.
    horizon : str or None
        Length of the target, such as ``"20B tokens"``, or a number with `unit`.
    unit : str or None
        ``"examples"`` or ``"tokens"``; None: that of `horizon`.
    tokens_per_example : float or None
        None: what the batches of the task showed.
    batch_size : int or None
        Global batch size of the target; None: the best one, as far as the cells reach it.
    format_name : {"text", "yaml"}

    Returns
    -------
    int
        0 with a forecast, 1 with a refusal.

    Raises
    ------
    LrscaleError
        For an unknown format, a number that cannot be read, or a folder that is no study.
    """
    from lrscale.recommend.forecast import forecast_target

    if format_name not in FORMATS:
        raise LrscaleError(f"--format {format_name} is unknown for a forecast", hint=did_you_mean(format_name, FORMATS))
    if horizon is None:
        raise LrscaleError(
            "a forecast needs a length beside --params", hint="give --horizon, such as 20e9 --unit tokens"
        )
    size, word = amount("--params", params)
    if word:
        raise LrscaleError(f"--params is a number of parameters, not {params}", hint="write for example 1e9")
    length, word = amount("--horizon", horizon)
    if word and unit and word.rstrip("s") != unit.rstrip("s"):
        raise LrscaleError(f"--horizon {horizon} and --unit {unit} differ", hint="keep one of them")
    chosen = unit or (f"{word.rstrip('s')}s" if word else "")
    if not chosen:
        raise LrscaleError(f"--horizon {horizon} has no unit", hint="add --unit tokens or --unit examples")
    answer = forecast_target(
        open_study(path).findings(),
        params=size,
        horizon=length,
        unit=chosen,
        tokens_per_example=tokens_per_example,
        batch_size=batch_size,
    )
    return _print(answer, format_name)


def print_own_forecast(study: OpenStudy, *, batch_size: int | None, format_name: str) -> int | None:
    """Print the forecast for the recipe's own target, and return 0 or 1; None where it names no size and length."""
    from lrscale.recommend.forecast import forecast_target
    from lrscale.recommend.measured import find
    from lrscale.study.forecast.answer import target_place

    findings = study.findings()
    finding = find(findings, "forecast")
    target = study.recipe.target
    if finding is None or target is None or format_name not in FORMATS:
        return None
    known = (finding.data.get(name) for name in ("training_examples", "tokens_per_example", "target_parameters"))
    place = target_place(target, *known)
    if place is None:
        return None
    size = batch_size or target.batch_size
    return _print(forecast_target(findings, params=place[0], horizon=place[1], batch_size=size), format_name)


def _print(answer: ForecastAnswer | Refusal, format_name: str) -> int:
    from lrscale.recommend.forecast import ForecastAnswer
    from lrscale.recommend.plain import dump

    if not isinstance(answer, ForecastAnswer):
        return print_answer(answer)
    typer.echo((dump(answer.to_dict()) if format_name == "yaml" else text(answer)).rstrip("\n"))
    return DONE


def amount(option: str, written: str) -> tuple[float, str]:
    """Return a number with its suffix resolved, and the word behind it.

    Examples
    --------
    >>> amount("--horizon", "20B tokens"), amount("--params", "1e9")
    ((20000000000.0, 'tokens'), (1000000000.0, ''))
    """
    match = _AMOUNT.match(written)
    if match is None:
        raise LrscaleError(f"{option} {written} is no number", hint="write for example 1e9 or 20B")
    digits, suffix, word = match.groups()
    return float(exact_number(digits, suffix)), word


def text(answer: ForecastAnswer) -> str:
    """Return the forecast, the families of laws, the cells and the published laws as plain text."""
    lines = [wrapped(answer.sentence, indent="  ", first="")]
    if answer.forecast.loss is None:
        lines.append(wrapped(f"loss: {answer.forecast.loss_reason}", indent="  ", first=""))
    lines += [wrapped(f"note: {note}", indent="  ", first="") for note in answer.forecast.notes]
    lines += [
        "",
        "by family of laws, and how far each missed the largest cell without seeing it:",
        families_table(answer.families),
    ]
    lines += ["", "published laws, as comparisons only:", published_table(answer.published)]
    lines += [
        wrapped(
            f"{row['authors']} (arXiv:{row['arxiv']}): {row['formula']}; {row['counts']}; {row['conventions']}",
            indent="  ",
            first="",
        )
        for row in answer.published
    ]
    if answer.tokens_per_example is None:
        lines.append(
            wrapped("Tokens per example are not known: give --tokens-per-example to compare.", indent="  ", first="")
        )
    else:
        lines.append(f"with {answer.tokens_per_example:g} tokens in an example, batches in examples")
    return "\n".join(lines)


def families_table(families: Iterable[Mapping[str, Any]]) -> str:
    """Return the forecasts of the families of laws as a table, the chosen one marked."""
    rows = [
        [
            f"{row['family']}{' *' if row['chosen'] else ''}",
            _range(row, "lr"),
            _range(row, "batch"),
            "-" if row["miss_lr"] is None else f"x {row['miss_lr']:.2f}",
            "-" if row["miss_regret"] is None else number(row["miss_regret"]),
        ]
        for row in families
    ]
    return table(["family", "peak LR", "batch", "LR missed by", "which costs"], rows, right=[3, 4])


def published_table(published: Iterable[Mapping[str, Any]]) -> str:
    """Return what published laws say as a table."""
    rows = [
        [
            row["authors"],
            "-" if row["lr"] is None else number(row["lr"]),
            "-" if row["batch"] is None else number(row["batch"]),
            "; ".join(filter(None, (row["outside"], row["silent"]))) or "inside its range",
        ]
        for row in published
    ]
    return table(["law", "peak LR", "batch", "note"], rows, right=[1, 2])


def _range(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "-"
    return f"{number(row[name])} ({number(row[f'{name}_lo'])} to {number(row[f'{name}_hi'])})"
