"""Whether the answer of a search can be relied on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lrscale.study.cells import failure_checks
from lrscale.study.finding import Check
from lrscale.study.planner import Choice
from lrscale.study.search.confirming import Conclusion, Confirmation
from lrscale.study.search.course import Setting
from lrscale.study.search.stopping import Stopping
from lrscale.study.words import number

TELLING = 0.75
"""Share of the pairs in the same order from which on an early loss tells the late one: halfway from chance to surely.
Stopped trials are not among them, and among the best ones that are left the order is the hardest to tell."""

PATIENCE = {"survivors": "decayed", "predicted": "deviations"}
"""Setting of a rule that lets trials run longer, where it is not called ``first``."""


def search_checks(conclusion: Conclusion, choice: Choice | None) -> Iterator[Check]:
    """Yield the checks of a search, of which those on the setting need one."""
    if choice is not None:
        yield from _inside(conclusion, choice)
        yield from _batch_end(conclusion, choice)
        yield _enough(conclusion, choice)
        yield from _tolerated(conclusion, choice)
        yield _noise(conclusion, choice)
    if conclusion.confirmed is not None:
        yield _confirmed(conclusion, conclusion.confirmed)
        yield from _predicted(conclusion.confirmed)
    elif choice is not None:
        yield Check(
            name="search confirmed",
            status="INFO",
            sentence="No fresh seed has confirmed the setting.",
            remedy="set experiments.search.confirm: {seeds: 2}"
            if conclusion.course.setup.fresh_seeds == 0
            else "run the study again, with a larger budget if it has one",
        )
    yield from _failed(conclusion)
    yield from _stopped(conclusion)


def _inside(conclusion: Conclusion, choice: Choice) -> Iterator[Check]:
    ladder = conclusion.course.question.ladder
    if len(ladder.lrs) == 1:
        yield Check(
            name="search inside",
            status="INFO",
            sentence=f"LR {number(ladder.lrs[0])} is the only one allowed: nothing says whether another one is better.",
            remedy="widen experiments.search.learning_rates",
        )
        return
    first, last = ladder.lrs[0], ladder.lrs[-1]
    if conclusion.course.end(choice) is None:
        sentence = f"LR {number(choice.lr)} lies inside of those searched, {number(first)} to {number(last)}."
        yield Check(name="search inside", status="PASS", sentence=sentence)
        return
    sentence = f"LR {number(choice.lr)} is at the end of those searched, {number(first)} to {number(last)}."
    grows = conclusion.course.extends and not ladder.bound
    remedy = "raise experiments.search.trials" if grows else "widen experiments.search.learning_rates"
    yield Check(name="search inside", status="WARNING", sentence=sentence, remedy=remedy)


def _batch_end(conclusion: Conclusion, choice: Choice) -> Iterator[Check]:
    sizes = conclusion.course.setup.batch_sizes
    if len(sizes) > 1 and choice.batch_size in (sizes[0], sizes[-1]):
        which = "smallest" if choice.batch_size == sizes[0] else "largest"
        yield Check(
            name="search batch",
            status="INFO",
            sentence=f"Batch {int(choice.batch_size)} is the {which} of those searched; beyond it may be better.",
            remedy="add one to experiments.search.batch_sizes",
        )


def _enough(conclusion: Conclusion, choice: Choice) -> Check:
    setup = conclusion.course.setup
    allowed = setup.tolerance * abs(choice.loss)
    told = f"The named setting is expected to cost {number(choice.regret)}, and {number(allowed)} does not matter"
    if choice.regret <= allowed:
        return Check(name="search length", status="PASS", sentence=f"{told}.")
    if conclusion.course.ended == "open":
        return Check(
            name="search length",
            status="WARNING",
            sentence=f"{told}; the search has not ended.",
            remedy="run the study again, with a larger budget if it has one",
        )
    if conclusion.course.ended == "sure":
        # The trials that were to end it early said less than the fresh seeds say now.
        return Check(
            name="search length",
            status="INFO",
            sentence=f"{told}; before the confirmation it looked like less, and the search ended early.",
            remedy="lower experiments.search.tolerance",
        )
    return Check(
        name="search length",
        status="WARNING",
        sentence=f"{told}: more trials would find a better one.",
        remedy=f"raise experiments.search.trials above {len(conclusion.course.wanted)}",
    )


def _tolerated(conclusion: Conclusion, choice: Choice) -> Iterator[Check]:
    course = conclusion.course
    allowed = course.setup.tolerance * abs(choice.loss)
    if 0 < course.spread <= allowed:
        yield Check(
            name="search tolerance",
            status="WARNING",
            sentence=f"The losses of all settings differ by {number(course.spread)}, and {number(allowed)}, "
            f"{100 * course.setup.tolerance:g} % of the loss, counts as equal: either LR and batch size hardly matter "
            "within this horizon, or the loss has a constant in it.",
            remedy="take a constant out of the monitored loss, or lower experiments.search.tolerance to "
            f"{number(course.setup.tolerance * course.spread / abs(choice.loss))}",
        )


def _noise(conclusion: Conclusion, choice: Choice) -> Check:
    allowed = conclusion.course.setup.tolerance * abs(choice.loss)
    told = f"A run varies by {number(choice.sigma)} (standard deviation), as far as the runs tell"
    if choice.smoothed:
        return Check(
            name="search noise",
            status="WARNING",
            sentence=f"{told}: the noise decides between settings, and the loss "
            "expected of them counts more than the measured one.",
            remedy="raise experiments.search.trials, or lengthen the horizon",
        )
    return Check(name="search noise", status="PASS" if choice.sigma <= allowed else "INFO", sentence=f"{told}.")


def _confirmed(conclusion: Conclusion, confirmed: Confirmation) -> Check:
    name = "search confirmed"
    if not confirmed.is_complete:
        return Check(
            name=name,
            status="WARNING",
            sentence=f"{len(confirmed.trials)} of {len(confirmed.specs)} trials of the confirmation are there.",
            remedy="run the study again, with a larger budget if it has one",
        )
    means = {one: mean for one in confirmed.settings if (mean := confirmed.mean(one)) is not None}
    named, final = confirmed.named, conclusion.advice.named
    if named not in means or not math.isfinite(means[named]):
        return Check(
            name=name,
            status="FAIL",
            sentence=f"{_text(named)} gave no loss under a fresh seed.",
            remedy="take a lower LR, or look at the log of that trial",
        )
    if final not in means:
        return Check(
            name=name,
            status="WARNING",
            sentence=f"From all runs {_text(final)} is named in place of {_text(named)}; no fresh seed trained it.",
            remedy="raise experiments.search.trials",
        )
    best = min(means, key=lambda one: means[one])
    behind, allowed = means[final] - means[best], conclusion.course.setup.tolerance * abs(means[named])
    if final == named and behind <= allowed:
        return Check(
            name=name,
            status="PASS",
            sentence=f"Under fresh seeds no neighbour of {_text(named)} is better by more than {number(allowed)}.",
        )
    if final != named:
        sentence = (
            f"The fresh seeds moved the name from {_text(named)} to {_text(final)}; under them it is better by "
            f"{number(means[named] - means[final])}."
        )
        return Check(name=name, status="INFO", sentence=sentence)
    return Check(
        name=name,
        status="WARNING",
        sentence=f"Under fresh seeds {_text(best)} is better than {_text(named)} by {number(behind)}.",
        remedy="the seeds before say otherwise: raise experiments.search.confirm.seeds",
    )


def _text(setting: Setting) -> str:
    return f"LR {number(setting[0])} at batch {setting[1]}"


def _predicted(confirmed: Confirmation) -> Iterator[Check]:
    agrees, mean = confirmed.agrees(), confirmed.mean(confirmed.named)
    if agrees is None or mean is None:
        return
    told = f"Predicted {number(confirmed.choice.loss, 4)}, and fresh seeds give {number(mean, 4)}"
    if agrees:
        sentence = f"{told}: within what the seeds let it vary."
        yield Check(name="search prediction", status="PASS", sentence=sentence)
    else:
        yield Check(
            name="search prediction",
            status="WARNING",
            sentence=f"{told}, further apart than the prediction and the seeds allow.",
            remedy="raise experiments.search.confirm.seeds",
        )


def _failed(conclusion: Conclusion) -> Iterator[Check]:
    course = conclusion.course
    yield from failure_checks("search trials ran", course.failed, len(course.trials))


def _stopped(conclusion: Conclusion) -> Iterator[Check]:
    course = conclusion.course
    stopping = Stopping.of(course)
    if course.stopper is not None and len(course.finite) > 1 and not any(course.losses.values()):
        yield Check(
            name="search stopping",
            status="WARNING",
            sentence=f"No trial could be stopped by {course.stopper}: the task validates nothing along the way.",
            remedy="add validation data to the task, or set pruner: none",
        )
    if stopping is None:
        return
    saved = f"which saved {stopping.saved:,} examples ({100 * stopping.share_saved:.0f} %)"
    if stopping.saved < 0:
        saved = f"and trained again to their horizons, {-stopping.saved:,} examples twice"
    told = f"{stopping.stopped} of {stopping.trials} trials were stopped early, {saved}"
    if stopping.agreement is None:
        sentence = f"{told}; too few trained to their horizon to tell whether early losses told the late ones."
        yield Check(name="search stopping", status="INFO", sentence=sentence)
        return
    first = min(stopping.places)
    sentence = (
        f"{told}. Of two trials that were not, the better one at {100 * first:.0f} % of the horizon ended better in "
        f"{100 * stopping.agreement:.0f} % of the pairs."
    )
    if stopping.agreement >= TELLING:
        yield Check(name="search stopping", status="PASS", sentence=sentence)
    else:
        yield Check(
            name="search stopping",
            status="WARNING",
            sentence=f"{sentence} A stopped trial may well have ended best.",
            remedy=f"raise `{PATIENCE.get(str(course.stopper), 'first')}` in the pruner's settings, so "
            "that trials run longer before it, or set pruner: none",
        )
