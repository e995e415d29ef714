"""Memory: the largest per-device batch that trains and validates."""

from __future__ import annotations

from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.base import Interval
from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.store.record import Status
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.layouts.memory_search import MemoryAnswer, MemorySearch, Probe
from lrscale.study.specs import SAFE_LR, make_spec
from lrscale.study.words import memory_text
from lrscale.units import Duration, Layout

UNBOUNDED_PROBES = 12
"""Probes that a search without a bound is estimated to take: more doublings are rare."""


@final
class Memory(AbstractExperiment):
    """Trains a few steps and validates at growing per-device batches, each in fresh processes on all devices."""

    key: ClassVar[str] = "memory"
    title: ClassVar[str] = "Memory"
    question: ClassVar[str] = "How large a batch fits on a device?"
    # A machine that has run out of memory may kill a rank outright.
    waits_for_lost: ClassVar[bool] = False
    importance: ClassVar[int] = 40
    answers: ClassVar[frozenset[Status]] = frozenset({"out_of_memory"})

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.memory is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        return self._probed(context)[0]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        search = memory_search(context)
        return self._grown(context, None if search.cap is None else (search.cap // search.start).bit_length() + 2)

    @override
    def typical(self, context: Context) -> list[TrialSpec]:
        # Doubled up to the bound, which usually fits.
        search = memory_search(context)
        return self._grown(context, None if search.cap is None else (search.cap // search.start).bit_length())

    def _grown(self, context: Context, most: int | None) -> list[TrialSpec]:
        wanted, cap = self.plan(context), memory_search(context).cap
        most = UNBOUNDED_PROBES if most is None else most
        size = max((spec.layout.per_device_batch_size for spec in wanted if spec.layout is not None), default=1)
        while len(wanted) < most:
            size = min(2 * size, cap or 2 * size)
            wanted.append(self._spec(context, size))
        return wanted

    @override
    def survives_crashes(self, context: Context) -> bool:
        # A machine that has run out of memory may kill a rank outright. Before any size has run it may as well be the
        # module that is broken, and then the study must end with its message.
        return any(probe.ran for probe in self._probed(context)[1])

    @override
    def analyse(self, context: Context) -> Finding:
        specs, probes = self._probed(context)
        trials = context.finished(specs)
        answer = memory_search(context).answer(probes)
        rows = tuple(memory_row(trial) for trial in sorted(trials, key=lambda one: one.spec.global_batch_size))
        if not rows:
            return self._cannot_tell("No batch size was probed.", rows, answer, trials)
        if answer.largest is None:
            return self._cannot_tell(
                f"No per-device batch ran: even {rows[0]['per_device_batch_size']} did not ({rows[0]['reason']}).",
                rows,
                answer,
                trials,
            )
        settings = context.recipe.experiments.memory
        margin = 0.0 if settings is None else settings.margin
        if answer.size is None:
            return self._cannot_tell(
                f"A per-device batch of {answer.largest} ran, and no tested size leaves {100 * margin:.0f} % of the "
                f"memory free.",
                rows,
                answer,
                trials,
            )
        return Finding(
            key=self.key,
            title=self.title,
            status="ok",
            sentence=_sentence(answer, rows, margin),
            numbers=_numbers(answer),
            tables={"probes": rows},
            checks=tuple(_checks(answer, rows)),
            data=_data(answer, rows, margin),
            trial_ids=tuple(trial.trial_id for trial in trials),
        )

    def _cannot_tell(
        self, sentence: str, rows: tuple[dict[str, Any], ...], answer: MemoryAnswer, trials: list[Trial]
    ) -> Finding:
        return Finding(
            key=self.key,
            title=self.title,
            status="cannot_tell",
            sentence=sentence,
            tables={"probes": rows},
            checks=(
                Check(
                    name="a batch fits",
                    status="FAIL",
                    sentence=sentence,
                    remedy="a smaller model, activation checkpointing, a lower precision, or a smaller "
                    "experiments.memory.start or margin",
                ),
            )
            if rows
            else (),
            data=_data(answer, rows, 0.0),
            trial_ids=tuple(trial.trial_id for trial in trials),
        )

    def _probed(self, context: Context) -> tuple[list[TrialSpec], list[Probe]]:
        search = memory_search(context)
        wanted: list[TrialSpec] = []
        probes: list[Probe] = []
        size = search.next(probes)
        while size is not None:
            spec = self._spec(context, size)
            wanted.append(spec)
            trial = context.view.get(spec)
            if trial is None:
                break
            probes.append(probe_of(trial))
            size = search.next(probes)
        return wanted, probes

    def _spec(self, context: Context, size: int) -> TrialSpec:
        recipe = context.recipe
        settings = recipe.experiments.memory
        assert settings is not None
        layout = Layout(per_device_batch_size=size, devices=recipe.layout.devices, num_nodes=recipe.layout.num_nodes)
        return make_spec(
            recipe,
            peak_lr=SAFE_LR,
            batch_size=layout.global_batch_size,
            horizon=Duration(settings.steps, "steps"),
            schedule="constant",
            settings={},
            seed=0,
            validations=1,
            layout=layout,
            stop_on_divergence=False,
            instruments={"memory": {} if settings.limit is None else {"limit": settings.limit}},
            validation_follows=True,
        )


def memory_search(context: Context) -> MemorySearch:
    """Return the search that a recipe asks for, bounded by the user and by the data.

    A size above a rank's share of the training examples gives no whole batch, and one above its share of validation
    examples gives none where the loader drops the last.
    """
    recipe = context.recipe
    settings = recipe.experiments.memory
    assert settings is not None
    ranks = recipe.layout.devices * recipe.layout.num_nodes
    bounds = [recipe.layout.max_per_device_batch_size]
    if context.training_examples is not None:
        bounds.append(context.training_examples // ranks)
    validation = context.facts.get("validation_examples")
    if isinstance(validation, int) and context.facts.get("validation_drops_last"):
        bounds.append(validation // ranks)
    known = [bound for bound in bounds if bound]
    return MemorySearch(start=settings.start, cap=min(known, default=None), margin=settings.margin)


def probe_of(trial: Trial) -> Probe:
    """Return what a finished probe says."""
    assert trial.spec.layout is not None
    seen = trial.record.measurements.get("memory", {})
    ran = bool(seen.get("finished")) and trial.record.steps >= trial.spec.horizon
    return Probe(
        size=trial.spec.layout.per_device_batch_size,
        ran=ran and not seen.get("alloc_retries"),
        peak=seen.get("peak") if ran else None,
        capacity=seen.get("capacity"),
    )


def memory_row(trial: Trial) -> dict[str, Any]:
    """Return a probe as a row of the finding."""
    probe, seen, layout = probe_of(trial), trial.record.measurements.get("memory", {}), trial.spec.layout
    assert layout is not None
    return {
        "per_device_batch_size": probe.size,
        "devices": layout.devices,
        "num_nodes": layout.num_nodes,
        "ran": probe.ran,
        "status": trial.record.status,
        "peak": probe.peak,
        "allocated": seen.get("allocated") or None,
        "alloc_retries": seen.get("alloc_retries", 0),
        "capacity": probe.capacity,
        "kind": seen.get("kind"),
        "ended_in": None if probe.ran else seen.get("ended_in"),
        "validated": bool(seen.get("validated")),
        "reason": _why(trial),
        "seconds": trial.record.timing.get("total"),
        "trial_id": trial.trial_id,
    }


def _why(trial: Trial) -> str | None:
    seen = trial.record.measurements.get("memory", {})
    if seen.get("alloc_retries"):
        return f"it ran only by flushing the allocator's cache {seen['alloc_retries']} times"
    return trial.record.reason


def _sentence(answer: MemoryAnswer, rows: tuple[dict[str, Any], ...], margin: float) -> str:
    devices = rows[0]["devices"] * rows[0]["num_nodes"]
    where = "one device" if devices == 1 else f"each of {devices} devices"
    told = f"A batch of {answer.size} on {where} trains and validates"
    used = next((row["peak"] for row in rows if row["per_device_batch_size"] == answer.size), None)
    if used is None and answer.fit.ok and answer.size is not None:
        used = answer.fit.predict(answer.size)[0]
    if used is not None and answer.capacity is not None:
        told += f" in {memory_text(used)} of {memory_text(answer.capacity)} on the worst rank"
    if answer.size != answer.largest:
        told += f"; {answer.largest} ran too, without a margin of {100 * margin:.0f} %"
    if answer.smallest_failed is not None:
        failed = next(row for row in rows if row["per_device_batch_size"] == answer.smallest_failed)
        place = f" in its {failed['ended_in']}" if failed["ended_in"] in ("forward", "backward", "validation") else ""
        told += f"; {answer.smallest_failed} did not fit{place}"
    elif answer.at_cap:
        told += "; larger ones are ruled out by the data or by layout.max_per_device_batch_size"
    return f"{told} ({len(rows)} probes)."


def _numbers(answer: MemoryAnswer) -> dict[str, Quantity]:
    assert answer.largest is not None
    above = None if answer.smallest_failed is None else answer.smallest_failed - 1
    found = {
        "max_per_device_batch_size": Quantity(value=answer.size, unit="examples"),
        "largest_that_ran": Quantity(value=answer.largest, lo=answer.largest, hi=above, unit="examples"),
    }
    for name, value, interval in (
        ("fixed_memory", answer.fit.fixed, answer.fit.fixed_interval),
        ("memory_per_example", answer.fit.per_example, answer.fit.per_example_interval),
    ):
        ends = interval or Interval(None, None, answer.fit.confidence)
        found[name] = Quantity(value=value, lo=ends.lo, hi=ends.hi, unit="bytes", confidence=ends.confidence)
    return found


def _checks(answer: MemoryAnswer, rows: tuple[dict[str, Any], ...]) -> list[Check]:
    found = []
    odd = [row for row in rows if not row["ran"] and row["status"] != "out_of_memory" and not row["alloc_retries"]]
    if odd:
        found.append(
            Check(
                name="probes end for want of memory",
                status="WARNING",
                sentence=f"{len(odd)} of {len(rows)} probes ended for another reason: batch "
                f"{odd[0]['per_device_batch_size']} {odd[0]['status'].replace('_', ' ')}: {odd[0]['reason']}",
                remedy="see the log of that trial; the sizes above it were not probed",
            )
        )
    if not any(row["validated"] for row in rows if row["ran"]):
        found.append(
            Check(
                name="probes validate",
                status="WARNING",
                sentence="No probe ran a validation batch, so that only training is known to fit.",
                remedy="give the task validation data",
            )
        )
    if any(row["kind"] == "cpu" for row in rows):
        found.append(
            Check(
                name="memory of the host",
                status="INFO",
                sentence="On CPU the peak of the resident set stands for the memory, libraries included.",
            )
        )
    return found


def _data(answer: MemoryAnswer, rows: tuple[dict[str, Any], ...], margin: float) -> dict[str, Any]:
    band = []
    if answer.fit.ok and rows:
        last = max(row["per_device_batch_size"] for row in rows)
        for step in range(25):
            size = last * step / 24
            value, interval = answer.fit.predict(size)
            band.append({"size": size, "value": value, "lo": interval.lo, "hi": interval.hi})
    return {
        "rows": list(rows),
        "size": answer.size,
        "largest": answer.largest,
        "smallest_failed": answer.smallest_failed,
        "at_cap": answer.at_cap,
        "capacity": answer.capacity,
        "margin": margin,
        "law": answer.fit.to_dict(),
        "band": band,
    }


EXPERIMENTS.register(Memory.key)(Memory())
