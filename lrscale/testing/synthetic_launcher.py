"""A launcher whose trials follow a stated truth, for tests of what plans and analyses trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import override

from lrscale.launch import AbstractLauncher, LaunchSettings, TrialRequest
from lrscale.launch.progress import AbstractProgress
from lrscale.stoppers import Ended, LossWatch
from lrscale.store import STOPPER, BranchPoint, Trajectory, TrialRecord, TrialSpec
from lrscale.store.states import ABOUT, has_state, partial_path, publish_state, state_path
from lrscale.store.trajectory import PARQUET_NAME
from lrscale.testing.synthetic import FloatArray, SyntheticStudy, _record, _trajectory
from lrscale.units import Layout

FACTS = {
    "optimizers": ["AdamW"],
    "group_lrs": [1e-3],
    "reference_lr": 1e-3,
    "parameters": 12_345,
    "batch_size_home": "data.init_args.batch_size",
    "training_examples": 1_000_000,
    "data_source": "examples",
    "has_validation": True,
    "notes": [],
}


class SyntheticLauncher(AbstractLauncher):
    """Answers each trial at once from the surface of a `SyntheticStudy`.

    It trains nothing: it is for tests of planning, resuming and analysing, whose right answer must be known.

    Parameters
    ----------
    study : SyntheticStudy
        Its truth and noise; its own lists of trials are not used.
    stop_after : int or None, optional
        Trials whose records are handed on; the next one ends in a KeyboardInterrupt, as Ctrl-C would end it, its
        trajectory written and its record not. Default None: all.
    """

    def __init__(self, study: SyntheticStudy, *, stop_after: int | None = None) -> None:
        super().__init__(LaunchSettings(root=Path()))
        self._study = study
        self._stop_after = stop_after
        self.ran: list[str] = []
        """Ids of the trials that have run, in their order."""

    @override
    def __enter__(self) -> SyntheticLauncher:
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace

    @override
    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for request in requests:
            if request.may_start is not None and not request.may_start():
                continue
            progress.trial_started(request.spec, request.layout)
            columns, status = _trajectory(self._study, request.spec, request.layout)
            columns, ended = _stopped(request.spec, columns)
            pq.write_table(pa.table(columns), request.folder / PARQUET_NAME)
            self.ran.append(request.spec.trial_id)
            if self._stop_after is not None and len(self.ran) > self._stop_after:
                raise KeyboardInterrupt
            record = _record(self._study, request.spec, request.layout, columns, "stopped" if ended else status)
            record = self.adjusted(request.spec, _branched(request, columns, record))
            if ended is not None:
                measurements = {**record.measurements, STOPPER: ended.to_dict()}
                record = dataclasses.replace(record, reason=ended.reason, measurements=measurements)
            yield record

    def adjusted(self, spec: TrialSpec, record: TrialRecord) -> TrialRecord:
        """Return the record that a trial leaves, for tests whose truth goes beyond the study's. Default: as it is."""
        del spec
        return record

    @override
    def inspect(self, job: Mapping[str, Any], layout: Layout, folder: Path) -> dict[str, Any]:
        del job, layout, folder
        return dict(FACTS)


def _stopped(spec: TrialSpec, columns: dict[str, FloatArray]) -> tuple[dict[str, FloatArray], Ended | None]:
    """Return the rows up to where the trial's stopper ends it, and where that is."""
    watch = LossWatch.of(spec.stopper, spec.horizon)
    if watch is None:
        return columns, None
    steps, losses = Trajectory(columns).points("val_loss")
    judged = (watch.judge(int(step), float(loss)) for step, loss in zip(steps, losses, strict=True))
    ended = next((one for one in judged if one is not None), None)
    if ended is None:
        return columns, None
    kept = columns["step"] <= ended.step
    return {name: column[kept] for name, column in columns.items()}, ended


def _branched(request: TrialRequest, columns: dict[str, FloatArray], record: TrialRecord) -> TrialRecord:
    """Keep the states that are asked for, and count of a branch its own steps."""
    spec = request.spec
    for position in request.keep:
        if position <= columns["step"][-1]:
            state = state_path(request.folder.parent, BranchPoint(trial_id=spec.trial_id, position=position))
            partial_path(state).mkdir(parents=True, exist_ok=True)
            (partial_path(state) / ABOUT).write_text("{}", encoding="utf-8")
            publish_state(state)
    if spec.branch is None:
        return record
    if not has_state(request.folder.parent, spec.branch):
        gone = f"trial {spec.branch.trial_id} has kept no state after {spec.branch.position} base steps"
        return dataclasses.replace(record, status="crashed", final_loss=None, reason=gone, retryable=True)
    own = max(1, record.steps - spec.branch.position)
    return dataclasses.replace(record, steps=own, examples=own * spec.global_batch_size)
