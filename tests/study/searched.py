"""What tests of searches share, whoever plans them: a run over the synthetic task, and what it has come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lrscale.recipe import Recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study, read_findings
from lrscale.study.experiments import Context
from lrscale.study.finding import Check, Finding
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher | None = None) -> Finding:
    """Run a study and return the finding of its search."""
    study = Study(asked, StudyFolder(folder))
    study.run(launcher or SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    (finding,) = read_findings(StudyFolder(folder))
    return finding


def context(asked: Recipe, folder: Path) -> Context:
    """Return what the search may look at."""
    return Context(recipe=asked, view=StudyView.of(StudyFolder(folder)), facts=FACTS, findings={})


def check(finding: Finding, name: str) -> Check:
    """Return a check of a finding by its name."""
    return next(check for check in finding.checks if check.name == name)


def regret(finding: Finding, truth: Truth, sizes: Sequence[int], examples: int) -> float:
    """Return what the named setting truly costs against the best LR of the best of some batch sizes."""
    lr, size = finding.numbers["best_lr"].value, finding.numbers["best_batch_size"].value
    assert lr is not None
    assert size is not None
    return truth.loss(size, lr, examples) - min(truth.loss(one, truth.best_lr(one), examples) for one in sizes)
