"""What a layout check says, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrscale.study.layout_check.probe import layout_words
from lrscale.study.layout_check.runs import Pair, Runs
from lrscale.study.layout_check.texts import figure, listed, share
from lrscale.units import Layout


def agreement(pairs: Mapping[Layout, Pair], reference: Layout) -> str:
    """Return by how little layouts differ, and what of it rounding explains."""
    gradient = max(pair.comparison.gradient_difference for pair in pairs.values())
    losses = [pair.comparison.loss_difference for pair in pairs.values()]
    loss = max((one for one in losses if one is not None), default=None)
    first = next(iter(pairs.values()))
    scope = (
        f"{len(first.comparison.steps)} steps of batch {reference.global_batch_size}, {first.other.precision}, where "
        f"rounding explains {figure(first.comparison.tolerance)}"
    )
    return (
        f"Gradients of {listed([layout_words(one) for one in pairs])} agree with those of {layout_words(reference)} to "
        f"{figure(gradient)}{'' if loss is None else f', losses to {figure(loss)}'} ({scope})."
    )


def random_sentence(runs: Runs, differing: Sequence[Layout], *, silenced: bool) -> str:
    """Return how far random numbers set layouts apart, and whether they agree without dropout."""
    assert runs.reference is not None
    pairs, noise = runs.pairs(), runs.noise()
    effect = max(pairs[layout].comparison.gradient_difference for layout in differing)
    against = "" if noise is None else f", as another seed does ({share(noise)})"
    start = (
        "Every rank draws random numbers of its own, so that layouts cannot be compared bit by bit: their gradients "
        f"differ by {share(effect)}{against}"
    )
    if not silenced:
        return f"{start}."
    quiet = runs.pairs("quiet")
    apart = max(quiet[layout].comparison.gradient_difference for layout in differing)
    return f"{start}. Without dropout they agree to {figure(apart)}."


def difference_words(runs: Runs, pairs: Mapping[Layout, Pair]) -> str:
    """Return which layouts differ and by how much, without a full stop: the causes follow."""
    assert runs.reference is not None
    apart = {layout: pair for layout, pair in pairs.items() if pair.differs}
    if not apart:
        return "The layouts that train agree, but not all of them train"
    effect = max(pair.comparison.gradient_difference for pair in apart.values())
    return (
        f"Gradients of {listed([layout_words(one) for one in apart])} differ from those of "
        f"{layout_words(runs.reference.layout)} by up to {share(effect)}"
    )
