"""Critical batch size, measured by branches at larger batches from checkpoints along one trunk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.critical_batch.answer import critical_batch_finding
from lrscale.study.critical_batch.branches import Branches
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Finding

FEWEST_ORDERS = 2


@final
class CriticalBatch(AbstractExperiment):
    """Branches off at k times the batch, with an LR by the optimizer's rule, on the examples that come next.

    Larger multiples follow until one ends beyond what the order of the examples makes of two branches anyway (Merrill
    et al. 2025, arXiv:2505.23971, with a tolerance from the data).
    """

    key: ClassVar[str] = "critical_batch"
    title: ClassVar[str] = "Critical batch size"
    question: ClassVar[str] = "Up to which batch size does a larger batch cost no more examples?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 65

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.critical_batch is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        return Branches.of(context).plan()

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return Branches.of(context).everything()

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        return Branches.of(context).usual()

    @override
    def returns_to(self, spec: TrialSpec, wanted: Collection[TrialSpec]) -> bool:
        # Larger multiples follow from the same places.
        return True

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.critical_batch
        assert settings is not None
        found: list[dict[str, Any]] = []
        if settings.orders > FEWEST_ORDERS:
            found.append({"orders": FEWEST_ORDERS})
        if len(settings.at) > 1:
            found.append({"orders": FEWEST_ORDERS, "at": [settings.at[-1]]})
        return found

    @override
    def analyse(self, context: Context) -> Finding:
        return critical_batch_finding(self.key, self.title, Branches.of(context))


EXPERIMENTS.register(CriticalBatch.key)(CriticalBatch())
