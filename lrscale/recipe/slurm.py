"""How jobs are asked of SLURM: the recipe's `slurm`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from typing_extensions import Self

from lrscale.errors import RecipeError
from lrscale.recipe.fields import Count, Real, refuse, shown
from lrscale.recipe.task import Section

_NAME = re.compile(r"^[A-Za-z0-9_.,:@+-]+$")
_CONSTRAINT = re.compile(r"^[A-Za-z0-9_.,:&|!*()\[\]@+-]+$")
_MEMORY = re.compile(r"^[1-9][0-9]*[KMGT]?$")
_GPUS = re.compile(r"^([A-Za-z0-9_.-]+:)?[1-9][0-9]*$")
_UNITS = re.compile(r"^\s*(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*$")
_CLOCK = re.compile(r"^(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)$")
_DAYS = re.compile(r"^(\d+)-(\d+)(?::([0-5]\d))?$")
_DIRECTIVE = re.compile(r"^--[a-z][a-z0-9-]*(=\S.*)?$")

OURS = {
    **dict.fromkeys(("job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "parsable"), None),
    **dict.fromkeys(("array", "wait", "wrap", "dependency", "ntasks", "ntasks-per-node", "hold", "chdir"), None),
    **{name: name for name in ("partition", "account", "qos", "time", "nodes", "constraint", "mem")},
    "gpus-per-node": "gpus",
    "cpus-per-task": "cpus_per_task",
}
"""Options of sbatch that `slurm.extra` may not name, each with the field that sets it; None where a job needs its own
value."""


def seconds_of(text: str) -> int | None:
    """Return a time limit in seconds, or None for text that is none.

    Examples
    --------
    >>> seconds_of("1h30m"), seconds_of("02:00:00"), seconds_of("1-12:00:00"), seconds_of("90")
    (5400, 7200, 129600, None)
    """
    text = text.strip()
    if found := _UNITS.match(text):
        days, hours, minutes = (int(part or 0) for part in found.groups())
        return (days * 24 + hours) * 3600 + minutes * 60 or None
    if found := _CLOCK.match(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return (days * 24 + hours) * 3600 + minutes * 60 + seconds or None
    if found := _DAYS.match(text):
        days, hours, minutes = (int(part or 0) for part in found.groups())
        return (days * 24 + hours) * 3600 + minutes * 60 or None
    return None


def _time(value: Any) -> Any:
    if not isinstance(value, str) or seconds_of(value) is None:
        refuse(f"must be a time limit with its unit, not {shown(value)}", hint='write "2h", "1h30m" or "02:00:00"')
    return value.strip()


def _word(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _NAME.match(value):
        refuse(f"must be a name as SLURM knows it, without spaces, not {shown(value)}", hint="see: sinfo")
    return value


def _constraint(value: Any) -> Any:
    if not isinstance(value, str) or not _CONSTRAINT.match(value):
        refuse(
            f"must be features of nodes as sbatch --constraint takes them, not {shown(value)}",
            hint='write for example "a100&nvlink"',
        )
    return value


def _memory(value: Any) -> Any:
    if not isinstance(value, str) or not _MEMORY.match(value):
        refuse(f"must be the memory of a node with its unit, not {shown(value)}", hint='write for example "64G"')
    return value


def _gpus(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _GPUS.match(text):
        refuse(f"must be a number of GPUs of each node, not {shown(value)}", hint='write 4, or "a100:4"')
    return text


def _lines(value: Any) -> Any:
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        refuse(f"must be lines of shell, not {shown(value)}", hint='write for example ["module load cuda/12.4"]')
    if any("\n" in line for line in lines):
        lines = [part for line in lines for part in line.splitlines()]
    return tuple(line for line in lines if line.strip())


def _directives(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        refuse(f"must be a list of options of sbatch, not {shown(value)}", hint='write ["--reservation=r1"]')
    for option in value:
        if not isinstance(option, str) or not _DIRECTIVE.match(option):
            refuse(f"must hold options of sbatch in their long form, not {shown(option)}", hint='write "--name=value"')
        name = option[2:].partition("=")[0]
        if name in OURS:
            field = OURS[name]
            hint = f"set slurm.{field}" if field is not None else "remove it: a job of a study needs its own value"
            refuse(f"must not set --{name}", hint=hint)
    return tuple(value)


Word = Annotated[str, BeforeValidator(_word)]
TimeLimit = Annotated[str, BeforeValidator(_time)]
Constraint = Annotated[str, BeforeValidator(_constraint)]
NodeMemory = Annotated[str, BeforeValidator(_memory)]
GpuCount = Annotated[
    str,
    BeforeValidator(_gpus),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]


class SlurmSettings(Section):
    """How jobs are asked of SLURM, for ``--launcher slurm``. It changes where a trial runs and not its result.

    What is absent is left to the cluster's own defaults.

    Examples
    --------
    >>> settings = SlurmSettings.model_validate({"partition": "gpu", "time": "2h", "gpus": 4})
    >>> settings.seconds, settings.gpu_count
    (7200, 4)
    """

    partition: Word | None = None
    """Partition, or several separated by commas."""
    account: Word | None = None
    """Account that is charged."""
    qos: Word | None = None
    """Quality of service."""
    time: TimeLimit | None = None
    """Time limit of a job: ``2h``, ``1h30m`` or ``02:00:00``. A trial must end within it."""
    gpus: GpuCount | None = None
    """GPUs of each node, ``4`` or ``a100:4``."""
    nodes: Count | None = None
    """Nodes of a job. Default: `layout.num_nodes`."""
    constraint: Constraint | None = None
    """Features that a node must have."""
    cpus_per_task: Count | None = None
    """Cores of each node. Default: one for each rank; where `gpus` is set, the cluster's."""
    mem: NodeMemory | None = None
    """Memory of each node, such as ``64G``."""
    setup: Annotated[
        tuple[str, ...],
        BeforeValidator(_lines),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = ()
    """Lines of shell before the work begins, such as ``module load``; the job fails at the first that fails."""
    python: Annotated[str, Field(min_length=1)] | None = None
    """Interpreter on the nodes. Default: the one that submits."""
    max_jobs: Count = 4
    """Jobs at once; never more than there are trials for them."""
    extra: Annotated[tuple[str, ...], BeforeValidator(_directives)] = ()
    """Further options of sbatch, such as ``--reservation=r1``."""
    idle: Annotated[Real, Field(ge=0)] = 120.0
    """Seconds that a job without a trial waits for the next one before it ends."""
    poll: Annotated[Real, Field(ge=0.5)] = 10.0
    """Seconds between looks at SLURM's queue."""
    lost_after: Annotated[Real, Field(ge=10)] = 180.0
    """Seconds without a sign of life after which a job's trial is given to another. More than a shared file system
    takes to show one machine what another has written."""

    @model_validator(mode="after")
    def _polls_before_it_gives_up(self) -> Self:
        if self.poll > self.lost_after:
            refuse(f"has poll {self.poll:g} above lost_after {self.lost_after:g}", hint="make poll smaller")
        return self

    @property
    def seconds(self) -> int | None:
        """The time limit in seconds; None where it is the cluster's."""
        return None if self.time is None else seconds_of(self.time)

    @property
    def gpu_count(self) -> int | None:
        """GPUs of each node; None where none is asked for here."""
        return None if self.gpus is None else int(self.gpus.rpartition(":")[2])

    @property
    def asks_for_gpus(self) -> bool:
        """Whether a job has GPUs, by `gpus` or by a further option of sbatch."""
        return self.gpus is not None or any(option.startswith(("--gres=gpu", "--gpus")) for option in self.extra)

    def trials_at_once(self, devices: int, num_nodes: int) -> int:
        """Return how many trials fit into a job side by side: what `layout.trials_at_once: auto` stands for.

        Parameters
        ----------
        devices, num_nodes : int
            Of one trial. Each of its ranks takes a GPU, or a core where a job has no GPUs.

        Raises
        ------
        RecipeError
            Where the recipe does not say what a node of a job has.

        Examples
        --------
        >>> settings = SlurmSettings.model_validate({"gpus": 8})
        >>> settings.trials_at_once(1, 1), settings.trials_at_once(3, 1), settings.trials_at_once(8, 2)
        (8, 2, 1)
        """
        places = self.gpu_count if self.asks_for_gpus else self.cpus_per_task
        if places is None:
            field = "slurm.gpus" if self.asks_for_gpus else "slurm.gpus or slurm.cpus_per_task"
            raise RecipeError(
                "layout.trials_at_once: auto counts the devices of a job, and the recipe does not say how many it has",
                hint=f"set {field}, or a number of trials",
            )
        return max(1, places // devices * (self.nodes or num_nodes) // num_nodes)
