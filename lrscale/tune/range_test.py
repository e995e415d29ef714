"""The range test of a live module, confirmed by short runs at fixed LR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch

from lrscale.errors import LrscaleError, TaskError
from lrscale.laws import FitStatus, analyse_range_curves
from lrscale.laws.range_test.confirm import ConfirmSettings, confirm, next_runs
from lrscale.laws.range_test.confirmation import FixedRun
from lrscale.laws.range_test.staircase import rung_means
from lrscale.schedules import build_schedule
from lrscale.training.flavour import flavour_of
from lrscale.training.trial import RAMP_PATIENCE
from lrscale.tune.kept import Kept
from lrscale.tune.live_data import LiveData
from lrscale.tune.result import RangeCurve, RangeFamily, RangeTestResult
from lrscale.tune.runs import LiveRuns, RunOutcome
from lrscale.tune.surroundings import untouched_surroundings
from lrscale.tune.trainer_settings import TrainerSettings, read_settings
from lrscale.units import Layout

Says = Callable[[str], object]


def range_test(
    model: Any,
    data: Any = None,
    *,
    val_data: Any = None,
    trainer: Any = None,
    batch_sizes: Sequence[int] | None = None,
    seeds: int | Sequence[int] = 3,
    lr_min: float = 1e-7,
    lr_max: float = 10.0,
    steps: int = 100,
    hold: int = 1,
    confirm: bool = True,
    confirm_steps: int | None = None,
    monitor: str | None = None,
    mode: Literal["min", "max"] = "min",
    optimizer: int | None = None,
    optimizer_state: bool = False,
    progress: Says | None = None,
) -> RangeTestResult:
    """Find the learning rate of a module as it stands now, and leave everything as it was.

    Ramps of the LR, one a seed, bracket it; then short runs at fixed LR inside the bracket decide. All begin from the
    module's present weights: fresh, in the middle of training, or loaded from a checkpoint. Seeds differ in the order
    of the examples and in what the module draws. Each run has optimizers from ``configure_optimizers`` and a Trainer
    of its own without loggers, checkpoints and callbacks; ratios between parameter groups are kept, and the module's
    schedulers stand still. Parameters, buffers, gradients, modes, hooks and attributes of module and data, and all
    random states are the same afterwards, to the bit, also after an exception.

    Parameters
    ----------
    model : LightningModule
        Of ``lightning.pytorch`` or ``pytorch_lightning``.
    data : LightningDataModule, DataLoader, or lists and dicts of loaders, optional
        As ``Trainer.fit`` takes them. Default None: those of `trainer`, else the module's own.
    val_data : DataLoader or lists of them, optional
        Where `data` is a loader. Default None: a tenth of the training examples is held back, if the module validates.
    trainer : Trainer, optional
        Read for precision, accelerator, devices, strategy, accumulation and clipping; never fitted or changed. Default
        None: one device, or DDP over the process group that this process is a rank of. Under DDP every rank makes this
        call and gets the same result.
    batch_sizes : sequence of int, optional
        Global batch sizes, in examples. Default None: the one that loader and Trainer make.
    seeds : int or sequence of int, optional
        How many ramps, or which seeds. Default 3.
    lr_min, lr_max : float, optional
        Ends of the ramp, for the first parameter group. Default 1e-7 and 10.
    steps : int, optional
        Rungs of a ramp, at least 15. Default 100.
    hold : int, optional
        Optimizer steps on each rung. Default 1. Above 1 the mean over the second half of a rung is its point.
    confirm : bool, optional
        Whether runs at fixed LR decide. Default True. Without them nothing here is more than a bracket.
    confirm_steps : int, optional
        Steps of such a run. Default None: those of a ramp.
    monitor : str, optional
        A logged value to go by, of the training step or of validation; the latter validates at every rung. Default
        None: ramps go by the training loss, runs at fixed LR by the validation loss where there is one.
    mode : {"min", "max"}, optional
        Whether `monitor` is to be small or large. Default "min".
    optimizer : int, optional
        Which optimizer's LR is moved, the others keeping theirs. Default None: all of them in proportion.
    optimizer_state : bool, optional
        Begin every run with the moments of the optimizers of `trainer`, which has fitted. Default False: fresh.
    progress : callable, optional
        Told a line after each run, on the first rank; ``print``, for example. Default None.

    Returns
    -------
    RangeTestResult
        ``result.lr`` is the confirmed LR or None; ``print(result)`` says why, ``result.plot()`` draws it.

    Raises
    ------
    LrscaleError
        When an argument is out of range, the module has no optimizer, ranks are missing, or the model is sharded.

    References
    ----------
    .. [1] Smith. "Cyclical Learning Rates for Training Neural Networks." arXiv:1506.01186 (2015).

    Examples
    --------
    >>> from lrscale.zoo import Digits, DigitsMLP
    >>> result = range_test(DigitsMLP(width=16), Digits(), seeds=1, steps=40, confirm=False)
    >>> lo, hi = result.families[0].finding.bracket
    >>> 1e-5 < lo < 1e-1
    True
    """
    plan = _Plan(
        seeds=_seeds(seeds),
        lr_min=lr_min,
        lr_max=lr_max,
        steps=steps,
        hold=hold,
        confirm=confirm,
        confirm_steps=steps * hold if confirm_steps is None else confirm_steps,
        monitor=monitor,
        mode=mode,
        progress=progress or (lambda line: None),
    )
    flavour = flavour_of(type(model))
    settings = read_settings(trainer, flavour)
    states = _states(trainer) if optimizer_state else []
    data, val_data = _data_of(model, data, val_data, trainer)
    if optimizer is not None and optimizer < 0:
        raise LrscaleError(f"optimizer must be at least 0, not {optimizer}")
    live = LiveData(model, data, val_data, flavour)
    with untouched_surroundings(_device(settings)):
        # The data module is put back at the end alone: between runs it stays set up.
        kept_data = Kept(live.datamodule)
        kept = Kept(model, *live.loaders)
        runs = LiveRuns(model, live, settings, flavour, kept, optimizer=optimizer, optimizer_states=states)
        try:
            return _Test(runs, live, settings, plan).result(batch_sizes)
        except TaskError as error:
            # Tasks are written in recipes; here the same things are arguments.
            raise LrscaleError(_as_argument(error.message), hint=_as_argument(error.hint)) from error
        finally:
            try:
                live.close()
            finally:
                kept_data.restore()
                kept.restore()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    seeds: tuple[int, ...]
    lr_min: float
    lr_max: float
    steps: int
    hold: int
    confirm: bool
    confirm_steps: int
    monitor: str | None
    mode: str
    progress: Says

    def __post_init__(self) -> None:
        if not 0 < self.lr_min < self.lr_max < math.inf:
            raise LrscaleError(f"a ramp from {self.lr_min} to {self.lr_max}", hint="0 < lr_min < lr_max must hold")
        for name, least in (("steps", 15), ("hold", 1), ("confirm_steps", 1)):
            if getattr(self, name) < least:
                raise LrscaleError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.mode not in ("min", "max"):
            raise LrscaleError(f"mode must be min or max, not {self.mode!r}")
        if not self.seeds:
            raise LrscaleError("there is no seed", hint="pass seeds=1 or more")

    @property
    def sign(self) -> float:
        return -1.0 if self.mode == "max" and self.monitor is not None else 1.0


@final
@dataclass(slots=True)
class _Test:
    runs: LiveRuns
    live: LiveData
    settings: TrainerSettings
    plan: _Plan
    logged_in_training: bool = False
    validated: bool = False
    confirmed_by: str | None = None
    notes: list[str] = field(default_factory=list)

    def result(self, batch_sizes: Sequence[int] | None) -> RangeTestResult:
        plan = self.plan
        self.runs.discover()
        layouts = [self._layout(size) for size in batch_sizes] if batch_sizes else [self._layout(None)]
        if plan.monitor is not None:
            self._find_monitor(layouts[0])
        families = tuple(self._family(layout) for layout in layouts)
        name = plan.monitor or "training loss"
        return RangeTestResult(
            families=families,
            monitor=f"negative of {name}" if plan.sign < 0 else name,
            confirmed_by=self.confirmed_by,
            steps=plan.steps * plan.hold,
            confirm_steps=plan.confirm_steps if plan.confirm else None,
            notes=tuple(dict.fromkeys([*self.settings.notes, *self.notes])),
        )

    def _layout(self, batch_size: int | None) -> Layout:
        if batch_size is not None and self.live.batch_size is None:
            raise LrscaleError(
                "batch_sizes with a loader that does not say how large its batches are",
                hint="leave batch_sizes out, or pass a DataLoader with a batch_size",
            )
        own = self.settings
        layout = self.live.layout(batch_size, own.devices, own.num_nodes, own.accumulate)
        if layout.accumulate > 1 and not self.runs.automatic:
            raise LrscaleError(
                f"the module steps its optimizers itself, so a batch of {layout.global_batch_size} cannot be "
                f"accumulated over {layout.accumulate} forwards",
                hint="pass a loader with a larger batch_size",
            )
        return layout

    def _find_monitor(self, layout: Layout) -> None:
        """Take one step, to see where the monitored value is logged."""
        asked = self.plan.monitor
        probe = self.runs.run(
            schedule=build_schedule("constant"),
            peak_lr=self.plan.lr_min,
            horizon=1,
            seed=self.plan.seeds[0],
            layout=layout,
            validate_every=None,
        )
        self.logged_in_training = asked in probe.logged
        self.validated = not self.logged_in_training

    def _family(self, layout: Layout) -> RangeFamily:
        plan = self.plan
        ramp = build_schedule("ramp", {"start_factor": plan.lr_min / plan.lr_max, "hold": plan.hold})
        curves, starts = [], []
        for seed in plan.seeds:
            outcome = self.runs.run(
                schedule=ramp,
                peak_lr=plan.lr_max,
                horizon=plan.steps * plan.hold,
                seed=seed,
                layout=layout,
                validate_every=plan.hold if self.validated else None,
                monitor=plan.monitor if self.validated else None,
                metric=plan.monitor if self.logged_in_training else None,
                patience=RAMP_PATIENCE,
            )
            curves.append(self._curve(outcome, seed))
            starts.append(outcome.initial_train_loss)
            self._note(outcome)
            self._say(f"ramp, seed {seed}: {len(outcome.lrs)} steps{_end(outcome)}")
        finding = analyse_range_curves(
            [(curve.lr, curve.loss) for curve in curves], diverged_at=[curve.diverged_at for curve in curves]
        )
        size = None if self.live.batch_size is None else layout.global_batch_size
        family = RangeFamily(batch_size=size, curves=tuple(curves), finding=finding, confirmation=None)
        return self._confirmed(family, layout, sum(starts) / len(starts)) if plan.confirm else family

    def _confirmed(self, family: RangeFamily, layout: Layout, start: float) -> RangeFamily:
        plan = self.plan
        settings = ConfirmSettings(seeds=max(2, min(len(plan.seeds), 3)))
        done: list[FixedRun] = []
        beta2 = None
        # All ranks hold the same losses; that they also round alike is not taken for granted.
        while wanted := self._agreed(next_runs(family.finding, done, settings=settings)):
            for lr, seed in wanted:
                outcome = self.runs.run(
                    schedule=build_schedule("constant"),
                    peak_lr=lr,
                    horizon=plan.confirm_steps,
                    seed=plan.seeds[0] + seed,
                    layout=layout,
                    validate_every=None if self.logged_in_training else 0,
                    monitor=plan.monitor if self.validated else None,
                    metric=plan.monitor if self.logged_in_training else None,
                )
                self._note(outcome)
                loss, end = self._final(outcome), outcome.final_train_loss
                gain = None if end is None or not math.isfinite(start - end) else start - end
                done.append(FixedRun(lr=lr, seed=seed, loss=loss, gain=gain))
                beta2 = outcome.beta2
                self._say(f"fixed LR {lr:.3g}, seed {seed}: {'diverged' if loss is None else f'{loss:.4g}'}")
        found = confirm(
            family.finding,
            done,
            settings=settings,
            steps=plan.confirm_steps,
            batch_size=family.batch_size,
            beta2=beta2 if family.finding.status is FitStatus.OK else None,
        )
        return RangeFamily(
            batch_size=family.batch_size,
            curves=family.curves,
            finding=family.finding,
            confirmation=self._agreed(found),
        )

    def _curve(self, outcome: RunOutcome, seed: int) -> RangeCurve:
        plan = self.plan
        if self.validated:
            pairs = [(outcome.lrs[step - 1], value) for step, value in outcome.validations if step <= len(outcome.lrs)]
        elif self.logged_in_training:
            pairs = self._rungs(outcome.lrs, outcome.metrics)
        else:
            pairs = self._rungs(outcome.lrs, outcome.losses)
        if not pairs and self.validated:
            raise LrscaleError(
                f"monitor {plan.monitor} is not logged by the training step, and there is no validation",
                hint="pass val_data, or log it in training_step",
            )
        if not pairs:
            raise LrscaleError(
                "the training step neither returns nor logs a loss, so the ramp has no curve",
                hint="name a logged value in monitor",
            )
        return RangeCurve(
            seed=seed,
            lr=tuple(lr for lr, _ in pairs),
            loss=tuple(plan.sign * value for _, value in pairs),
            diverged_at=outcome.lrs[-1] if outcome.diverged is not None and outcome.lrs else None,
            reason=outcome.diverged,
        )

    def _rungs(self, lrs: Sequence[float], values: Sequence[float | None]) -> list[tuple[float, float]]:
        pairs = [(lr, value) for lr, value in zip(lrs, values, strict=False) if value is not None]
        if self.plan.hold == 1 or not pairs:
            return pairs
        means = rung_means([lr for lr, _ in pairs], [value for _, value in pairs])
        return list(zip(*(column.tolist() for column in means), strict=True))

    def _final(self, outcome: RunOutcome) -> float | None:
        if outcome.diverged is not None:
            return None
        value = outcome.final_loss
        if self.logged_in_training:
            tail = outcome.metrics[-max(1, len(outcome.metrics) // 10) :]
            value = sum(tail) / len(tail)
        self.confirmed_by = self.plan.monitor if self.logged_in_training else outcome.monitor
        return None if value is None or not math.isfinite(value) else self.plan.sign * value

    def _say(self, line: str) -> None:
        if self.runs.rank == 0:
            self.plan.progress(line)

    def _note(self, outcome: RunOutcome) -> None:
        self.notes += outcome.notes

    def _agreed(self, value: Any) -> Any:
        if self.settings.world_size == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, src=0, device=_device(self.settings))
        return held[0]


def _end(outcome: RunOutcome) -> str:
    return "" if outcome.diverged is None else f"; {outcome.diverged}"


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)


def _states(trainer: Any) -> list[Any]:
    optimizers = [] if trainer is None else list(trainer.optimizers)
    if not optimizers:
        raise LrscaleError(
            "optimizer_state=True needs a Trainer that has fitted", hint="pass it as trainer, or leave it out"
        )
    return [getattr(optimizer, "optimizer", optimizer).state_dict() for optimizer in optimizers]


def _data_of(model: Any, data: Any, val_data: Any, trainer: Any) -> tuple[Any, Any]:
    if data is not None or trainer is None:
        return data, val_data
    if trainer.datamodule is not None:
        return trainer.datamodule, None
    loaders = trainer.train_dataloader
    own = flavour_of(type(model)).get("utilities.model_helpers.is_overridden")("train_dataloader", model)
    return (None, None) if own or loaders is None else (loaders, trainer.val_dataloaders or None)


def _device(settings: TrainerSettings) -> torch.device:
    if settings.accelerator != "gpu":
        return torch.device(settings.accelerator)
    if settings.world_size == 1 and settings.device_list:
        return torch.device("cuda", settings.device_list[0])
    return torch.device("cuda", torch.cuda.current_device())


def _as_argument(words: str | None) -> str:
    return (words or "").replace("task.monitor", "monitor").replace("task.batch_size", "batch_sizes")
