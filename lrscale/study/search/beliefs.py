"""What a search believes of the best setting before its first trial, and where it has that from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.laws.published import PUBLISHED_LAWS, Scale
from lrscale.study.experiments.base import Context
from lrscale.study.experiments.scaling import confirmed_lr
from lrscale.study.finding import Check
from lrscale.study.noise_scale.cells import nearest_cells, noise_scale_cells
from lrscale.study.planner import Belief
from lrscale.study.words import number

CONFIRMED_FACTOR = 2.0
"""One standard deviation of the best LR about the confirmed one, which is that of short runs at constant LR."""
RULE_SD = 0.25
"""Standard deviation of the exponent by which an LR is carried to another batch size, about the square-root rule: the
prior of the planner has it between 0.2 and 1."""
NOISE_SHARE, NOISE_FACTOR = 1 / 3, 4.0
"""Best batch size at equal examples against the gradient noise scale of the range test's runs, and one standard
deviation of that. Above the noise scale a step gains little by more examples; below it small batches cost nothing, so
that the best one lies below, nobody knows how far. On `digits` and `byte-gpt` it is a quarter and four fifths."""
APART = 3.0
"""Standard deviations of their difference from which on a published LR is left out beside a confirmed one."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A number expected from elsewhere, with one standard deviation as a factor."""

    source: str
    value: float
    factor: float

    @property
    def sd(self) -> float:
        """Standard deviation of the natural logarithm."""
        return math.log(self.factor)

    def text(self) -> str:
        """Return it in words."""
        return f"{number(self.value)} by {self.source} (one standard deviation: a factor of {number(self.factor)})"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A belief, and what it was put together from."""

    belief: Belief
    lrs: tuple[Guess, ...] = ()
    """Of the best LR, at the batch size of the belief."""
    batches: tuple[Guess, ...] = ()
    """Of the best batch size."""
    warnings: tuple[Check, ...] = ()

    def checks(self) -> list[Check]:
        """Return what was believed, and what a published law that was named could not give."""
        parts = []
        if self.lrs:
            at = "" if self.belief.batch_size is None else f" at batch {number(self.belief.batch_size, 3)}"
            parts.append(f"the best LR{at} near " + " and ".join(one.text() for one in self.lrs))
        if self.batches:
            parts.append("the best batch size near " + " and ".join(one.text() for one in self.batches))
        told = [
            Check(
                name="search prior",
                status="INFO",
                sentence=f"Before its first trial the planner expected {'; '.join(parts)}. A fifth of its basins doubt "
                "it.",
            )
        ] * bool(parts)
        return [*told, *self.warnings]


def believed(context: Context, *, middle: int, mean_factor: float, examples: int) -> Believed:
    """Return what is known of the best setting: by the range test, its runs' noise scale, and a published law if named.

    Each is normal in logarithms. Those of one number are multiplied: their mean is weighed by precision. The LR holds
    at the best batch size expected, to which the square-root rule carries it, the wider the farther.

    Parameters
    ----------
    context : Context
    middle : int
        Batch size that an LR refers to where no best one is expected.
    mean_factor : float
        Mean of the schedule's factor, which the confirmed LR of a constant schedule is divided by.
    examples : int
        Horizon.
    """
    noise = _noise_scale(context)
    law_lr, law_batch, warnings = _published(context, examples)
    batches = [one for one in (noise, law_batch) if one is not None]
    best = _product(batches)
    at = best.value if best is not None else float(middle)
    lrs = []
    confirmed = confirmed_lr(context, middle, mean_factor)
    if confirmed is not None:
        guess = Guess(source="the range test", value=confirmed, factor=CONFIRMED_FACTOR)
        lrs.append(_carried(guess, middle, at))
    if law_lr is not None:
        own = _carried(law_lr, law_batch.value if law_batch is not None else at, at)
        away = [abs(math.log(own.value / one.value)) / math.hypot(own.sd, one.sd) for one in lrs]
        if max(away, default=0.0) > APART:
            warnings = [*warnings, _contradicted(own, lrs[0])]
        else:
            lrs.append(own)
    lr = _product(lrs)
    return Believed(
        belief=Belief(
            lr=None if lr is None else lr.value,
            lr_factor=CONFIRMED_FACTOR if lr is None else lr.factor,
            batch_size=at if lr is not None or best is not None else None,
            best_batch_factor=None if best is None else best.factor,
        ),
        lrs=tuple(lrs),
        batches=tuple(batches),
        warnings=tuple(warnings),
    )


def _product(guesses: Sequence[Guess]) -> Guess | None:
    """Return the product of normals in logarithms."""
    if len(guesses) < 2:
        return guesses[0] if guesses else None
    precisions = [1 / one.sd**2 for one in guesses]
    whole = sum(precisions)
    mean = sum(weight * math.log(one.value) for weight, one in zip(precisions, guesses, strict=True)) / whole
    return Guess(
        source=", ".join(one.source for one in guesses), value=math.exp(mean), factor=math.exp(1 / math.sqrt(whole))
    )


def _carried(guess: Guess, size: float, to: float) -> Guess:
    away = math.log(to / size)
    return Guess(
        source=guess.source,
        value=guess.value * math.exp(away / 2),
        factor=math.exp(math.hypot(guess.sd, RULE_SD * away)),
    )


def _noise_scale(context: Context) -> Guess | None:
    """Return the best batch size that the runs of the range test speak of.

    Of those alone: they are all there before the search begins, so that what it asks for does not change under way.
    """
    finding = context.findings.get("range_test")
    if finding is None:
        return None
    trials = [context.view.trials[one] for one in finding.trial_ids if one in context.view.trials]
    confirmed = {
        int(member["batch_size"]): member["confirmation"]["lr"]
        for member in finding.data.get("family", ())
        if member["confirmation"] is not None
    }
    cells = nearest_cells(noise_scale_cells(trials), confirmed, None)
    known = [one.total.value for one in cells.values() if one.total.ok and one.total.value]
    if not known:
        return None
    middle = sorted(known)[(len(known) - 1) // 2]
    return Guess(source="the noise scale of the range test's runs", value=NOISE_SHARE * middle, factor=NOISE_FACTOR)


def _published(context: Context, examples: int) -> tuple[Guess | None, Guess | None, list[Check]]:
    """Return the LR and the batch size that a published law gives for this model and horizon, and why it does not."""
    settings = context.recipe.experiments.search
    prior = None if settings is None else settings.prior
    if prior is None:
        return None, None, []
    law = PUBLISHED_LAWS[prior.law]
    facts = context.facts
    tokens = prior.tokens_per_example or facts.get("sequence_length")
    params = int(facts.get("parameters") or 0) - int(facts.get("embedding_parameters") or 0)
    if not tokens or params <= 0:
        missing = "how many tokens an example has" if params > 0 else "how many parameters the module has"
        return (
            None,
            None,
            [
                Check(
                    name="search prior",
                    status="WARNING",
                    sentence=f"{law.authors} is no prior here: it counts tokens and parameters, and nothing says "
                    f"{missing}.",
                    remedy="set experiments.search.prior.tokens_per_example, or leave the prior out",
                )
            ],
        )
    answer = law.answer(Scale(params=float(params), tokens=float(tokens * examples)))
    source = f"{law.authors} (arXiv:{law.arxiv})"
    lr = None if answer.lr is None else Guess(source=source, value=answer.lr, factor=prior.factor)
    batch = None
    if answer.batch_tokens is not None:
        batch = Guess(source=source, value=answer.batch_tokens / tokens, factor=prior.factor)
    outside = [
        Check(
            name="search prior",
            status="WARNING",
            sentence=f"{law.authors} is outside of what it was fitted on: {'; '.join(answer.outside)}.",
            remedy="raise experiments.search.prior.factor, or leave the prior out",
        )
    ] * bool(answer.outside)
    return lr, batch, outside


def _contradicted(law: Guess, measured: Guess) -> Check:
    return Check(
        name="search prior",
        status="WARNING",
        sentence=f"The published law was left out: LR {law.text()} against {measured.text()}.",
        remedy="leave experiments.search.prior out, or see whether the law's units and schedule are those of the task",
    )
