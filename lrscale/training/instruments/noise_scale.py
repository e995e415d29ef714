"""The instrument that measures the gradient noise scale while a Trainer trains."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lrscale.errors import LrscaleError
from lrscale.laws.base import check_confidence
from lrscale.laws.noise_scale.estimate import noise_scale, noise_scale_course
from lrscale.laws.noise_scale.gradient_sums import GradientSums
from lrscale.laws.noise_scale.result import NoiseScale, RunNoiseScale
from lrscale.training.instruments.base import INSTRUMENTS, AbstractInstrument
from lrscale.training.instruments.batch_examples import BatchExamples
from lrscale.training.instruments.batch_split import CannotSplitError, added, part_gradients, split_batch, untouched
from lrscale.training.instruments.cadence import CALL_SECONDS, Cadence
from lrscale.training.instruments.gradient_norms import GradientNorms
from lrscale.training.instruments.gradient_table import GradientTable, MeasuredStep
from lrscale.training.instruments.layout_refusal import refusal
from lrscale.training.instruments.loss_scale import gradient_scale, loss_scale
from lrscale.training.instruments.micro_gradients import AdamDenominators, MicroGradients, Norms
from lrscale.training.instruments.noise_scale_fit import NoiseScaleFit
from lrscale.training.instruments.parameters import parameter_groups, trained_parameters
from lrscale.training.instruments.sum_exchange import SumExchange
from lrscale.training.stop import TrialStopped

EXCHANGE_EVERY = 100
"""Measured steps between exchanges with the other ranks. One takes 2 to 3 ms with two ranks on a CPU: its part
of each step is less than what the hooks take (docs/performance.md)."""
FIRST_EXCHANGE = 8
"""Measured steps before the first one, which chooses the share of the steps that is measured."""
LOGGED_STEPS = 500
"""Last measured steps that a logged noise scale stands on."""
_ON_LEAVES = ("on_before_backward", "on_after_backward")
"""Hooks of a step whose backwards are told apart by hooks on the parameters."""


@INSTRUMENTS.register("noise_scale")
class NoiseScaleInstrument(AbstractInstrument):
    """What happens at each hook of a Trainer; `lrscale.GradientNoiseScale` is its callback and documents it."""

    def __init__(
        self,
        *,
        preconditioned_every: int | None = 20,
        split_every: int = 32,
        parts: int = 8,
        budget: float | None = 0.015,
        examples: int | Callable[[Any], int] | None = None,
        confidence: float = 0.95,
        log: bool = False,
    ) -> None:
        for name, value, least in (
            ("preconditioned_every", 1 if preconditioned_every is None else preconditioned_every, 1),
            ("split_every", split_every, 1),
            ("parts", parts, 2),
            ("examples", examples if isinstance(examples, int) else 1, 1),
        ):
            if value < least:
                raise LrscaleError(f"{name} is {value}", hint=f"use at least {least}")
        if budget is not None and not 0 < budget < 1:
            raise LrscaleError(f"budget is {budget}", hint="use a share of the time between 0 and 1, or None")
        self._budget = budget
        self._confidence = check_confidence(confidence)
        self._preconditioned_every = preconditioned_every
        self._split_every = split_every
        self._parts = parts
        self._examples = BatchExamples(examples)
        self._log = log
        self.norms: GradientNorms = GradientNorms()
        self._reader: MicroGradients | None = None
        self._tables: list[GradientTable] = []
        self._ranks: SumExchange | None = None
        self._reason: str | None = "no fit has begun"
        self._fit = NoiseScaleFit()

    def result(self, *, since: int = 0) -> RunNoiseScale:
        """Return what the last fit said of its gradient noise; while it runs, up to the last exchange.

        Parameters
        ----------
        since : int, optional
            Optimizer step from which on steps count. Default 0. The gradients of the first steps are often so large
            that the averages over a whole run speak of them alone. The course is of the whole run.

        Returns
        -------
        RunNoiseScale
            Equal on every rank. Where nothing could be measured its status is ``not_measured``, with the reason.
        """
        plain, preconditioned = (*self._tables, None, None)[:2]
        missing = "no optimizer of Adam's kind had taken 5 steps when a step was measured"
        sums = self.sums
        own = {}
        if preconditioned is not None and preconditioned.sums() is not None:
            names = enumerate(self._fit.names)
            own = {name: self._estimate(preconditioned, place, since, missing) for place, name in names}
        return RunNoiseScale(
            total=self._estimate(plain, None, since),
            groups={name: self._estimate(plain, place, since) for place, name in enumerate(self._fit.names)},
            preconditioned=self._estimate(preconditioned, None, since, missing),
            preconditioned_groups=own,
            course=() if sums is None else noise_scale_course(sums, confidence=self._confidence),
            notes=tuple(self._closing_notes()),
        )

    @property
    def sums(self) -> GradientSums | None:
        """The measured steps, all parameters together; None where none was measured."""
        return self._tables[0].sums() if self._tables else None

    @property
    def share(self) -> float:
        """Share of the time of training on this rank that measuring took so far, by the instrument's own clock."""
        return self._fit.cadence.share

    @override
    def measurement(self) -> dict[str, Any]:
        sums = self.sums
        half = 0 if sums is None else int(sums.step[-1] + 1) // 2
        # The course would stand in the record twice.
        return {"whole": self.result().to_dict(), "late": {**self.result(since=half).to_dict(), "course": []}}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a measurement; the one of an earlier fit is forgotten."""
        self._take_off()
        self._fit = NoiseScaleFit(cadence=Cadence(self._budget, EXCHANGE_EVERY))
        self._tables = []
        self.rest(*_ON_LEAVES, "on_before_optimizer_step", "on_train_batch_end")
        self._reason = refusal(trainer, pl_module)
        if self._reason is None:
            self._fit.world_size = int(trainer.world_size)
            self._fit.device = trainer.strategy.root_device
            wrapped = getattr(trainer.strategy, "model", None)
            self._fit.bucket_view = bool(getattr(wrapped, "gradient_as_bucket_view", False))
            self._attach(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the loader, and at whether parameters were frozen, thawed or added since."""
        del pl_module
        self._fit.cadence.pause()
        self._examples.read(trainer.train_dataloader)
        if self._reader is not None and trained_parameters(trainer) != self._fit.trained:
            if self.sums is not None or any(len(table) for table in self._tables):
                self._fit.notes.append(
                    f"the trained parameters changed at step {trainer.global_step}; what came before is left out"
                )
            self._attach(trainer)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Measure the parts of the batch where the step itself will have but one micro-gradient."""
        fit, reader = self._fit, self._reader
        if reader is None:
            return
        began = perf_counter()
        fit.cadence.batch(began)
        examples = self._examples.of(batch, batch_idx)
        if examples is None:
            self._reason = "the loader does not say how many examples a batch holds; pass examples="
            self._take_off()
            return
        fit.batch_examples = examples
        fit.step = step = int(trainer.global_step)
        accumulate = int(trainer.accumulate_grad_batches)
        alone = fit.world_size == 1 and accumulate == 1
        fit.listening = not alone
        if not fit.backwards:
            self._measure(not alone and fit.cadence.due(step))
        # Behind buckets that are views, `grad` is overwritten while the backward still runs.
        fit.direct = accumulate == 1 and not fit.bucket_view
        self._listen(fit.measuring and not fit.direct)
        ready = perf_counter()
        fit.cadence.stand(ready - began + CALL_SECONDS)
        if fit.measuring and fit.direct:
            fit.precondition = self._wants_preconditioned()
            reader.open(direct=True, precondition=fit.precondition)
            fit.cadence.spend(perf_counter() - ready + CALL_SECONDS)
        if alone and not fit.gave_up and self._splits(step):
            fit.split_at = step
            self._measure_parts(reader, trainer, pl_module, batch, batch_idx)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Take the gradients of this backward, where another one of this step may follow."""
        del trainer, pl_module, loss
        fit, reader = self._fit, self._reader
        if reader is None or not fit.measuring:
            return
        began = perf_counter()
        if not fit.backwards:
            fit.precondition = self._wants_preconditioned()
        reader.open(direct=False, precondition=fit.precondition)
        fit.cadence.spend(perf_counter() - began + CALL_SECONDS)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Keep their norms."""
        del trainer, pl_module
        if self._reader is None or not self._fit.measuring:
            return
        began = perf_counter()
        self._close(self._reader)
        self._fit.cadence.spend(perf_counter() - began + CALL_SECONDS)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Complete the step with the norm of its mean gradient: unscaled by now, and not clipped yet."""
        del pl_module
        fit, reader = self._fit, self._reader
        if reader is None or not fit.measuring:
            return
        began = perf_counter()
        read = self.norms.of(trainer, optimizer, fit.step, self)
        if self.norms.every_step:
            # Measuring adds nothing to a reading that is made anyway.
            began = perf_counter()
        if fit.direct:
            self._close(reader)
        backwards, fit.backwards = fit.backwards, []
        accumulate = int(trainer.accumulate_grad_batches)
        if not 1 <= len(backwards) <= accumulate or reader.pieces:
            fit.odd_steps += 1
            reader.pieces = 0
            backwards = []
        if read is not None and backwards:
            mean = reader.placed(read, lambda: self.norms.leaves(trainer, optimizer))
            if fit.precondition:
                mean = reader.divided(mean)
        else:
            # Every rank adds a row for every step, or the ranks could not put their tables together.
            nothing = (torch.tensor(torch.nan, device=fit.device),)
            mean = Norms((0,), nothing, nothing if fit.precondition else None)
            backwards = [(1.0, mean)]
        # Lightning divides the loss by `accumulate` also where an epoch ends on fewer backwards.
        mean_factor = accumulate / len(backwards) / gradient_scale(trainer, optimizer)
        self._add(fit.step, backwards, mean, accumulate / loss_scale(trainer), mean_factor)
        fit.cadence.spend(perf_counter() - began + CALL_SECONDS, steps=1)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Begin an exchange with the other ranks when it is time, and take what came of it a batch later."""
        del outputs, batch, batch_idx
        fit, ranks = self._fit, self._ranks
        if ranks is None:
            return
        began = perf_counter()
        if not ranks.under_way:
            ranks.launch(fit.cadence.totals)
            fit.exchanges += 1
            if fit.world_size > 1:
                # By the end of the next batch the slowest rank has come by here, or is about to.
                fit.cadence.exchanged(perf_counter() - began + CALL_SECONDS, whole=False)
                return
        self.rest("on_train_batch_end")
        if self._reader is not None:
            self._reader.look()
        totals = ranks.land()
        if fit.listening:
            fit.cadence.settle(totals, int(trainer.accumulate_grad_batches))
        sums = self.sums
        if self._log and sums is not None:
            found = noise_scale(sums[-LOGGED_STEPS:], confidence=self._confidence)
            if found.value is not None:
                pl_module.log("noise_scale", found.value)
        fit.cadence.exchanged(perf_counter() - began + CALL_SECONDS, whole=True)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Leave the time of validation out of that of the steps."""
        del trainer, pl_module
        self._fit.cadence.pause()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Exchange the last steps."""
        del trainer, pl_module
        if self._ranks is not None:
            self._ranks.finish()
        self._take_off()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the module as it was; the other ranks can be asked only where all of them end here."""
        del trainer, pl_module
        if self._ranks is not None and (self._fit.world_size == 1 or isinstance(exception, TrialStopped)):
            self._ranks.finish()
        self._take_off()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the module as it was, whatever ended the fit."""
        del trainer, pl_module, stage
        self._take_off()

    def _attach(self, trainer: Any) -> None:
        self._take_off()
        self._tables = []
        self.norms.forget()
        self._fit.trained, self._fit.denominators = trained_parameters(trainer), None
        if not self._fit.trained:
            self._reason = "no optimizer has a parameter that requires a gradient"
            return
        self._fit.names = list(dict.fromkeys(name for name, _ in self._fit.trained))
        groups = [self._fit.names.index(name) for name, _ in self._fit.trained]
        by_identity = {id(leaf): leaf for _, leaves in parameter_groups(trainer) for leaf in leaves}
        leaves = [by_identity[identity] for _, identity in self._fit.trained]
        denominators = AdamDenominators(leaves, trainer.optimizers)
        self._tables = [GradientTable(groups)]
        if self._preconditioned_every is not None and denominators.possible:
            self._fit.denominators = denominators
            self._tables.append(GradientTable(groups))
        self._ranks = SumExchange(self._tables, self._fit.world_size, self._fit.device)
        self._reader = MicroGradients(leaves, self._fit.denominators)

    def _take_off(self) -> None:
        self._listen(False)
        if self._reader is not None:
            self._reader.detach()
        self._reader = self._ranks = None
        self._fit.backwards = []
        for table in self._tables:
            table.forget()

    def _measure(self, on: bool) -> None:
        """Measure the step that begins, or pass it over: Lightning then calls no hook for nothing."""
        if on != self._fit.measuring:
            (self.wake if on else self.rest)("on_before_optimizer_step")
        self._fit.measuring = on

    def _listen(self, on: bool) -> None:
        """Let hooks on the parameters see the gradients of each backward, where ``grad`` does not hold it alone."""
        if self._reader is not None and on != self._fit.on_leaves:
            self._reader.listen(on)
            (self.wake if on else self.rest)(*_ON_LEAVES)
            self._fit.on_leaves = on

    def _close(self, reader: MicroGradients) -> None:
        """Keep the norms of the backward that ended."""
        norms = reader.close()
        if norms is not None:
            self._fit.backwards.append((self._fit.batch_examples, norms))
        self._fit.cadence.spend(reader.take_seconds())

    def _splits(self, step: int) -> bool:
        last = self._fit.split_at
        waited = last is None or step - last >= self._split_every
        return waited and self._fit.cadence.affords(self._parts)

    def _wants_preconditioned(self) -> bool:
        own = self._fit.denominators
        if own is None or self._preconditioned_every is None:
            return False
        self._fit.turns += 1
        # Parts are measured rarely, and each time is worth both.
        due = not self._fit.listening or self._fit.turns % self._preconditioned_every == 0
        if not due or not own.ready():
            return False
        own.refresh()
        return True

    def _add(
        self,
        step: int,
        backwards: list[tuple[float, Norms]],
        mean: Norms,
        micro_factor: float | Tensor,
        mean_factor: float | Tensor,
    ) -> None:
        examples = tuple([size for size, _ in backwards])
        places = tuple([norms.places for _, norms in backwards] + [mean.places])
        one = MeasuredStep(step, examples, places, micro_factor, mean_factor)
        self._tables[0].add(one, [*(norm for _, norms in backwards for norm in norms.plain), *mean.plain])
        if mean.preconditioned is not None and len(self._tables) > 1:
            own = [norm for _, norms in backwards for norm in norms.preconditioned or ()]
            self._tables[1].add(one, [*own, *mean.preconditioned])
        wanted = (EXCHANGE_EVERY if self._fit.exchanges else FIRST_EXCHANGE) if self._fit.listening else 1
        if len(self._tables[0]) >= wanted:
            self.wake("on_train_batch_end")

    def _measure_parts(self, reader: MicroGradients, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        began = perf_counter()
        precondition = self._wants_preconditioned()
        found: list[tuple[float, Norms]] = []
        total: list[Tensor | None] = [None] * len(reader.parameters)
        try:
            rows = self._fit.batch_examples if self._examples.by_loader else None
            parts = split_batch(batch, self._parts, rows)
        except CannotSplitError as error:
            # The next batch may be another matter, and trying costs nothing.
            self._fit.refused_split = str(error)
            return
        try:
            pieces = [piece for piece, _ in parts]
            # An example weighs more in the mean of a part than in that of the batch, which the scaler's scale suits;
            # a step that is lost because large gradients overflow would bias the average.
            scale = float(loss_scale(trainer)) / len(parts)
            with untouched(trainer, module):
                every = part_gradients(trainer, module, pieces, batch_idx, reader.parameters, scale)
                for (_, share), gradients in zip(parts, every, strict=True):
                    examples = self._fit.batch_examples * share
                    norms = reader.norms(gradients, precondition=precondition)
                    if norms is None:
                        raise CannotSplitError("a part of a batch brings no gradient")
                    found.append((examples, norms))
                    total = [added(so_far, gradient) for so_far, gradient in zip(total, gradients, strict=True)]
        except CannotSplitError as error:
            self._fit.refused_split, self._fit.gave_up = str(error), True
            return
        except Exception as error:  # whatever a stranger's training_step does with a part of a batch
            self._fit.refused_split = f"training_step fails on a part of a batch, {type(error).__name__}: {error}"
            self._fit.gave_up = True
            return
        mean = reader.norms(total, precondition=precondition)
        if mean is not None:
            self._add(int(trainer.global_step), found, mean, 1.0, 1 / len(parts))
        self._fit.cadence.spend(perf_counter() - began, steps=1)

    def _estimate(
        self, table: GradientTable | None, group: int | None, since: int, missing: str | None = None
    ) -> NoiseScale:
        sums = None if table is None else table.sums(group)
        if sums is not None:
            return noise_scale(sums[int(np.searchsorted(sums.step, since)) :], confidence=self._confidence)
        refused = self._reason or self._fit.refused_split or self._fit.cadence.refusal
        reason = refused or missing or "no step with two micro-gradients ended"
        return NoiseScale.not_measured(reason, confidence=self._confidence)

    def _closing_notes(self) -> list[str]:
        notes = [*self._fit.notes, *([put_off] if (put_off := self._fit.cadence.refusal) else [])]
        infinite = self._tables[0].skipped - self._fit.odd_steps if self._tables else 0
        if infinite > 0:
            notes.append(f"{infinite} steps with a gradient that is not finite are left out")
        if self._fit.odd_steps:
            notes.append(
                f"{self._fit.odd_steps} steps are left out: they had more backwards than accumulate_grad_batches, or "
                "none, or a gradient came in pieces, as with reentrant checkpointing"
            )
        if self._fit.refused_split is not None and self.sums is not None:
            stopped = "measuring stopped" if self._fit.gave_up else "some batches are left out"
            notes.append(f"{stopped}: {self._fit.refused_split}")
        return notes
