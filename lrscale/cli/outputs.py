"""What a study hands over: the recommendation file, the report, and the few lines that sum them up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrscale.cli.guard import DONE, NO
from lrscale.cli.text import count, interval, number, seconds, wrapped
from lrscale.schedules import SCHEDULER, schedule_label
from lrscale.study.words import loss_digits

if TYPE_CHECKING:
    from lrscale.cli.study_access import OpenStudy
    from lrscale.recommend import Recommendation, Refusal
    from lrscale.study.finding import Finding

RECOMMENDATION = "recommendation.yaml"


def write_recommendation(study: OpenStudy, findings: tuple[Finding, ...]) -> Recommendation | Refusal:
    """Recommend for the recipe's own target, and file the answer.

    A refusal takes the place of an earlier recommendation: a file that the trials no longer carry would be believed.
    """
    from lrscale.recommend import Recommendation, recommend

    answer = recommend(study.recipe, study.view, findings)
    path = study.folder.path / RECOMMENDATION
    if isinstance(answer, Recommendation):
        answer.save(path)
    else:
        path.unlink(missing_ok=True)
    return answer


def write_page(study: OpenStudy, findings: tuple[Finding, ...], answer: Recommendation | Refusal) -> Path:
    """Write the report and return its path."""
    from lrscale.report import write_report

    return write_report(study.folder, view=study.view, findings=findings, recommendation=answer)


def open_page(page: Path) -> None:
    """Open a report in the browser, or say where it is when none can be started."""
    import webbrowser

    address = page.resolve().as_uri()
    if not webbrowser.open(address):
        typer.echo(f"no browser could be started here; open {address}", err=True)


def print_answer(answer: Recommendation | Refusal) -> int:
    """Print the recommendation in three lines, or why there is none, and return 0 or 1."""
    from lrscale.recommend import Recommendation

    if isinstance(answer, Recommendation):
        for line in summary(answer):
            typer.echo(wrapped(line, indent="  ", first=""))
        return DONE
    typer.echo(wrapped(f"no recommendation: {answer.sentence}", indent="  ", first=""))
    typer.echo(wrapped(f"what it would take: {answer.needs}", indent="  ", first=""))
    return NO


def summary(recommendation: Recommendation) -> list[str]:
    """Return the recommendation in three lines: the rate, the layout, and how sure it is."""
    one = recommendation
    schedule = one.schedule
    name = schedule_label(schedule.name, schedule.settings) if schedule.name == SCHEDULER else schedule.name
    warmup = f" after {count(schedule.warmup_steps, 'warm-up step')}" if schedule.warmup_steps else ""
    rate = interval(one.lr.value, one.lr.lo, one.lr.hi, one.lr.confidence)
    loss = one.expected_loss
    digits = loss_digits(loss.value, loss.lo, loss.hi)
    expected = (
        f"{one.monitor} at the end: not measured"
        if loss.value is None
        else f"expected {one.monitor} {interval(loss.value, loss.lo, loss.hi, loss.confidence, digits=digits)}"
    )
    about = "" if one.expected_seconds is None else f"about {seconds(one.expected_seconds.value)}"
    time = about and (f" in {about}" if loss.value is not None else f", {about} of training")
    nodes = f" x {one.num_nodes} nodes" if one.num_nodes > 1 else ""
    own = " (the module's own)" if schedule.name == "module" else ""
    lowest, highest = (number(end) for end in one.equivalent_lr)
    as_good = "" if lowest == highest else f"; LRs of {lowest} to {highest} are as good"
    return [
        f"peak LR {rate}, {name} schedule{own}{warmup}{as_good}",
        f"global batch {one.global_batch_size} = {one.per_device_batch_size} per device x "
        f"{one.accumulate_grad_batches} accumulated x {count(one.devices, 'device')}{nodes}, for "
        f"{count(one.horizon_steps, 'step')} ({count(one.horizon_examples, 'example')})",
        f"{expected}{time}; confidence: {one.confidence}",
    ]
