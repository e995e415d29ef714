"""``lrscale recommend``: the setting for a target, from the trials of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.forecast import print_own_forecast
from lrscale.cli.guard import DONE
from lrscale.cli.outputs import print_answer, summary
from lrscale.cli.study_access import open_study
from lrscale.cli.text import number, table, wrapped
from lrscale.errors import LrscaleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrscale.recommend import Recommendation

FORMATS = ("text", "yaml", "markdown", "cli")


def print_recommendation(path: Path, *, batch_size: int | None, horizon: str | None, format_name: str) -> int:
    """Recommend for a target and print it; nothing is written.

    Parameters
    ----------
    path : Path
        Study folder.
    batch_size : int or None
        Global batch size of the target; None for the recipe's own.
    horizon : str or None
        Length of the target, such as ``"50M examples"``; None for the recipe's own.
    format_name : {"text", "yaml", "markdown", "cli"}
        ``"cli"`` is a fragment of a LightningCLI config.

    Returns
    -------
    int
        0 with a recommendation, 1 with a refusal.

    Raises
    ------
    LrscaleError
        For an unknown format, a length without a unit, or a folder that is no study.
    """
    from lrscale.recommend import Recommendation, recommend
    from lrscale.units import Duration

    if format_name not in FORMATS:
        raise LrscaleError(f"--format {format_name} is unknown", hint=did_you_mean(format_name, FORMATS))
    length = None if horizon is None else Duration.parse(horizon)
    study = open_study(path)
    asked = study.recipe.experiments
    if length is None and asked.forecast is not None and asked.scaling is None and asked.schedules is None:
        # Cells of other models recommend nothing for the task as it stands; their target does have an answer.
        forecast = print_own_forecast(study, batch_size=batch_size, format_name=format_name)
        if forecast is not None:
            return forecast
    answer = recommend(study.recipe, study.view, study.findings(), batch_size=batch_size, horizon=length)
    if not isinstance(answer, Recommendation):
        return print_answer(answer)
    typer.echo(written(answer, format_name).rstrip("\n"))
    return DONE


def written(recommendation: Recommendation, format_name: str) -> str:
    """Return a recommendation in one of the formats."""
    from lrscale.recommend.plain import dump

    if format_name == "yaml":
        return dump(recommendation.to_dict())
    if format_name == "cli":
        return recommendation.lightning_cli_fragment()
    return recommendation.markdown() if format_name == "markdown" else text(recommendation)


def text(recommendation: Recommendation) -> str:
    """Return the setting, its range, the reasons and the alternatives as plain text."""
    one = recommendation
    reach = one.validity
    lines = [wrapped(line, indent="  ", first="") for line in summary(one)]
    bound = "" if reach.diverges_above is None else f"; training diverges above LR {number(reach.diverges_above)}"
    lines.append(
        wrapped(
            f"holds for batches of {_range(reach.batch_sizes)}, LRs of {_range(reach.learning_rates)} and "
            f"{reach.horizon_examples:,} examples{bound}",
            indent="  ",
            first="",
        )
    )
    lines += ["", "why:", *(wrapped(reason, indent="    ", first="  - ") for reason in one.reasons)]
    if one.alternatives:
        lines += ["", alternatives_table(one)]
    return "\n".join(lines)


def alternatives_table(recommendation: Recommendation) -> str:
    """Return the other batch sizes with their LR, loss and time beside the recommended one."""
    from lrscale.recommend.words import percent

    rows = [
        [
            str(other.batch_size),
            number(other.lr),
            number(other.loss, 4),
            "-" if other.relative_loss is None else percent(other.relative_loss),
            "-" if other.relative_seconds is None else percent(other.relative_seconds),
        ]
        for other in recommendation.alternatives
    ]
    return table(["batch", "peak LR", "loss", "loss against this", "time against this"], rows, right=[0, 1, 2, 3, 4])


def _range(ends: Sequence[float]) -> str:
    lo, hi = ends
    return number(lo, 4) if lo == hi else f"{number(lo, 4)} to {number(hi, 4)}"
