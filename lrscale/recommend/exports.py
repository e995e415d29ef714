"""A recommendation in the forms in which jobs and people take it."""

from __future__ import annotations

from lrscale.recommend.companions import companion_words
from lrscale.recommend.plain import dump
from lrscale.recommend.recommendation import Recommendation
from lrscale.recommend.words import clock, count, loss_words, percent, rate, with_interval
from lrscale.schedules import SCHEDULER, is_pure, schedule_label


def lightning_cli_fragment(recommendation: Recommendation, path: str) -> str:
    """Return a LightningCLI config that puts the layout, the length and the callback into a job.

    Parameters
    ----------
    recommendation : Recommendation
    path : str
        Where the job finds recommendation.yaml.

    Returns
    -------
    str
        YAML for ``--config mine.yaml --config this.yaml``. Callbacks are added to those of the first file.
    """
    one = recommendation
    trainer = {
        **one.trainer,
        "devices": one.devices,
        "num_nodes": one.num_nodes,
        "accumulate_grad_batches": one.accumulate_grad_batches,
        "max_steps": one.horizon_steps,
        # Epochs of the job's own config would end it before.
        "max_epochs": -1,
        "callbacks+": [
            {"class_path": "lrscale.callbacks.ApplyRecommendation", "init_args": {"recommendation": path}},
        ],
    }
    home = "" if one.batch_size_home is None else f" (in the trials {one.batch_size_home})"
    return (
        f"# {one.name}: peak LR {with_interval(one.lr)} at global batch {one.global_batch_size}; {one.confidence}.\n"
        "# Use it behind the job's own config: fit --config mine.yaml --config this.yaml\n"
        f"# The data must give {one.per_device_batch_size} examples per device and forward: set its batch size to "
        f"{one.per_device_batch_size}{home}.\n"
        "# Remove max_steps and max_epochs where the job sets its length otherwise; the schedule follows the job's own "
        "length.\n"
        f"{dump({'trainer': trainer})}"
    )


def markdown(recommendation: Recommendation) -> str:
    """Return a summary for a pull request or a chat."""
    one = recommendation
    nodes = f" x {one.num_nodes} nodes" if one.num_nodes > 1 else ""
    layout = (
        f"{one.per_device_batch_size} per device x {one.accumulate_grad_batches} accumulation x {one.devices} "
        f"devices{nodes}"
    )
    time = None if one.expected_seconds is None else one.expected_seconds.value
    lines = [
        f"**{one.name}**: peak LR **{rate(one.peak_lr)}**, global batch **{count(one.global_batch_size)}**, "
        f"schedule **{_schedule(one)}**",
        "",
        "| | |",
        "|---|---|",
        f"| peak LR | {with_interval(one.lr)}; {rate(one.equivalent_lr[0])} to {rate(one.equivalent_lr[1])} "
        "cost next to "
        "nothing |",
        f"| batch | {count(one.global_batch_size)} = {layout} |",
        f"| length | {count(one.horizon_steps)} steps, {count(one.horizon_examples)} examples |",
        f"| expected {one.monitor} | {loss_words(one.expected_loss)} |",
    ]
    if one.companions is not None:
        lines.append(f"| companions | {one.companions.policy}: {companion_words(one.companions)} |")
    if time is not None:
        lines.append(f"| expected time | {clock(time)} of training |")
    if one.validity.diverges_above is not None:
        lines.append(f"| diverges | from LR {rate(one.validity.diverges_above)} on |")
    lines += [
        f"| confidence | {one.confidence}; {count(one.stands_on.trials)} trials, {one.stands_on.seeds} seeds |",
        "",
        *(f"- {reason}" for reason in one.reasons),
    ]
    for other in one.alternatives:
        effects = [
            f"{percent(share)} {what}"
            for share, what in ((other.relative_loss, "loss"), (other.relative_seconds, "time"))
            if share is not None
        ]
        lines.append(f"- Alternative: batch {count(other.batch_size)} at LR {rate(other.lr)}: {', '.join(effects)}.")
    return "\n".join(lines) + "\n"


def loop_snippet(recommendation: Recommendation, path: str) -> str:
    """Return Python lines that apply it in a training loop without Lightning."""
    companions = (
        ""
        if recommendation.companions is None
        else "for place, group in enumerate(optimizer.param_groups):  # betas, eps and weight decay for this batch\n"
        "    group.update(recommendation.companions.settings_of(place, group, type(optimizer).__name__))\n"
    )
    if not is_pure(recommendation.schedule.name):
        return (
            "import lrscale\n"
            f"recommendation = lrscale.Recommendation.load({path!r})\n"
            "lr = recommendation.peak_lr  # build the optimizer with it, and keep the scheduler that the study used\n"
            f"{companions}"
        )
    return (
        "import lrscale\n"
        "from lrscale.schedules import group_base_lr\n"
        "\n"
        f"recommendation = lrscale.Recommendation.load({path!r})\n"
        f"{companions}"
        "base_lrs = [group_base_lr(group) for group in optimizer.param_groups]\n"
        "for step in range(recommendation.horizon_steps):  # one optimizer step each, "
        f"{recommendation.global_batch_size} examples over all devices\n"
        "    for group, base_lr in zip(optimizer.param_groups, base_lrs):\n"
        '        group["lr"] = base_lr / base_lrs[0] * recommendation.lr_at(step)\n'
        "    ...  # forward, backward, optimizer.step(), optimizer.zero_grad()\n"
    )


def _schedule(one: Recommendation) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in one.schedule.settings.items())
    name = f"{one.schedule.name} ({settings})" if settings else one.schedule.name
    if one.schedule.name == SCHEDULER:
        name = schedule_label(one.schedule.name, one.schedule.settings)
    return f"{name}, {count(one.schedule.warmup_steps)} steps of warm-up" if one.schedule.warmup_steps else name
