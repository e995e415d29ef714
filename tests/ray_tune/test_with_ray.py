"""Every algorithm asked, and every scheduler run, on a toy; with Ray and the libraries as they are."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from lrscale.errors import LrscaleError
from lrscale.ray_tune import ALGORITHMS, LOSS, SCHEDULERS, Random
from lrscale.ray_tune.toy import BEST_EXPONENT, TOY, ask_algorithm, run_scheduler

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # The libraries are older than numpy's and pandas' latest.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
pytest.importorskip("ray", exc_type=ImportError)
RANDOM_START = 3
"""Settings that every library but Nevergrad draws at random before it begins to learn."""


def exponents(name: str, trials: int, seed: int) -> list[float]:
    try:
        asked = ask_algorithm(ALGORITHMS[name](), trials, seed)
    except LrscaleError as error:
        pytest.skip(error.message)
    assert all(TOY.learning_rates[0] <= lr <= TOY.learning_rates[1] for lr, _ in asked)
    assert {size for _, size in asked} <= set(TOY.batch_sizes)
    return [math.log10(lr) for lr, _ in asked]


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "nevergrad"])
def test_the_random_start_of_an_algorithm_is_uniform_in_the_logarithm_of_the_lr(name: str) -> None:
    drawn = np.array([one for seed in range(12) for one in exponents(name, RANDOM_START, seed)])
    lo, hi = TOY.exponents
    # Drawn uniformly in the LR itself, nine of ten would lie in the upper third of the exponents: p < 1e-9.
    assert kstest((drawn - lo) / (hi - lo), "uniform").pvalue > 1e-3
    assert (drawn < lo + (hi - lo) / 3).any() and (drawn > hi - (hi - lo) / 3).any()


def test_nevergrad_begins_in_the_middle_of_the_exponents() -> None:
    assert exponents("nevergrad", 5, 0)[0] == pytest.approx(sum(TOY.exponents) / 2, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "random"])
def test_an_algorithm_that_gets_no_answer_is_asked_on(name: str) -> None:
    """Trials run side by side, and one that is lost never answers."""
    algorithm = ALGORITHMS[name]()
    try:
        algorithm.require()
    except LrscaleError as error:
        pytest.skip(error.message)
    asked = threading.Event()

    def ask() -> None:
        searcher = algorithm.build(8, 0)
        searcher.set_search_properties(LOSS, "min", TOY.domains())
        for number in range(4):
            searcher.suggest(f"t{number}")
        asked.set()

    threading.Thread(target=ask, daemon=True).start()
    assert asked.wait(60.0)


def test_an_optimizer_of_nevergrads_that_must_have_each_answer_is_refused() -> None:
    pytest.importorskip("nevergrad", exc_type=ImportError)
    with pytest.raises(LrscaleError, match="Nevergrad's Cobyla waits for each answer"):
        ALGORITHMS["nevergrad"](optimizer="Cobyla").build(8, 0)  # type: ignore[call-arg]  # its own setting


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_an_algorithm_that_learns_comes_near_the_best_lr(name: str) -> None:
    asked = exponents(name, 12, 1)
    assert min(abs(one - BEST_EXPONENT) for one in asked) < 0.3
    if name != "random":
        assert len(asked) >= 10


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    import ray

    from lrscale.launch.ray.cluster import keep_off_the_terminal

    keep_off_the_terminal()
    ray.init("local", num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_a_scheduler_ends_some_trials_early_and_others_not(name: str, local_ray: None, tmp_path: Path) -> None:
    scheduler = SCHEDULERS[name]()
    assert scheduler.concern(8, 3) is None
    reached = run_scheduler(scheduler, trials=8, length=3)
    assert len(reached) == 8
    assert max(reached) == 3
    assert (min(reached) < 3) == (name not in ("none", "pbt", "pb2"))


def test_hyperband_halves_from_the_trials_on_that_are_said(local_ray: None) -> None:
    scheduler = SCHEDULERS["hyperband"]()
    least = next(trials for trials in range(1, 20) if scheduler.concern(trials, 3) is None)
    assert set(run_scheduler(scheduler, trials=least - 1, length=3)) == {3}
    assert min(run_scheduler(scheduler, trials=least, length=3)) < 3


def test_random_settings_need_no_library() -> None:
    assert Random.pins == ()
