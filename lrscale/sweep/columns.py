"""Which column of a table holds what: named by the user, or guessed among the names in use and said aloud."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from lrscale.errors import LrscaleError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

TableKind = Literal["runs", "steps", "curves"]
"""What a row is: a finished run with its loss; a run with its steps to a target; a point of a run's loss curve."""
REQUIRED: dict[TableKind, tuple[str, ...]] = {
    "runs": ("lr", "batch", "loss"),
    "steps": ("batch", "steps_to_target"),
    "curves": ("step", "lr", "loss"),
}
_FURTHER: dict[TableKind, tuple[str, ...]] = {
    "runs": ("seed", "status", "params", "tokens", "examples", "steps", "schedule", "task"),
    "steps": ("lr", "seed", "status", "steps", "target"),
    "curves": ("run", "schedule", "seed"),
}
ROLES: dict[TableKind, tuple[str, ...]] = {kind: (*REQUIRED[kind], *_FURTHER[kind]) for kind in REQUIRED}
"""What a column can hold, by kind of table. The command has a flag of each name."""

# Each line is a tier: a name of an earlier tier is taken before any of a later one, so that a validation loss goes
# before a training loss. Names are compared in lower case, with every run of other characters as one underscore.
_SYNONYMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lr": (
        ("lr", "learning_rate", "peak_lr", "peak_learning_rate", "max_lr", "max_learning_rate", "learningrate"),
        ("optimizer_lr", "optim_lr", "opt_lr", "optimizer_learning_rate", "base_lr", "lr_max", "model_lr"),
        ("best_lr", "best_peak_lr"),
    ),
    "batch": (
        ("batch_size", "batch", "bs", "global_batch_size", "global_batch", "gbs", "total_batch_size", "batchsize"),
        ("batch_examples", "batch_seqs", "batch_sequences", "batch_tokens", "train_batch_size", "data_batch_size"),
    ),
    "loss": (
        ("loss", "final_loss", "val_loss", "valid_loss", "validation_loss", "eval_loss", "loss_val", "final_val_loss"),
        ("test_loss", "eval_validation_loss", "value", "objective"),
        ("train_loss", "training_loss", "final_train_loss"),
    ),
    "seed": (("seed", "random_seed", "rng_seed", "global_seed", "data_seed"),),
    "status": (("status", "state", "run_status"),),
    "params": (
        ("params", "n_params", "num_params", "parameters", "num_parameters", "n_parameters", "param_count"),
        ("model_size", "non_embedding_params", "params_count", "model_params"),
    ),
    "tokens": (("tokens", "d_tokens", "n_tokens", "num_tokens", "train_tokens", "total_tokens", "training_tokens"),),
    "examples": (("examples", "n_examples", "num_examples", "samples", "n_samples", "num_samples", "train_examples"),),
    "steps": (
        ("steps", "n_steps", "num_steps", "max_steps", "train_steps", "total_steps", "training_steps"),
        ("iterations", "n_iterations", "num_iterations", "iters"),
    ),
    "schedule": (("schedule", "scheduler", "lr_schedule", "lr_scheduler"),),
    "task": (("task", "dataset", "benchmark", "problem"),),
    "steps_to_target": (
        ("steps_to_target", "steps_to_goal", "steps_to_loss", "steps_to_accuracy", "iterations_to_target"),
        ("steps_to_goal_measured", "measured_steps_to_target", "steps_to_converge", "steps_to_convergence"),
    ),
    "target": (("target", "goal", "target_loss", "goal_loss", "loss_target"),),
    "step": (("step", "global_step", "trainer_global_step", "iteration", "iter", "train_step"), ("steps", "_step")),
    "run": (
        ("run", "run_id", "run_name", "trial", "trial_id", "experiment", "experiment_name"),
        ("name", "id", "schedule", "scheduler", "curve"),
    ),
}
_WHAT = {
    "lr": "learning rate",
    "batch": "batch size",
    "loss": "final loss",
    "steps_to_target": "steps to the target",
    "step": "optimizer step",
}
# One letter is a name in the scaling literature only as a capital: n is the number of repeats in many tables.
_LETTERS = {"N": "params", "D": "tokens", "B": "batch"}
# What W&B, MLflow, Optuna, Ray and TensorBoard put before a name.
_PREFIX = re.compile(
    r"^(?:config|summary|params|metrics|hparams?|user_attrs|attributes|parameters|values|args|training_iteration)"
    r"(?:[./ ]|_(?=lr$|learning|batch|bs$|loss|val|seed|peak|steps))"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """The column of each role, and how it was found."""

    names: Mapping[str, str]
    """Role to column."""
    guessed: tuple[str, ...] = ()
    """One sentence for each column that was not named by the user."""

    def __contains__(self, role: str) -> bool:
        return role in self.names

    def __getitem__(self, role: str) -> str:
        return self.names[role]

    def resolve(self, name: str, known: Sequence[str]) -> str:
        """Return the column that a name of the user means: a column as written, else the column of a role.

        Raises
        ------
        LrscaleError
            When it is neither.
        """
        if name in known:
            return name
        if name in self.names:
            return self.names[name]
        raise LrscaleError(f"there is no column {name}", hint=did_you_mean(name, [*known, *self.names]))


def map_columns(frame: pd.DataFrame, given: Mapping[str, str] | None = None, *, kind: TableKind = "runs") -> ColumnMap:
    """Find the column of each role.

    Parameters
    ----------
    frame : pandas.DataFrame
        The table; its values are looked at only where two columns could hold the same.
    given : mapping of str to str, optional
        Role to column, as the user named them; these are not guessed.
    kind : {"runs", "steps", "curves"}, optional
        What a row is. Default ``"runs"``.

    Returns
    -------
    ColumnMap

    Raises
    ------
    LrscaleError
        For a column that is not there (with the nearest name), a required role without a column, and two columns that
        differ by more than a constant factor where either could be meant.

    Examples
    --------
    >>> import pandas as pd
    >>> found = map_columns(pd.DataFrame({"config.lr": ["0.1"], "bs": ["8"], "summary.val_loss": ["2.0"]}))
    >>> found["lr"], found["loss"], found.guessed[1]
    ('config.lr', 'summary.val_loss', 'batch: column bs (guessed from its name)')
    """
    columns = [str(name) for name in frame.columns]
    names: dict[str, str] = {}
    for role, column in (given or {}).items():
        if role not in ROLES[kind]:
            known = sorted({name for names in ROLES.values() for name in names})
            if role in known:
                raise LrscaleError(
                    f"--{_flag(role)} means nothing for a table of {kind}",
                    hint="leave it out, or say what a row is with --kind",
                )
            raise LrscaleError(f"unknown role {role}", hint=did_you_mean(role, known))
        if column not in columns:
            raise LrscaleError(
                f"--{_flag(role)} names the column {column}, which is not there", hint=_nearest(column, columns)
            )
        names[role] = column
    guessed = []
    for role in ROLES[kind]:
        if role in names:
            continue
        guess = _guess(role, [one for one in columns if one not in names.values()], frame, role in REQUIRED[kind])
        if guess is not None:
            found, sentence = guess
            guessed.append(sentence)
            if found is not None:
                names[role] = found
        elif role in REQUIRED[kind]:
            what = "loss" if kind == "curves" and role == "loss" else _WHAT[role]
            raise LrscaleError(
                f"no column looks like the {what}; there are {_some(columns)}",
                hint=f"name it with --{_flag(role)} COLUMN",
            )
    return ColumnMap(names=names, guessed=tuple(guessed))


def role_of(column: str, roles: Sequence[str] = ROLES["runs"]) -> tuple[str, int] | None:
    """Return the role among `roles` that a column's name suggests and its tier (0 first), or None.

    Examples
    --------
    >>> role_of("params.lr"), role_of("params_lr"), role_of("N"), role_of("n"), role_of("train_loss")
    (('lr', 0), ('lr', 0), ('params', 0), None, ('loss', 2))
    """
    if _LETTERS.get(column.strip()) in roles:
        return _LETTERS[column.strip()], 0
    plain = _normal(column)
    for name in (plain, _normal(_PREFIX.sub("", column.strip().lower()))):
        for role, tiers in _SYNONYMS.items():
            for tier, synonyms in enumerate(tiers):
                if name in synonyms and role in roles:
                    return role, tier
    return None


def _guess(role: str, columns: Sequence[str], frame: pd.DataFrame, required: bool) -> tuple[str | None, str] | None:
    found: dict[int, list[str]] = {}
    for column in columns:
        suggested = role_of(column, (role,))
        if suggested is not None:
            found.setdefault(suggested[1], []).append(column)
    if not found:
        return None
    first, *rest = found[min(found)]
    later = [column for tier, some in sorted(found.items()) for column in some if tier > min(found)]
    said = f"{role}: column {first} (guessed from its name)"
    for other in rest:
        ratio = _constant_ratio(frame[first], frame[other])
        if ratio is None:
            if not required:
                both = ", ".join([first, *rest])
                return None, f"{role}: not used, since the columns {both} differ (choose with --{_flag(role)})"
            raise LrscaleError(
                f"the columns {', '.join([first, *rest])} could each hold the {role}, and they differ",
                hint=f"choose with --{_flag(role)} {first} or --{_flag(role)} {other}",
            )
        same = "the same" if ratio == 1 else f"{ratio:.6g} times it"
        said += f"; {other} is {same} in every row, so that either gives the same answer"
    if later:
        said += f"; taken before {', '.join(later)}"
    return first, said


def _constant_ratio(first: pd.Series, second: pd.Series) -> float | None:
    import pandas as pd

    a = pd.to_numeric(first, errors="coerce").to_numpy(dtype=np.float64)
    b = pd.to_numeric(second, errors="coerce").to_numpy(dtype=np.float64)
    known = np.isfinite(a) & np.isfinite(b) & (a != 0)
    if not known.any() or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return None
    ratio = b[known] / a[known]
    middle = float(np.median(ratio))
    return middle if np.all(np.abs(ratio - middle) <= 1e-9 * abs(middle)) else None


def _flag(role: str) -> str:
    return role.replace("_", "-")


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _nearest(column: str, columns: Iterable[str]) -> str:
    names = list(columns)
    by_plain = {_normal(name): name for name in names}
    if _normal(column) in by_plain:
        return f"did you mean {by_plain[_normal(column)]}?"
    return did_you_mean(column, names[:40])


def _some(columns: Sequence[str], most: int = 12) -> str:
    return ", ".join(columns[:most]) + (f" and {len(columns) - most} more" if len(columns) > most else "")
