"""How the numbers are made, with sources."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.report.base import AbstractSection, Card, Fact
from lrscale.report.context import ReportContext

METHODS: tuple[tuple[str | None, str, str], ...] = (
    (
        None,
        "Trial",
        "One run of a Lightning Trainer under DDP on the module as it is. The global batch is the per-device batch "
        "times "
        "accumulation times devices times nodes; with the same seed every split of it sees the same examples in the "
        "same "
        "batches. The LR multiplies each parameter group's own, so that ratios between groups survive.",
    ),
    (
        None,
        "Diverged",
        "The loss became non-finite, or left the level it started from for good. Such a trial has no final loss, is "
        "drawn on "
        "the upper edge, and never enters a mean.",
    ),
    (
        "range_test",
        "Range test",
        "An exponential ramp of the LR (Smith 2015, arXiv:1506.01186), smoothed symmetrically in log LR. It brackets "
        "the LR "
        "and is not used to rank LRs: where the loss falls fastest depends on the length of the ramp.",
    ),
    (
        "scaling",
        "LR slice",
        "Loss against LR as A·LR^-p + B·LR^q + C plus a level for each seed: A, B, C and the levels are linear, p and "
        "q come from a grid (variable projection: Golub and Pereyra 1973, SIAM J. Numer. Anal. 10). The best LR is the "
        "posterior median of its minimum, with the noise estimated from the residuals. Without a rise on both sides "
        "the optimum is censored and reported as a bound.",
    ),
    (
        "scaling",
        "Optimal LR against batch",
        "Constant, square-root, linear, power, saturating and surge laws, fitted to the optima with their variances "
        "and a common lack of fit; censored optima enter as bounds. Linear: Goyal et al. 2017, arXiv:1706.02677. "
        "Square root: Krizhevsky 2014, arXiv:1404.5997; Malladi et al. 2022, arXiv:2205.10287 for Adam. Saturating: "
        "McCandlish et al. 2018, arXiv:1812.06162. Surge: Li et al. 2024, arXiv:2405.14578. Named by AICc (Burnham and "
        "Anderson 2002), then by leave-one-out error; predictions mix the laws with a free slope by their posterior "
        "weights.",
    ),
    (
        "scaling",
        "Equivalence range",
        "All LRs whose fitted loss exceeds the minimum by less than the tolerance or two standard errors, whichever "
        "is more.",
    ),
    (
        "schedules",
        "Schedules",
        "Cosine: Loshchilov and Hutter 2017, arXiv:1608.03983. WSD: Hu et al. 2024, arXiv:2404.06395. One-cycle: "
        "Smith and "
        "Topin 2017, arXiv:1708.07120. Inverse square root: Vaswani et al. 2017, arXiv:1706.03762. Paired by seed, "
        "each at "
        "its own best LR.",
    ),
    (
        "horizons",
        "Horizons from one trunk",
        "A trunk at a constant LR for each peak, and a cooldown that branches off at each horizon (Hägele et al. 2024, "
        "arXiv:2405.18392). Best LR: a power of the examples at one batch size (Bjorck et al. 2024, arXiv:2409.19913); "
        "loss: E + A examples^-alpha. Both are fitted once more without the longest horizon.",
    ),
    (
        "growing_batch",
        "Growing batch",
        "The batch grows where the schedule decays, so that LR / batch (SGD: Smith et al. 2018, arXiv:1711.00489) or "
        "LR / √batch (Adam: Malladi et al. 2022, arXiv:2205.10287) is the same at every example. Paired by seed, each "
        "at its own best LR.",
    ),
    (
        "critical_batch",
        "Critical batch by branches",
        "Branches at k times the batch from a trunk, on the same examples, with k (SGD) or √k times the LR (Merrill et "
        "al. 2025, arXiv:2505.23971). Tolerance: twice the standard deviation of the difference of two branches at "
        "k = 1 that see other orders of the examples.",
    ),
    (
        "equivalence",
        "Layout check",
        "A few steps of one global batch, undivided, on two devices and accumulated. Gradients after the reduction and "
        "before clipping are compared by norms and by count sketches (Charikar, Chen and Farach-Colton 2002). Where "
        "they differ, least squares write the gradient of the whole as a combination of those of its parts: equal "
        "weights that add up to their number are a sum, unequal ones a mean over varying numbers of items; where none "
        "fit, examples see each other.",
    ),
    (
        "noise_scale",
        "Gradient noise scale",
        "tr(Σ) / |G|² from the micro-gradients of every rank and backward (McCandlish et al. 2018, arXiv:1812.06162), "
        "both averaged apart and divided last, with Fieller's interval (1954). A proxy for the critical batch size, "
        "which it has been seen far below (Merrill et al. 2025, arXiv:2505.23971).",
    ),
    (
        "memory",
        "Memory",
        "Short trials that train and validate at growing per-device batches, in processes of their own; the peak of "
        "the rank that needs the most. A line max(floor, a + b·batch), least squares with Student's t intervals; the "
        "floor is what an optimizer step takes. Activations grow with the batch, parameters and optimizer state do "
        "not (Rajbhandari et al. 2020, arXiv:1910.02054).",
    ),
    (
        "throughput",
        "Throughput",
        "Examples per second over the steps after the first ones, with the layout pinned. The error of the mean comes "
        "from blocks of n^(1/3) steps, since neighbouring steps are correlated (batch means: Schmeiser 1982), or from "
        "repeats where they differ by more. Waiting for data: from the end of one forward and backward to the start of "
        "the next. Waiting for other ranks: from the last gradient of a rank to the end of its backward; what the "
        "backward hides is not counted. Means over ranks.",
    ),
    (
        "throughput",
        "Step-time model",
        "T = (k - 1)G + (G^p + S^p)^(1/p) with G = a + b·batch for a forward and backward, S = c + d·(ranks - 2) for "
        "the reduction, and accumulation k (Pollux: Qiao et al. 2021, arXiv:2008.12260). Least squares on log times "
        "with weak priors on p and d/c; intervals from a parametric bootstrap. What the timed layouts leave open is "
        "not predicted.",
    ),
    (
        "rules",
        "Rules of thumb",
        "Each rule as an effect that must exceed a margin; two one-sided tests at 2.5 %, Student's t over paired seeds "
        "or draws from the fitted laws, and Holm's procedure (1979) over all of them.",
    ),
    (
        None,
        "Intervals and digits",
        "Intervals are 95 % unless said otherwise. Numbers have two significant digits, or as many as their interval "
        "justifies; the files of the study hold them in full.",
    ),
)
"""Experiment that uses the method (None: all), its name, and how it works with its source."""


@final
class MethodsSection(AbstractSection):
    """Short texts on what was computed and whose method it is."""

    key: ClassVar[str] = "methods"
    title: ClassVar[str] = "Methods"

    @override
    def applicable(self, context: ReportContext) -> str | None:
        del context
        return None

    @override
    def compute(self, context: ReportContext) -> Card:
        present = {finding.key for finding in context.findings}
        facts = tuple(
            Fact(term=name, value=text)
            for experiment, name, text in METHODS
            if experiment is None or experiment in present
        )
        return Card(
            key=self.key,
            title=self.title,
            finding="Every number above comes from the trials in the table, by the methods below.",
            facts=facts,
        )
