"""Rules of thumb: whether what is said of learning rates and batch sizes is true of this model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.claim import ClaimVerdict, holm
from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Finding, Quantity
from lrscale.study.rules import RULES
from lrscale.study.rules.base import row
from lrscale.study.rules.evidence import Evidence

VERDICTS: tuple[ClaimVerdict, ...] = ("holds", "does not hold", "cannot tell")
CONFIDENCE = 0.95


@final
class Rules(AbstractExperiment):
    """Judges rules of thumb by what the other experiments have left; it trains nothing."""

    key: ClassVar[str] = "rules"
    title: ClassVar[str] = "Rules of thumb"
    question: ClassVar[str] = "Do the rules of thumb hold on this model?"
    importance: ClassVar[int] = 90

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.rules is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        del context
        return []

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def analyse(self, context: Context) -> Finding:
        settings = context.recipe.experiments.rules
        assert settings is not None
        evidence = Evidence(context, settings.margin)
        rulings = {rule.key: rule.judge(evidence) for rule in RULES.values()}
        tested = {key: one.claim.p_value for key, one in rulings.items() if one.claim is not None}
        jointly = {key for key, p_value in holm(tested).items() if p_value < 1 - CONFIDENCE}
        told = {key for key, one in rulings.items() if one.verdict != "cannot tell"}
        rows = tuple(row(rule, rulings[rule.key], rule.key in told & jointly) for rule in RULES.values())
        return Finding(
            key=self.key,
            title=self.title,
            status="ok" if told else "cannot_tell",
            sentence=_sentence(rows),
            numbers={
                str(one["rule"]): Quantity(value=one["value"], lo=one["lo"], hi=one["hi"], unit=str(one["unit"]))
                for one in rows
                if one["value"] is not None
            },
            tables={"rules": rows},
            data={"rules": [dict(one) for one in rows], "margin": settings.margin},
        )


def _sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    counts = {verdict: sum(one["verdict"] == verdict for one in rows) for verdict in VERDICTS}
    told = counts["holds"] + counts["does not hold"]
    if not told:
        return f"None of {len(rows)} rules of thumb can be told from the trials of this study."
    jointly = sum(bool(one["jointly"]) for one in rows)
    together = f"all {told}" if jointly == told else f"{jointly} of these {told}"
    return (
        f"Of {len(rows)} rules of thumb {counts['holds']} hold on this model, {counts['does not hold']} do not, and "
        f"{counts['cannot tell']} cannot be told. Each verdict is false in at most 5 % of studies; "
        f"{together} also stand{'s' if jointly == 1 and told != 1 else ''} when all are judged together."
    )


EXPERIMENTS.register(Rules.key)(Rules())
