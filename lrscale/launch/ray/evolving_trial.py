"""A member of a population that Ray Tune evolves: segments of training, each an ordinary trial of the study."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lrscale.errors import StudyError
from lrscale.launch.base import TrialRequest
from lrscale.launch.ray.tuned_trial import ENDED, LEARNED_NOTHING, TrialPlan, Work, await_turn
from lrscale.ray_tune import LOSS, TIME
from lrscale.store import StartState, StudyFolder, TrialRecord, TrialSpec
from lrscale.store.files import to_json, write_atomically

STATE = "final_state"
"""Instrument that keeps the state in which a segment ends."""
SEGMENT = "segment"
"""Key of a result under which the id of its trial is told."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a member's training at one LR and batch size."""

    trial_id: str
    lr: float
    batch_size: int
    examples: int
    loss: float | None
    """At its end; None where it diverged, after which the member begins again from where the segment began."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Where a member of the population is: what it has trained, also as another member, and the state that it has."""

    course: tuple[Segment, ...] = ()
    start: StartState | None = None

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint of Tune; the state itself stays in the study."""
        (folder / "member.json").write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Member:
        """Read what `save` wrote."""
        plain = json.loads((folder / "member.json").read_text(encoding="utf-8"))
        start = None if plain["start"] is None else StartState(**plain["start"])
        return cls(course=tuple(Segment(**one) for one in plain["course"]), start=start)


@final
class EvolvingTrial:
    """What Ray Tune calls for each member of a population.

    Parameters
    ----------
    plan : TrialPlan
        Of the segments: specs of their length, with a constant LR.
    segments : int
        Of a member.
    warmup_steps : mapping of int to int
        Of the first segment, by batch size.
    """

    __name__ = "member"

    def __init__(self, plan: TrialPlan, segments: int, warmup_steps: Mapping[int, int]) -> None:
        self.plan = plan
        self.segments = segments
        self.warmup_steps = dict(warmup_steps)

    def __call__(self, config: Mapping[str, Any]) -> None:
        """Train segment after segment, from the state that Tune gives, and report the loss at the end of each."""
        from ray import tune

        member, checkpoint = Member(), tune.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                member = Member.load(Path(folder))
        while len(member.course) < self.segments:
            spec = self.spec(config, member)
            member = self._after(member, spec, self._record(spec, tune.get_context().get_trial_id()))
            last = member.course[-1]
            result = {
                LOSS: LEARNED_NOTHING if last.loss is None else last.loss,
                TIME: len(member.course),
                SEGMENT: last.trial_id,
            }
            with tempfile.TemporaryDirectory(prefix="lrscale-") as scratch:
                member.save(Path(scratch))
                tune.report(result, checkpoint=tune.Checkpoint.from_directory(scratch))

    def spec(self, config: Mapping[str, float], member: Member) -> TrialSpec:
        """Return the spec of a member's next segment.

        Its seed counts the segments: a trial that goes on from a state begins its own order of examples, and the same
        one again would train on the same examples.
        """
        number = len(member.course)
        own = self.plan.spec(config)
        warmup = self.warmup_steps[own.global_batch_size] if member.start is None and number == 0 else 0
        return dataclasses.replace(
            own,
            seed=own.seed + number,
            start=member.start,
            schedule=dataclasses.replace(own.schedule, warmup_steps=warmup),
            instruments={**own.instruments, STATE: {}},
        )

    def _after(self, member: Member, spec: TrialSpec, record: TrialRecord) -> Member:
        loss, start = record.final_loss, member.start
        if loss is not None:
            sha256 = record.measurements[STATE]["sha256"]
            path = StudyFolder(self.plan.study).trial_path(spec.trial_id) / record.measurements[STATE]["file"]
            start = StartState(path=str(path), sha256=sha256)
        segment = Segment(
            trial_id=spec.trial_id,
            lr=spec.peak_lr,
            batch_size=spec.global_batch_size,
            examples=spec.examples,
            loss=loss,
        )
        return Member(course=(*member.course, segment), start=start)

    def _record(self, spec: TrialSpec, name: str) -> TrialRecord:
        store = StudyFolder(self.plan.study)
        folder = store.trial_path(spec.trial_id)
        if await_turn(store, self.plan.claims, spec, name):
            size = spec.global_batch_size
            request = TrialRequest(
                spec=spec,
                layout=self.plan.layouts[size],
                folder=store.begin_trial(spec),
                instruments=self.plan.instruments[size],
            )
            work = Work(self.plan.settings, request)
            work.start()
            work.join()
            write_atomically(folder / ENDED, to_json(work.outcome()))
            if work.record is None:
                raise StudyError("the segment could not be run; the driver has been told why")
            return work.record
        record = store.record(spec.trial_id)
        assert record is not None
        return record
