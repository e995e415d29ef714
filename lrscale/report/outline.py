"""The order of the report.

1. Recommendation: what to train with, what to expect, how sure, what to watch; one figure
2. Checks: what warns or fails, with remedies
3. Does the layout change the answer? Devices and accumulation against one batch
4. Does it train? Trajectories against steps, examples and time
5. Which learning rate at each batch size? LR slices
6. Where can the learning rate lie? Range tests
7. How near is the edge of stability? Divergence, spikes, margins
8. How does the learning rate scale with the batch size? Optimal LR and the competing rules
9. What else should move with the batch size? Companions
10. Which batch size reaches a loss soonest? Steps against batch size, time against examples
11. Which setting is best? The course of a search in few trials
12. Which schedule? Forest plot at each schedule's own best LR
13. Does growing the batch do what decaying the LR does?
14. How do the best LR and the loss move with the length of training? Trunks with cooldowns
15. How does the best learning rate move with other settings? Any entry of the task
16. What will be best at the target's scale? Forecast from smaller models and shorter horizons
17. Does what is learned carry over? Validation loss above training loss
18. Do the rules of thumb hold here? Verdicts with their intervals
19. How noisy is the gradient? Noise scale over training, beside the batch sizes used
20. Up to which batch size does a larger batch cost no more examples? Branches from checkpoints
21. How large a batch fits on a device? Memory
22. How fast does each layout train? Throughput
23. How much do equal runs differ? Noise floor by batch size and LR, and what the seeds can tell
24. Do the fits hold? LR means and trials against their curves, runner-up laws
25. Every trial, failures included
26. What was run, and where: recipe, versions, hardware, seeds
27. Methods, with sources
"""

from __future__ import annotations

from lrscale.report.base import AbstractSection
from lrscale.report.sections.checks import ChecksSection
from lrscale.report.sections.companions import CompanionsSection
from lrscale.report.sections.critical_batch import CriticalBatchSection
from lrscale.report.sections.factors import FactorsSection
from lrscale.report.sections.fit_diagnostics import FitDiagnosticsSection
from lrscale.report.sections.forecast import ForecastSection
from lrscale.report.sections.generalisation import GeneralisationSection
from lrscale.report.sections.growing_batch import GrowingBatchSection
from lrscale.report.sections.headline import HeadlineSection
from lrscale.report.sections.horizons import HorizonsSection
from lrscale.report.sections.layout import LayoutSection
from lrscale.report.sections.memory import MemorySection
from lrscale.report.sections.methods import MethodsSection
from lrscale.report.sections.noise_floor import NoiseFloorSection
from lrscale.report.sections.noise_scale import NoiseScaleSection
from lrscale.report.sections.optimal_lr import OptimalLRSection
from lrscale.report.sections.provenance import ProvenanceSection
from lrscale.report.sections.range_tests import RangeTestsSection
from lrscale.report.sections.rules import RulesSection
from lrscale.report.sections.schedules import SchedulesSection
from lrscale.report.sections.search import SearchSection
from lrscale.report.sections.slices import SlicesSection
from lrscale.report.sections.stability import StabilitySection
from lrscale.report.sections.target_loss import TargetLossSection
from lrscale.report.sections.throughput import ThroughputSection
from lrscale.report.sections.trajectories import TrajectoriesSection
from lrscale.report.sections.trials import TrialsSection

SECTIONS: tuple[AbstractSection, ...] = (
    HeadlineSection(),
    ChecksSection(),
    LayoutSection(),
    TrajectoriesSection(),
    SlicesSection(),
    RangeTestsSection(),
    StabilitySection(),
    OptimalLRSection(),
    CompanionsSection(),
    TargetLossSection(),
    SearchSection(),
    SchedulesSection(),
    GrowingBatchSection(),
    HorizonsSection(),
    FactorsSection(),
    ForecastSection(),
    GeneralisationSection(),
    RulesSection(),
    NoiseScaleSection(),
    CriticalBatchSection(),
    MemorySection(),
    ThroughputSection(),
    NoiseFloorSection(),
    FitDiagnosticsSection(),
    TrialsSection(),
    ProvenanceSection(),
    MethodsSection(),
)
"""Every section, in the order of the page; the first is the first screen."""
