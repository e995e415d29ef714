"""The search for the largest batch: right answers, few probes, and no size that was not reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import TrialsFailedError
from lrscale.launch import TrialRequest
from lrscale.launch.progress import AbstractProgress, SilentProgress
from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, Trial, TrialRecord, TrialSpec
from lrscale.study import Study
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.experiments.memory import memory_row, probe_of
from lrscale.study.finding import Finding
from lrscale.study.layouts.memory_search import MemoryAnswer, MemorySearch, Probe, largest_that_fits
from lrscale.study.specs import trial_layout
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

GIB = 2.0**30


def search(
    probe: Callable[[int], Probe], *, start: int = 4, cap: int | None = None, margin: float = 0.1
) -> tuple[list[Probe], MemoryAnswer]:
    made = MemorySearch(start=start, cap=cap, margin=margin)
    probes: list[Probe] = []
    while (size := made.next(probes)) is not None:
        assert size not in [probe.size for probe in probes]
        assert cap is None or size <= cap
        probes.append(probe(size))
        assert len(probes) <= 40
    return probes, made.answer(probes)


def limiter(most: int) -> Callable[[int], Probe]:
    """Return a device that runs out above a size, whatever its memory reads."""
    return lambda size: Probe(size=size, ran=size <= most, peak=GIB, capacity=64 * GIB)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 11, 12, 17, 31])
def test_a_bare_limit_is_found_exactly(most: int) -> None:
    probes, answer = search(limiter(most), margin=0.0)
    assert (answer.size, answer.largest, answer.smallest_failed) == (most, most, most + 1)
    assert len(probes) <= 9


def test_a_limit_below_one_example_has_no_answer() -> None:
    probes, answer = search(limiter(0))
    assert [probe.size for probe in probes] == [4, 2, 1]
    assert answer.size is None


def test_a_margin_is_kept_below_a_size_that_failed() -> None:
    _, answer = search(limiter(20), margin=0.1)
    # 0.9 x 21, the smallest size that failed.
    assert (answer.largest, answer.size) == (20, 18)


def test_the_cap_ends_the_search_and_is_probed_itself() -> None:
    probes, answer = search(limiter(10**6), cap=100)
    assert probes[-1].size == 100
    assert answer.at_cap
    assert answer.size == 100


def test_a_size_that_only_thrashes_is_not_taken() -> None:
    def probe(size: int) -> Probe:
        return Probe(size=size, ran=size <= 48, peak=GIB * (4 + size / 2), capacity=80 * GIB)

    _, answer = search(probe)
    assert answer.largest == 48


@given(
    fixed=st.floats(0.05, 0.8),
    per_example=st.floats(1e-4, 0.2),
    margin=st.sampled_from([0.0, 0.05, 0.1, 0.3]),
    start=st.sampled_from([1, 4, 16]),
    cap=st.none() | st.integers(1, 3000),
    noise=st.floats(0.0, 2e-3),
)
def test_on_a_device_whose_memory_is_linear_the_answer_is_right_and_came_from_few_probes(
    fixed: float, per_example: float, margin: float, start: int, cap: int | None, noise: float
) -> None:
    def peak(size: int) -> float:
        # A deterministic wobble stands for the allocator's rounding.
        return fixed + per_example * size + noise * ((size * 7919) % 13 / 6 - 1)

    def probe(size: int) -> Probe:
        return Probe(size=size, ran=peak(size) <= 1, peak=peak(size) if peak(size) <= 1 else None, capacity=1.0)

    probes, answer = search(probe, start=start, cap=cap, margin=margin)
    ran = [one.size for one in probes if one.ran]
    assert answer.largest == max(ran, default=None)
    true = int((1 - margin - fixed) / per_example) if per_example else 0
    if answer.size is None:
        # Nothing ran, or nothing that ran leaves the margin.
        assert true < max(1, min(start, cap or start)) or peak(1) > 1 - margin
        return
    assert answer.size <= max(ran)
    assert peak(answer.size) <= (1 - margin) + 2 * noise + 1e-9
    assert len(probes) <= 14
    best = min(true, cap or true)
    if noise < 1e-4 and margin and best > 40:
        assert answer.size >= best / (1 + 1 / 16) * 0.97 - 1


def test_the_line_saves_probes_and_failures() -> None:
    def probe(size: int) -> Probe:
        peak = 10 * GIB + 0.05 * GIB * size
        return Probe(size=size, ran=peak <= 80 * GIB, peak=peak if peak <= 80 * GIB else None, capacity=80 * GIB)

    guided, answer = search(probe)
    # (0.9 x 80 - 10) / 0.05 = 1240; sizes there are told apart to 64, and 1280 leaves less than the margin.
    assert answer.size == 1216
    assert all(one.ran for one in guided)
    blind, _ = search(lambda size: Probe(size=size, ran=size <= 1400, peak=None, capacity=None))
    assert len(guided) <= 7 < len(blind)


def recipe(memory: Mapping[str, Any], **layout: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "probes",
            "task": {"model": {"class_path": "shop.Net"}},
            "layout": {"devices": 2, **layout},
            "experiments": {"memory": dict(memory)},
        }
    )


def finish(asked: Recipe, most: int, facts: Mapping[str, Any]) -> tuple[Context, list[TrialSpec]]:
    """Answer every probe of a study as a limiter would, one after the other."""
    trials: dict[str, Trial] = {}
    context = Context(
        recipe=asked, view=StudyView(trials, lambda _: None), facts=facts, findings={}  # type: ignore[arg-type]
    )  # fmt: skip
    experiment = EXPERIMENTS["memory"]
    while True:
        specs = experiment.plan(context)
        missing = [spec for spec in specs if spec.trial_id not in trials]
        if not missing:
            return context, specs
        for spec in missing:
            assert spec.layout is not None
            size = spec.layout.per_device_batch_size
            seen = {"finished": size <= most, "peak": int(GIB), "capacity": int(64 * GIB), "kind": "cuda"}
            record = TrialRecord(
                trial_id=spec.trial_id,
                status="completed" if size <= most else "out_of_memory",
                reason=None if size <= most else "OutOfMemoryError: CUDA out of memory",
                steps=spec.horizon if size <= most else 1,
                measurements={"memory": {**seen, "validated": True, "ended_in": None if size <= most else "backward"}},
            )
            trials[spec.trial_id] = Trial(spec, record)


def test_probes_train_and_validate_on_all_devices_with_the_layout_pinned() -> None:
    context, specs = finish(recipe({"limit": "4GiB", "steps": 2}), 24, {})
    for spec in specs:
        assert spec.layout is not None
        assert (spec.layout.devices, spec.layout.accumulate, spec.horizon) == (2, 1, 2)
        assert spec.instruments == {"memory": {"limit": 4 * 2**30}}
        assert spec.validate_every is not None and spec.validation_follows
    finding = EXPERIMENTS["memory"].analyse(context)
    assert finding.numbers["largest_that_ran"].value == 24
    assert finding.numbers["largest_that_ran"].hi == 24
    assert "25 did not fit in its backward" in finding.sentence
    assert {row["per_device_batch_size"] for row in finding.tables["probes"]} == {
        spec.layout.per_device_batch_size for spec in specs if spec.layout is not None
    }


@pytest.mark.parametrize(
    ("layout", "facts", "most"),
    [
        ({"max_per_device_batch_size": 48}, {}, 48),
        ({}, {"training_examples": 101}, 50),
        ({}, {"training_examples": 1000, "validation_examples": 60, "validation_drops_last": True}, 30),
        ({}, {"training_examples": 1000, "validation_examples": 60, "validation_drops_last": False}, 500),
    ],
)
def test_no_probe_is_larger_than_the_user_or_the_data_allow(
    layout: dict[str, Any], facts: dict[str, Any], most: int
) -> None:
    context, specs = finish(recipe({}, **layout), 10**6, facts)
    sizes = [spec.layout.per_device_batch_size for spec in specs if spec.layout is not None]
    assert max(sizes) == most
    finding = EXPERIMENTS["memory"].analyse(context)
    assert finding.numbers["max_per_device_batch_size"].value == most
    assert finding.data["at_cap"]


def test_where_no_batch_fits_the_finding_says_so(tmp_path: Path) -> None:
    context, _ = finish(recipe({}), 0, {})
    finding = EXPERIMENTS["memory"].analyse(context)
    assert finding.status == "cannot_tell"
    assert finding.sentence.startswith("No per-device batch ran: even 1 did not")


def measured(status: str, **memory: Any) -> Trial:
    spec = finish(recipe({}), 10**6, {"training_examples": 8})[1][0]
    record = TrialRecord(
        trial_id=spec.trial_id, status=status, steps=spec.horizon, measurements={"memory": memory}  # type: ignore[arg-type]
    )  # fmt: skip
    return Trial(spec, record)


def test_a_probe_that_flushed_the_cache_to_go_on_has_not_run() -> None:
    thrashed = probe_of(measured("completed", finished=True, peak=GIB, capacity=2 * GIB, alloc_retries=3))
    assert (thrashed.ran, thrashed.peak) == (False, GIB)
    assert memory_row(measured("completed", finished=True, peak=GIB, alloc_retries=3))["reason"] == (
        "it ran only by flushing the allocator's cache 3 times"
    )
    assert probe_of(measured("completed", finished=True, peak=GIB, alloc_retries=0)).ran


def test_a_probe_whose_ranks_did_not_agree_at_the_end_has_not_run() -> None:
    assert not probe_of(measured("completed", finished=False, peak=GIB)).ran
    # At a learning rate that trains nothing a module may still end above its start: its memory is what was asked.
    assert probe_of(measured("diverged", finished=True, peak=GIB)).ran


class Crashing(SyntheticLauncher):
    """A machine whose kernel kills a rank above a size, and whose memory is measured below."""

    def __init__(self, most: int) -> None:
        super().__init__(SyntheticStudy())
        self.most = most

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Answer each probe."""
        for request in requests:
            size = request.layout.per_device_batch_size
            if size > self.most:
                reason = (
                    "rank 1 was ended by SIGKILL, as the kernel does when memory runs out, without leaving a result"
                )
                yield TrialRecord(trial_id=request.spec.trial_id, status="crashed", reason=reason, retryable=True)
                continue
            seen = {"finished": True, "peak": int(GIB), "capacity": int(64 * GIB), "kind": "cpu", "validated": True}
            yield TrialRecord(
                trial_id=request.spec.trial_id,
                status="completed",
                steps=request.spec.horizon,
                measurements={"memory": seen},
            )


def test_a_rank_that_the_kernel_kills_ends_its_probe_and_not_the_study(tmp_path: Path) -> None:
    study = Study(recipe({"margin": 0}), StudyFolder(tmp_path / "a"))
    (finding,) = study.run(Crashing(12), experiments=["memory"], progress=SilentProgress()).findings
    assert finding.numbers["max_per_device_batch_size"].value == 12
    assert next(check for check in finding.checks if check.status == "WARNING").name == "probes end for want of memory"
    broken = Study(recipe({"margin": 0}), StudyFolder(tmp_path / "b"))
    with pytest.raises(TrialsFailedError, match="SIGKILL"):
        broken.run(Crashing(0), experiments=["memory"], progress=SilentProgress())


def test_trials_of_other_experiments_put_no_more_on_a_device_than_fits() -> None:
    asked = recipe({}, max_per_device_batch_size=64)
    spec = TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=0.1, global_batch_size=96, horizon=9, seed=0
    )  # fmt: skip
    assert trial_layout(asked, spec).per_device_batch_size == 48
    within = trial_layout(asked, spec, largest_that_fits({"memory": memory_finding(20)}))
    assert (within.per_device_batch_size, within.accumulate, within.devices) == (16, 3, 2)
    assert trial_layout(asked, spec, largest_that_fits({"memory": memory_finding(None)})).per_device_batch_size == 48


def memory_finding(size: int | None) -> Finding:
    status: Any = "cannot_tell" if size is None else "ok"
    return Finding(key="memory", title="Memory", status=status, sentence="Probed.", data={"size": size})
