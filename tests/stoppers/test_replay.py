"""Complete trials under each rule once more: what is saved, and what is lost where early losses mislead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrscale.stoppers import STOPPERS, Course, build_stopper, replay

VALIDATIONS = 10
LRS = [2.0**step for step in range(-5, 6)]


def course(lr: float, *, batch_size: int = 64, misleads: float = 0.0, noise: float = 0.0) -> Course:
    """Return a trial under a linear decay whose final loss is lowest at LR 1.

    Before the decay a loss has the LR's own noise on top, which the decay takes away in proportion: the larger, the
    higher the LR.
    """
    final = 1 + 0.2 * math.log2(lr) ** 2 / 10 + noise
    losses = {
        place: final + (VALIDATIONS - place) / VALIDATIONS * (1 + misleads * math.log2(32 * lr))
        for place in range(1, VALIDATIONS + 1)
    }
    shares = {place: place / VALIDATIONS for place in range(1, VALIDATIONS + 1)}
    return Course(lr=lr, batch_size=batch_size, examples=1000, losses=losses, decayed=shares, final=final)


def outwards(lrs: list[float]) -> list[float]:
    return sorted(lrs, key=lambda lr: abs(math.log2(lr)))


def test_survivors_saves_on_a_grid_and_keeps_two_on_each_side() -> None:
    played = replay(build_stopper("survivors"), [course(lr) for lr in outwards(LRS)], VALIDATIONS)
    left = [lr for lr, place in zip(outwards(LRS), played.ended, strict=True) if place is None]
    assert sorted(left) == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert played.regret == 0.0
    # Six of eleven end at half of the decay.
    assert played.share_saved == pytest.approx(6 * 0.5 / 11)


def test_early_losses_that_mislead_cost_rules_that_trust_them() -> None:
    regrets = dict.fromkeys(STOPPERS, 0.0)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        # Undecayed the lowest loss is two octaves below the best LR; at half of the decay it is one.
        courses = [course(float(lr), misleads=0.1) for lr in rng.permutation(LRS)]
        for name in STOPPERS:
            regrets[name] += replay(build_stopper(name), courses, VALIDATIONS).regret
    assert regrets.pop("survivors") == 0.0
    assert regrets.pop("predicted") == 0.0
    assert min(regrets.values()) > 0.0


@pytest.mark.parametrize("seed", range(5))
def test_survivors_never_ends_the_best_of_a_slice_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lrs = [float(lr) for lr in rng.permutation(np.repeat(LRS, 2))]
    played = replay(
        build_stopper("survivors"),
        [course(lr, misleads=0.2, noise=0.005 * float(rng.standard_normal())) for lr in lrs],
        VALIDATIONS,
    )
    assert played.regret == 0.0
    left = {lr for lr, place in zip(lrs, played.ended, strict=True) if place is None}
    assert len([lr for lr in left if lr < 1]) >= 2 and len([lr for lr in left if lr > 1]) >= 2


def test_nothing_is_saved_where_nothing_is_stopped() -> None:
    played = replay(build_stopper("survivors"), [course(1.0)], VALIDATIONS)
    assert (played.stopped, played.saved, played.share_saved, played.regret) == (0, 0, 0.0, 0.0)
    empty = replay(build_stopper("median"), [], VALIDATIONS)
    assert (empty.examples, empty.share_saved, empty.regret) == (0, 0.0, 0.0)
