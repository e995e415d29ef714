from __future__ import annotations

import dataclasses

import pytest
import yaml

from lrscale.cli.outputs import print_answer, summary
from lrscale.cli.recommend import text, written
from lrscale.recommend import Recommendation, Refusal
from lrscale.recommend.recommendation import Alternative, Evidence, RecommendedSchedule, Validity
from lrscale.study.finding import Quantity

RECOMMENDATION = Recommendation(
    name="byte-gpt",
    created="2026-11-23T12:00:00+00:00",
    lrscale_version="0.1.0",
    monitor="val_loss",
    lr=Quantity(value=2.1e-3, lo=1.6e-3, hi=2.8e-3),
    equivalent_lr=(1.5e-3, 3e-3),
    global_batch_size=256,
    per_device_batch_size=64,
    accumulate_grad_batches=2,
    devices=2,
    num_nodes=1,
    schedule=RecommendedSchedule(name="cosine", warmup_steps=39, warmup_examples=9984),
    horizon_steps=781,
    horizon_examples=199_936,
    expected_loss=Quantity(value=2.315, lo=2.28, hi=2.35),
    expected_seconds=Quantity(value=912.0),
    validity=Validity(
        batch_sizes=(16, 256), learning_rates=(1e-4, 8e-3), horizon_examples=200_000, diverges_above=1.6e-2
    ),
    stands_on=Evidence(trials=45, seeds=3),
    confidence="measured",
    reasons=("At batch 256 the best peak LR is 2.1e-3.", "Cosine beat constant by 1.2 %."),
    alternatives=(
        Alternative(batch_size=16, lr=6e-4, loss=2.41, relative_loss=0.041, relative_seconds=None),
        Alternative(batch_size=64, lr=1.2e-3, loss=2.33, relative_loss=0.0065, relative_seconds=0.8),
    ),
)
"""A recommendation with every field that is printed."""


def test_the_summary_is_three_lines_with_intervals() -> None:
    assert summary(RECOMMENDATION) == [
        "peak LR 2.1e-3 (95 % 1.6e-3 to 2.8e-3), cosine schedule after 39 warm-up steps; LRs of 1.5e-3 to 3e-3 are as "
        "good",
        "global batch 256 = 64 per device x 2 accumulated x 2 devices, for 781 steps (199,936 examples)",
        "expected val_loss 2.315 (95 % 2.28 to 2.35) in about 15 min 12 s; confidence: measured",
    ]


def test_what_was_not_measured_is_said() -> None:
    unmeasured = dataclasses.replace(
        RECOMMENDATION,
        expected_loss=Quantity(value=None),
        expected_seconds=None,
        schedule=RecommendedSchedule(name="module"),
        num_nodes=2,
        global_batch_size=512,
        lr=Quantity(value=2.1e-3),
    )
    first, second, third = summary(unmeasured)
    assert first.startswith("peak LR 2.1e-3 (no interval), module schedule (the module's own);")
    assert "x 2 devices x 2 nodes" in second
    assert third == "val_loss at the end: not measured; confidence: measured"


def test_the_text_gives_reasons_range_and_alternatives() -> None:
    lines = text(RECOMMENDATION).splitlines()
    assert "  - Cosine beat constant by 1.2 %." in lines
    assert "holds for batches of 16 to 256, LRs of 1e-4 to 8e-3 and 200,000 examples; training diverges above LR" in (
        " ".join(" ".join(lines).split())
    )
    assert lines[-2:] == [
        "   16     6e-4  2.41             +4.1 %                  -",
        "   64   1.2e-3  2.33            +0.65 %              +80 %",
    ]


def test_yaml_gives_back_the_recommendation() -> None:
    assert Recommendation.from_dict(yaml.safe_load(written(RECOMMENDATION, "yaml"))) == RECOMMENDATION


@pytest.mark.parametrize("format_name", ["text", "yaml", "markdown", "cli"])
def test_every_format_names_the_rate(format_name: str) -> None:
    assert "0.0021" in written(RECOMMENDATION, format_name) or "2.1e-3" in written(RECOMMENDATION, format_name)


def test_a_refusal_says_what_it_would_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_answer(Refusal(sentence="The optimum lies at the edge.", needs="Run lrscale run digits.")) == 1
    assert capsys.readouterr().out == (
        "no recommendation: The optimum lies at the edge.\nwhat it would take: Run lrscale run digits.\n"
    )
