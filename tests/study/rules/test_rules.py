"""Each rule of thumb against sweeps whose truth is known, in all three verdicts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from lrscale.laws import Difference, Interval
from lrscale.laws.claim import ClaimVerdict
from lrscale.store import Trajectory, Trial
from lrscale.study.experiments.rules import Rules
from lrscale.study.finding import Finding
from lrscale.study.rules import RULES
from lrscale.study.rules.larger_lr import LEAST_POWER
from tests.study.rules.sweeps import Sweep, evidence_of, finding, slice_of

NOISY = Sweep(seeds=2, noise=0.2, gap_noise=0.3, curve_noise=2.0, cost=2.0, sizes=(64, 512))


def warm(size: float, step: float) -> float:
    """Return a loss that falls with the steps, faster for larger batches."""
    return 2.0 * math.exp(-step * size**0.5 / 400)


def by_examples(size: float, step: float) -> float:
    """Return a loss that falls with the examples, faster for larger batches."""
    return 2.0 * math.exp(-((step * size) ** 0.5) * (1 + math.log2(size / 64) / 3) / 100)


def near_none(size: float) -> float:
    """Return a best LR that hardly grows with the batch."""
    return 0.01 * float((size / 64) ** 0.12)


CASES: list[tuple[str, Sweep, ClaimVerdict]] = [
    ("larger_lr", Sweep(sizes=(64, 512)), "holds"),
    ("larger_lr", Sweep(sizes=(64, 512), best=lambda size: 0.01), "does not hold"),
    ("larger_lr", Sweep(sizes=(64, 128), seeds=2, noise=0.2, seed_noise=0.0, best=near_none), "cannot tell"),
    ("early_loss_steps", Sweep(sizes=(64, 512), course=warm), "holds"),
    ("early_loss_steps", Sweep(sizes=(64, 512), curve_noise=1e-4, seed_noise=1e-4, noise=1e-4), "does not hold"),
    ("early_loss_steps", NOISY, "cannot tell"),
    ("early_loss_examples", Sweep(sizes=(64, 512), course=by_examples), "holds"),
    ("early_loss_examples", Sweep(sizes=(64, 512), course=warm), "does not hold"),
    ("early_loss_examples", NOISY, "cannot tell"),
    ("final_loss", Sweep(sizes=(64, 512), level=lambda size: 1 + 0.03 * (size > 64)), "holds"),
    ("final_loss", Sweep(sizes=(64, 512)), "does not hold"),
    ("final_loss", NOISY, "cannot tell"),
    ("generalisation", Sweep(sizes=(64, 512), gap=lambda size, x: 0.2 - 0.05 * math.log2(x)), "holds"),
    ("generalisation", Sweep(sizes=(64, 512), gap=lambda size, x: 0.2 + 0.05 * math.log2(x)), "does not hold"),
    ("generalisation", NOISY, "cannot tell"),
    ("low_lr", Sweep(sizes=(64, 512)), "holds"),
    ("low_lr", Sweep(sizes=(64, 512), cost=0.004, noise=5e-5, seed_noise=0.0), "does not hold"),
    ("low_lr", Sweep(sizes=(64, 512), cost=0.02, noise=0.008, seeds=2, seed_noise=0.0), "cannot tell"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "sweep", "verdict"), CASES, ids=[f"{rule}: {verdict}" for rule, _, verdict in CASES])
def test_a_rule_of_the_sweep_gets_the_verdict_of_its_truth(rule: str, sweep: Sweep, verdict: ClaimVerdict) -> None:
    ruling = RULES[rule].judge(sweep.evidence(3))
    assert ruling.verdict == verdict, ruling.sentence
    assert ruling.claim is not None
    assert bool(ruling.needs) == (verdict == "cannot tell")


def test_effects_are_those_of_the_truth() -> None:
    sweep = Sweep(
        sizes=(64, 512), level=lambda size: 1 + 0.03 * (size > 64), gap=lambda size, x: 0.2 - 0.05 * math.log2(x)
    )
    evidence = sweep.evidence(1)
    values = {}
    for key in ("larger_lr", "final_loss", "generalisation", "low_lr"):
        claim = RULES[key].judge(evidence).claim
        assert claim is not None and claim.lo is not None and claim.hi is not None
        assert claim.lo < claim.value < claim.hi
        values[key] = claim.value
    assert values["larger_lr"] == pytest.approx(0.5, abs=0.03)
    assert values["final_loss"] == pytest.approx(0.03, abs=0.005)
    # 0.05 for each doubling, of a loss of 1 at batch 64 and of 1.03 at 512.
    assert values["generalisation"] == pytest.approx(0.05, abs=0.003)
    # A quarter of the best LR: 0.5 (4^0.5 + 1/8 - 1.5).
    assert values["low_lr"] == pytest.approx(0.5 * (2 + 0.125 - 1.5), rel=0.05)


def test_the_power_follows_the_law_where_there_is_one() -> None:
    ruling = RULES["larger_lr"].judge(Sweep().evidence(2, law=True))
    assert ruling.claim is not None and ruling.claim.value == pytest.approx(0.5, abs=0.05)
    assert "square root: not excluded from batch 64 to 512" in ruling.breaks
    assert "linear: excluded everywhere" in ruling.breaks


def test_a_batch_in_warm_up_is_not_compared() -> None:
    # The window begins at 40 % of the 32 steps of batch 512: after the warm-up of 256, and not of 64 and 128.
    sweep = Sweep(warmup_fraction=0.15, course=warm)
    ruling = RULES["early_loss_steps"].judge(sweep.evidence(0))
    assert "from that of batch 256" in ruling.sentence
    longer = RULES["early_loss_steps"].judge(dataclasses.replace(sweep, warmup_fraction=0.4).evidence(0))
    assert longer.verdict == "cannot tell" and "warmup_fraction" in longer.needs


def test_without_seeds_in_common_or_validation_nothing_is_told() -> None:
    alone = Sweep(seeds=1, sizes=(64, 512)).evidence(0)
    for key in ("early_loss_steps", "early_loss_examples", "generalisation"):
        assert RULES[key].judge(alone).verdict == "cannot tell"
    unvalidated = Sweep(sizes=(64, 512), monitor="train_loss").evidence(0)
    assert "validation" in RULES["generalisation"].judge(unvalidated).needs


def ramps(edges: list[float | None], top: float = 10.0) -> dict[str, Any]:
    """Return a family of one range test, whose losses leave at the edges."""
    lr = np.geomspace(1e-7, top, 100)
    curves = []
    for seed, edge in enumerate(edges):
        loss = 2.3 - 1.8 / (1 + 1e-3 / lr) + 0.002 * np.random.default_rng(seed).standard_normal(lr.size)
        loss += 0 if edge is None else np.minimum((lr / edge) ** 3, 50.0)
        curves.append({"lr": lr.tolist(), "loss": loss.tolist(), "diverged_at": None, "seed": seed})
    return {"family": [{"batch_size": 64, "curves": curves, "confirmation": None, "unstable_at": None}]}


@pytest.mark.parametrize(
    ("edges", "verdict"),
    [
        ([0.3, 0.35, 0.28], "holds"),
        ([None] * 6, "does not hold"),
        ([None] * 3, "cannot tell"),
        ([0.3, None, 0.3], "cannot tell"),
        ([0.3], "cannot tell"),
    ],
)
def test_a_high_lr_diverges_where_every_ramp_does(edges: list[float | None], verdict: ClaimVerdict) -> None:
    evidence = evidence_of([], {}, {"range_test": finding("range_test", **ramps(edges))})
    ruling = RULES["high_lr"].judge(evidence)
    assert ruling.verdict == verdict, ruling.sentence


def test_the_edge_moves_with_the_ramps() -> None:
    edges = [0.3, 0.36, 0.27, 0.31]
    claims = [
        RULES["high_lr"]
        .judge(evidence_of([], {}, {"range_test": finding("range_test", **ramps([scale * one for one in edges]))}))
        .claim
        for scale in (1.0, 2.0)
    ]
    assert claims[0] is not None and claims[1] is not None
    assert claims[0].value - claims[1].value == pytest.approx(math.log(2), abs=0.1)
    assert claims[0].lo is not None and claims[0].hi is not None
    # A tenth of the drop of 1.8 above the initial loss: (lr / edge)^3 = 1.98.
    assert claims[0].lo < math.log(10 / (0.31 * 1.98 ** (1 / 3))) < claims[0].hi


def grown(value: float, half: float) -> dict[str, Any]:
    """Return what a comparison of a growing batch with a decaying LR leaves, at a loss of 2."""
    return {
        "batch_size": 16,
        "schedule": "multi_step",
        "rows": [
            {"what": "decaying LR", "loss": 2.0, "steps": 100, "largest_batch": 16, "examples": 1600},
            {"what": "growing batch", "loss": 2.0 + value, "steps": 60, "largest_batch": 64, "examples": 1600},
        ],
        "difference": Difference(
            value=value,
            interval=Interval(value - half, value + half, 0.95),
            sd=half,
            df=2.0,
            p_value=0.5,
            n_pairs=3,
            paired=True,
            margin=0.01,
            verdict="cannot tell",
            diverged=(0, 0),
        ).to_dict(),
    }


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [
        (0.001, 0.005, "holds"),
        (0.1, 0.05, "does not hold"),
        (-0.1, 0.05, "does not hold"),
        (0.005, 0.02, "cannot tell"),
    ],
)
def test_a_growing_batch_equals_a_decay_within_the_margin(value: float, half: float, verdict: ClaimVerdict) -> None:
    evidence = evidence_of([], {}, {"growing_batch": finding("growing_batch", **grown(value, half))})
    ruling = RULES["growing_batch"].judge(evidence)
    assert ruling.verdict == verdict
    assert ruling.claim is not None and ruling.claim.value == pytest.approx(-abs(value) / 2)


def layouts(seconds: dict[int, float], se: float = 0.01) -> Finding:
    rows = [
        {
            "devices": 2,
            "num_nodes": 1,
            "per_device_batch_size": size,
            "accumulate": 1,
            "examples_per_second": 2 * size / step,
            "step_mean": step,
            "step_se": se * step,
            "step_degrees": 9,
            "repeats": 1,
        }
        for size, step in seconds.items()
    ]
    return finding("throughput", rows=rows, knees=[])


@pytest.mark.parametrize(
    ("seconds", "se", "time", "use"),
    [
        ({4: 0.010, 16: 0.010, 64: 0.011}, 0.01, "holds", "holds"),
        ({4: 0.010, 16: 0.012, 64: 0.048}, 0.01, "holds", "does not hold"),
        ({4: 0.004, 16: 0.016, 64: 0.064}, 0.01, "does not hold", "does not hold"),
        ({4: 0.010, 16: 0.030, 64: 0.120}, 0.3, "cannot tell", "cannot tell"),
    ],
)
def test_speed_rules_follow_the_step_times(
    seconds: dict[int, float], se: float, time: ClaimVerdict, use: ClaimVerdict
) -> None:
    evidence = evidence_of([], {}, {"throughput": layouts(seconds, se)})
    assert RULES["training_time"].judge(evidence).verdict == time
    assert RULES["utilisation"].judge(evidence).verdict == use


def factors(
    name: str, sweeps: dict[float, Sweep], random: int = 0
) -> tuple[list[Trial], dict[str, Trajectory], Finding]:
    """Return the trials and the finding of a factor of one batch size."""
    rows, everything, curves = [], [], {}
    for place, (value, sweep) in enumerate(sweeps.items()):
        own = dataclasses.replace(sweep, sizes=(64,), init_args={name: value})
        trials, more = own.trials(np.random.default_rng(random + place))
        curves |= more
        everything += trials[64]
        rows.append(
            {
                "label": f"{name} {value:g}",
                "value": value,
                "slice": slice_of(trials[64]).to_dict(),
                "trials": [one.trial_id for one in trials[64]],
            }
        )
    return everything, curves, finding("factors", factors=[{"name": name, "numeric": True, "levels": rows}])


@pytest.mark.parametrize(
    ("rule", "high", "verdict"),
    [
        ("dropout_gap", Sweep(gap=lambda size, x: 0.02), "holds"),
        ("dropout_gap", Sweep(), "does not hold"),
        ("dropout_gap", Sweep(gap_noise=0.5, seeds=2), "cannot tell"),
        ("dropout_lr", Sweep(best=lambda size: 0.03), "holds"),
        ("dropout_lr", Sweep(), "does not hold"),
        ("dropout_lr", Sweep(best=lambda size: 0.013, noise=0.05, seed_noise=0.0), "cannot tell"),
    ],
)
def test_dropout_moves_what_it_moves_in_truth(rule: str, high: Sweep, verdict: ClaimVerdict) -> None:
    trials, curves, found = factors(
        "dropout", {0.0: dataclasses.replace(high, best=Sweep.best, gap=Sweep.gap), 0.3: high}
    )
    ruling = RULES[rule].judge(evidence_of(trials, curves, {"factors": found}))
    assert ruling.verdict == verdict, ruling.sentence


@pytest.mark.parametrize(
    ("place", "noise", "verdict"), [(0.4, 0.01, "holds"), (0.9, 0.0, "does not hold"), (0.7, 0.3, "cannot tell")]
)
def test_noisy_labels_want_earlier_stopping_where_validation_turns_earlier(
    place: float, noise: float, verdict: ClaimVerdict
) -> None:
    sweep = Sweep(best_place=lambda init_args: 0.9 if init_args["label_noise"] == 0 else place, place_noise=noise)
    trials, curves, found = factors("label_noise", {0.0: sweep, 0.2: sweep})
    ruling = RULES["early_stopping"].judge(evidence_of(trials, curves, {"factors": found}))
    assert ruling.verdict == verdict, ruling.sentence


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_without_evidence_says_what_to_add(rule: str) -> None:
    ruling = RULES[rule].judge(evidence_of([], {}, {}))
    assert ruling.verdict == "cannot tell" and ruling.claim is None
    assert ruling.needs and ruling.sentence.endswith(".")


def test_the_finding_counts_its_verdicts_and_runs_no_trial() -> None:
    evidence = Sweep(course=warm).evidence(0, law=True)
    experiment = Rules()
    assert experiment.plan(evidence.context) == []
    found = experiment.analyse(evidence.context)
    rows = found.tables["rules"]
    assert [row["rule"] for row in rows] == list(RULES)
    holds = sum(row["verdict"] == "holds" for row in rows)
    not_so = sum(row["verdict"] == "does not hold" for row in rows)
    assert f"{holds} hold on this model, {not_so} do not" in found.sentence
    assert Finding.from_dict(found.to_dict()) == found
    assert all(row["jointly"] is False for row in rows if row["verdict"] == "cannot tell")


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["early_loss_steps", "early_loss_examples", "final_loss", "generalisation"])
def test_at_the_margin_a_verdict_is_false_in_at_most_five_percent(rule: str) -> None:
    margin, studies = 0.02, 300
    rng = np.random.default_rng(5)
    given = 0
    for _ in range(studies):
        sweep = Sweep(
            sizes=(64, 512),
            seeds=4,
            factors=(1 / 2, 1, 2),
            course=lambda size, step: 0.0 if size > 64 else margin / (1 - margin),
            gap=lambda size, x: 0.2 - margin * math.log2(x),
            gap_noise=0.03,
            curve_noise=0.03,
            seed_noise=0.0,
            noise=1e-4,
        )
        if rule == "final_loss":
            sweep = dataclasses.replace(
                sweep, level=lambda size: 1 + margin * (size > 64), noise=0.01, factors=(1 / 4, 1 / 2, 1, 2, 4)
            )
        evidence = sweep.evidence(int(rng.integers(1 << 31)), margin=margin)
        given += RULES[rule].judge(evidence).verdict != "cannot tell"
    # Three standard deviations of a binomial around 5 %.
    assert given / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.slow
def test_verdicts_from_slices_are_false_in_at_most_five_percent_at_the_margin() -> None:
    studies = 150
    given = {"larger_lr": 0, "low_lr": 0}
    for seed in range(studies):
        sweep = Sweep(sizes=(64, 512), noise=0.02, best=lambda size: 0.01 * (size / 64) ** LEAST_POWER)
        # At a quarter of the best LR the loss is 0.5 (4^0.5 + 1/8 - 1.5) above the lowest, which is 1.
        evidence = sweep.evidence(seed, margin=0.5 * (2 + 0.125 - 1.5))
        for rule in given:
            given[rule] += RULES[rule].judge(evidence).verdict != "cannot tell"
    assert max(given.values()) / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
