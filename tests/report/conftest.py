"""Synthetic studies to report on, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrscale.report import ReportContext
from lrscale.store import StudyFolder, StudyView
from lrscale.testing.synthetic import SyntheticStudy, read_findings, write_synthetic_study

SMALL: dict[str, Any] = {"batch_sizes": (32, 128), "seeds": 2, "horizon_examples": 6_400}
FULL: dict[str, Any] = {**SMALL, "schedules": ("linear", "cosine")}
# Most of the time of a report goes into its panels: the variants have as few as show what they are about.
BARE: dict[str, Any] = {**SMALL, "schedules": (), "throughput": False, "validations": 0}

# Markup, quotes, newlines, a mark that turns the direction of the text, right-to-left letters, and a very long word.
HOSTILE = (
    "<script>alert('x')</script>\"'`</style>{{ 7*7 }}\n\r\t\x00\x1b[31m\u202eevil\u2066 שלום $\\frac{1}{2}$ "
    + "long" * 2_500
)

VARIANTS: dict[str, tuple[SyntheticStudy, bool]] = {
    "complete": (SyntheticStudy(**FULL), True),
    "no findings": (SyntheticStudy(**BARE), False),
    "all diverged": (SyntheticStudy(**BARE, all_diverge=True, crashed=0), True),
    "one batch size": (SyntheticStudy(**{**BARE, "batch_sizes": (64,)}), True),
    "no validation": (SyntheticStudy(**BARE), True),
    "optimum outside": (SyntheticStudy(**BARE, shift=1 / 200), True),
    "one seed, one LR": (SyntheticStudy(**{**BARE, "seeds": 1}, rates=1, crashed=0, range_test_seeds=1), True),
    "range tests alone": (SyntheticStudy(**{**BARE, "seeds": 0}), True),
    "hostile names": (
        SyntheticStudy(
            **{**BARE, "validations": 4},
            name=HOSTILE,
            task={"model": {"class_path": HOSTILE, "init_args": {HOSTILE: HOSTILE}}, "monitor": HOSTILE},
        ),
        True,
    ),
}


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], StudyFolder]:
    made: dict[str, StudyFolder] = {}

    def study(name: str) -> StudyFolder:
        if name not in made:
            settings, findings = VARIANTS[name]
            path = tmp_path_factory.mktemp("study") / "S"
            made[name] = write_synthetic_study(path, settings, findings=findings)
        return made[name]

    return study


@pytest.fixture(scope="session")
def context_of(studies: Callable[[str], StudyFolder]) -> Callable[[str], ReportContext]:
    made: dict[str, ReportContext] = {}

    def context(name: str) -> ReportContext:
        if name not in made:
            folder = studies(name)
            findings = read_findings(folder)
            view = StudyView.of(folder)
            made[name] = ReportContext.of(
                folder, view=view, findings=findings, recommendation=recommendation_for(findings, name)
            )
        return made[name]

    return context


@pytest.fixture(scope="session")
def page_of(studies: Callable[[str], StudyFolder]) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def page(name: str) -> str:
        from lrscale.report import render_report

        if name not in made:
            folder = studies(name)
            findings = read_findings(folder)
            made[name] = render_report(folder, findings=findings, recommendation=recommendation_for(findings, name))
        return made[name]

    return page


@pytest.fixture(scope="session")
def complete_path(studies: Callable[[str], StudyFolder]) -> Path:
    return studies("complete").path


def recommendation_for(findings: tuple[Any, ...], name: str) -> dict[str, Any] | None:
    """Return the JSON values of a recommendation at the best measured batch size, or None where there is none."""
    scaling = next((finding for finding in findings if finding.key == "scaling"), None)
    rows = [row for row in scaling.tables["slices"] if row["best_lr"] and row["lo"]] if scaling else []
    if not rows:
        return None
    row = min(rows, key=lambda row: row["loss"])
    label = HOSTILE if name == "hostile names" else name
    return {
        "schema_version": 1,
        "name": label,
        "created": "2026-01-01T00:00:00+00:00",
        "lrscale_version": "0.1.0",
        "monitor": "val_loss",
        "lr": {"value": row["best_lr"], "lo": row["lo"], "hi": row["hi"], "unit": "", "confidence": 0.95},
        "equivalent_lr": [row["equivalent_lo"], row["equivalent_hi"]],
        "global_batch_size": row["batch_size"],
        "per_device_batch_size": row["batch_size"] // 2,
        "accumulate_grad_batches": 1,
        "devices": 2,
        "num_nodes": 1,
        "schedule": {"name": "cosine", "settings": {}, "warmup_steps": 5, "warmup_examples": 5 * row["batch_size"]},
        "horizon_steps": 6_400 // row["batch_size"],
        "horizon_examples": 6_400,
        "expected_loss": {
            "value": row["loss"],
            "lo": row["loss_lo"],
            "hi": row["loss_hi"],
            "unit": "",
            "confidence": 0.95,
        },
        "expected_seconds": None,
        "validity": {
            "batch_sizes": [32, 128],
            "learning_rates": [1e-4, 1e-1],
            "horizon_examples": 6_400,
            "diverges_above": row["diverged_above"],
            "precision": "32-true",
            "optimizers": [label],
        },
        "stands_on": {"trials": row["trials"], "seeds": 2, "devices": ["cpu"], "experiments": ["scaling"]},
        "confidence": "measured",
        "reasons": [f"Reason of {label}"],
        "alternatives": [
            {"batch_size": 32, "lr": 1e-3, "loss": 1.0, "relative_loss": 0.004, "relative_seconds": -0.31}
        ],
        "checks": [{"name": label, "status": "WARNING", "sentence": label, "remedy": label}],
    }
