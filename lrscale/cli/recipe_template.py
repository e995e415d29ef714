"""The recipe that ``lrscale init`` writes: valid as it stands, and a comment at every place where a choice is made."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.cli.source_signature import SourceSignature
from lrscale.units import Duration

DEFAULT_BATCH_SIZE = 32
"""Global batch size of the middle, where the module does not say its own."""
STEPS_AT_LARGEST = 100
"""Steps that the largest batch gets: fewer leave no room for warm-up and decay, and far more make trials dear."""
FACTOR = 4
"""Ratio of neighbouring batch sizes: three of them span a factor of 16, enough to see how the best LR moves."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What is known about a task before its recipe is written.

    Examples
    --------
    >>> text = render(Discovery(model="shop.ByteGPT"))
    >>> text.splitlines()[0]
    '# Recipe for shop.ByteGPT. Lines that begin with # are comments; commented fields show other choices.'
    """

    model: str
    data: str | None = None
    model_signature: SourceSignature | None = None
    data_signature: SourceSignature | None = None
    import_path: str | None = None
    """Folder of the module relative to the recipe, where it is not the recipe's own."""
    facts: Sequence[str] = ()
    """What building the module showed, a sentence each."""
    problem: str | None = None
    """Why the module could not be built; None when it could."""
    logged: Sequence[str] = ()
    """Names that the module logs, as far as its source says."""
    batch_size_home: str | None = None
    own_batch_size: int | None = None
    training_examples: int | None = None


def render(found: Discovery) -> str:
    """Return the text of the recipe."""
    lines = [
        f"# Recipe for {found.model}. Lines that begin with # are comments; commented fields show other choices.",
        "#",
        "#     lrscale plan FILE      the trials, examples and time that it takes",
        "#     lrscale doctor FILE    whether the task can be built",
        "#     lrscale run FILE",
    ]
    if found.facts:
        lines += ["#", "# Found out by building it once:", *(f"#   {_one_line(fact)}" for fact in found.facts)]
    if found.problem:
        lines += ["#", f"# It could not be built yet: {_one_line(found.problem)}"]
    lines += [f"name: {slug(found.model)}", "", "task:"]
    lines += _class_entry("model", found.model, found.model_signature)
    if found.data is not None:
        lines += _class_entry("data", found.data, found.data_signature)
    else:
        lines += ["  # Without data here, the module's own loaders are used.", "  # data: {class_path: module.Class}"]
    lines += [
        "  # Arguments of the Trainer that change the result, such as precision and gradient clipping.",
        "  trainer: {precision: 32-true}",
    ]
    lines += _monitor(found.logged)
    lines += [
        "  # By default one factor scales the learning rate of every parameter group, and their ratios stay.",
        "  # Name a path when the module computes with its learning rate elsewhere.",
        "  # lr: model.init_args.lr",
    ]
    lines += _batch_size_home(found.batch_size_home)
    if found.import_path is not None:
        lines += [
            "  # Where the classes above are imported from, relative to this file.",
            f"  import_paths: [{json.dumps(found.import_path)}]",
        ]
    sizes = batch_sizes(found.own_batch_size, found.training_examples)
    horizon = Duration(_rounded(STEPS_AT_LARGEST * sizes[-1]), "examples")
    lines += [
        "",
        "# Where a trial runs. Set max_per_device_batch_size to what fits in memory; larger batches are accumulated.",
        "layout:",
        "  devices: 1",
        "  # max_per_device_batch_size: 64",
        "",
        "experiments:",
        "  # Ramp the learning rate until training diverges, then confirm by short runs at fixed rates around it.",
        "  range_test: {seeds: 3}",
        "  # The best learning rate at each global batch size. A longer horizon says more about a long run.",
        "  scaling:",
        f"    batch_sizes: [{', '.join(map(str, sizes))}]",
        f"    horizon: {horizon}",
        "    schedule: cosine",
        "    seeds: 3",
        "  # Whether what is said of learning rates and batch sizes holds here, judged by the trials that are there.",
        "  rules: {}",
        "  # The same number of examples under each schedule, each at its own best learning rate.",
        "  # schedules: [constant, linear, cosine, wsd]",
        "  # How the best learning rate moves with another argument of the model or the data.",
        "  # factors: {width: [64, 128, 256]}",
        "  # The best learning rate and the loss at several lengths, from one run with a cooldown at each.",
        "  # horizons: {lengths: [5k examples, 10k examples, 20k examples]}",
        "  # Whether growing the batch does what decaying the learning rate does.",
        "  # growing_batch: {}",
        "  # Up to which batch size a larger batch costs no more examples, by branches.",
        "  # critical_batch: {}",
        "  # The batch size at which the noise of a gradient equals its signal, from the trials that are there.",
        "  # noise_scale: {}",
        "  # Examples a second for each way to split a batch over the devices.",
        "  # throughput: {}",
        "  # The largest batch that trains and validates on a device, within the memory.",
        "  # memory: {}",
        "  # Whether devices and accumulation change what a step computes: a few short trials, on by default.",
        "  # equivalence: {}",
        "",
        "# The training job that the recommendation is for. Default: the best batch size, and the length above.",
        "# target: {batch_size: 1024, horizon: 50M examples}",
    ]
    return "\n".join(lines) + "\n"


def slug(class_path: str) -> str:
    """Return a name for the study from that of the class.

    Examples
    --------
    >>> slug("lrscale.zoo.ByteGPT"), slug("shop.MyNet2")
    ('byte-gpt', 'my-net2')
    """
    name = class_path.rpartition(".")[2].strip("_")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", name).lower() or "study"


def batch_sizes(own: int | None, training_examples: int | None) -> list[int]:
    """Return global batch sizes to compare, a factor of 4 apart around the task's own.

    The largest leaves at least four steps in an epoch, so that a batch is a sample of the data and not all of them.

    Examples
    --------
    >>> batch_sizes(64, 50_000), batch_sizes(64, 300), batch_sizes(None, None), batch_sizes(1, 2)
    ([16, 64, 256], [16, 64], [8, 32, 128], [1])
    """
    middle = own if own is not None and own >= 1 else DEFAULT_BATCH_SIZE
    largest = None if training_examples is None else max(1, training_examples // 4)
    sizes = [max(1, middle // FACTOR), middle, middle * FACTOR]
    fitting = sorted({size for size in sizes if largest is None or size <= largest})
    return fitting or [largest if largest is not None else middle]


def _class_entry(key: str, class_path: str, signature: SourceSignature | None) -> list[str]:
    lines = [f"  {key}:", f"    class_path: {class_path}"]
    arguments = [] if signature is None else [one for one in signature.arguments if one.name != "batch_size"]
    required = [one for one in arguments if one.default is None]
    optional = [one for one in arguments if one.default is not None]
    if required:
        lines.append("    # These have no default: uncomment them, with values.")
    elif optional:
        lines.append("    # Arguments with their defaults; uncomment to change.")
    if arguments:
        lines.append("    # init_args:")
    lines += [f"    #   {one.name}: VALUE{_of_type(one.annotation)}" for one in required]
    lines += [f"    #   {one.name}: {_as_yaml(one.default or '')}{_of_type(one.annotation)}" for one in optional]
    return lines


def _of_type(annotation: str | None) -> str:
    return "" if annotation is None else f"  # {_one_line(annotation)}"


def _as_yaml(default: str) -> str:
    literal = {"None": "null", "True": "true", "False": "false", "()": "[]"}
    return literal.get(default, _one_line(default))


def _monitor(logged: Sequence[str]) -> list[str]:
    lines = [
        "  # The logged value that trials are compared by; smaller is better.",
        "  # Default: the validation loss is searched for.",
    ]
    likely = [name for name in logged if "val" in name.lower() and "loss" in name.lower()]
    if logged:
        lines.append(f"  # Its source logs {', '.join(_one_line(name) for name in logged)}.")
    return [*lines, f"  # monitor: {_one_line(likely[0]) if likely else 'val_loss'}"]


def _batch_size_home(home: str | None) -> list[str]:
    if home:
        return [f"  # The per-device batch size is set at {home}. Name another place when that one changes nothing.",
                "  # batch_size: datamodule.batch_size"]  # fmt: skip
    return [
        "  # Where the per-device batch size lives, when it cannot be found.",
        "  # batch_size: data.init_args.batch_size",
    ]


def _rounded(examples: int) -> int:
    unit = int(10 ** max(0, len(str(examples)) - 2))
    return -(-examples // unit) * unit


def _one_line(text: str) -> str:
    # Control characters are forbidden in YAML even in a comment.
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
