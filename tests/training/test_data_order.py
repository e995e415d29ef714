"""Which examples a step sees: the same for every layout, whatever the sizes."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lrscale.errors import LayoutError, TaskError
from lrscale.training.data_order import (
    DealtBatches,
    ExampleOrder,
    FixedBatches,
    GlobalBatches,
    check_per_device_share,
    require_whole_batch,
    with_batches,
)
from lrscale.training.seeding import RandomState
from lrscale.units import Layout

sizes = st.integers(min_value=1, max_value=5)


def steps_of(size: int, layout: Layout, seed: int, epoch: int) -> list[list[int]]:
    """Return the examples of each step over all ranks and forwards, in the order of the run."""
    per_rank = []
    for rank in range(layout.world_size):
        order = ExampleOrder(RandomSampler(range(size)), range(size), seed)
        order.set_epoch(epoch)
        batches = GlobalBatches(order, layout, rank)
        drawn = list(batches)
        assert len(drawn) == len(batches)
        per_rank.append(drawn)
    steps = len(per_rank[0]) // layout.accumulate
    return [
        [
            example
            for forward in range(step * layout.accumulate, (step + 1) * layout.accumulate)
            for drawn in per_rank
            for example in drawn[forward]
        ]
        for step in range(steps)
    ]


@given(per_device=sizes, accumulate=sizes, devices=sizes, left=st.integers(0, 40), seed=st.integers(0, 9), epoch=sizes)
def test_every_split_of_a_global_batch_gives_the_same_examples(
    per_device: int, accumulate: int, devices: int, left: int, seed: int, epoch: int
) -> None:
    layout = Layout(per_device_batch_size=per_device, accumulate=accumulate, devices=devices)
    whole = Layout(per_device_batch_size=layout.global_batch_size)
    size = layout.global_batch_size + left
    steps = steps_of(size, layout, seed, epoch)
    assert steps == steps_of(size, whole, seed, epoch)
    flat = [example for step in steps for example in step]
    assert len(set(flat)) == len(flat) == size // layout.global_batch_size * layout.global_batch_size


def test_epochs_and_seeds_differ_and_repeat() -> None:
    layout = Layout(per_device_batch_size=8)
    drawn = {(seed, epoch): steps_of(64, layout, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert all(one != other for one, other in pairwise(drawn.values()))
    assert drawn[0, 1] == steps_of(64, layout, 0, 1)


@pytest.mark.parametrize("replacement", [True, False])
def test_samplers_of_the_users_own_draw_the_same_on_every_rank(replacement: bool) -> None:
    orders = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        sampler = WeightedRandomSampler(torch.linspace(0.1, 1, 30), 30 if replacement else 20, replacement=replacement)
        order = ExampleOrder(sampler, range(30), seed=5)
        first, again = order.indices().tolist(), order.indices().tolist()
        order.set_epoch(1)
        orders.append((first, order.indices().tolist()))
        assert first == again
        assert len(order) == len(first)
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]


def test_examples_held_back_are_in_no_order() -> None:
    for sampler in (RandomSampler(range(20)), SequentialSampler(range(20)), WeightedRandomSampler([1.0] * 20, 20)):
        order = ExampleOrder(sampler, range(20), 0, frozenset({3, 7}))
        indices = order.indices().tolist()
        assert not {3, 7} & set(indices)
        assert len(order) == len(indices)


def test_a_distributed_sampler_stands_for_the_whole_set() -> None:
    data = TensorDataset(torch.arange(12))
    shuffled = ExampleOrder(DistributedSampler(data, num_replicas=3, rank=1), data, 0)
    in_order = ExampleOrder(DistributedSampler(data, num_replicas=3, rank=1, shuffle=False), data, 0)
    assert sorted(shuffled.indices()) == in_order.indices().tolist() == list(range(12))
    assert len(shuffled) == 12


class _Batches:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        for _ in range(self.count):
            yield [random.randrange(1000), int(np.random.randint(1000)), int(torch.randint(1000, ()))]


@given(count=st.integers(1, 20), accumulate=sizes, devices=sizes)
def test_batches_are_dealt_to_ranks_without_loss_but_the_last_round(count: int, accumulate: int, devices: int) -> None:
    layout = Layout(per_device_batch_size=3, accumulate=accumulate, devices=devices)
    dealt = []
    for rank in range(devices):
        torch.manual_seed(rank)  # what the ranks have drawn before must not matter
        dealt.append(list(DealtBatches(_Batches(count), layout, rank, seed=3)))
    whole = list(DealtBatches(_Batches(count), Layout(per_device_batch_size=3), 0, seed=3))
    rounds = count // (accumulate * devices)
    assert [len(batches) for batches in dealt] == [rounds * accumulate] * devices
    got = [dealt[turn % devices][turn // devices] for turn in range(rounds * accumulate * devices)]
    assert got == whole[: len(got)]


def test_a_course_of_random_numbers_leaves_the_others_alone() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    undisturbed = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    state = RandomState(7)
    with state.current():
        first = draw()
    assert draw() == undisturbed
    with state.current():
        second = draw()
    fresh = RandomState(7)
    with fresh.current():
        assert (draw(), draw()) == (first, second)
    assert first != second


def test_fixed_batches_know_their_sizes() -> None:
    batches = FixedBatches(range(10), 4)
    assert list(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches.sizes == (4, 4, 2)
    assert len(batches) == 3


def test_a_loader_with_other_batches_is_otherwise_the_users() -> None:
    data = TensorDataset(torch.arange(10))
    loader = DataLoader(data, batch_size=3, shuffle=True, collate_fn=lambda rows: [int(row[0]) for row in rows])
    changed = with_batches(loader, FixedBatches(range(10), 4))
    assert list(changed) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(changed) == 3
    assert len(loader) == 4
    assert sorted(example for batch in loader for example in batch) == list(range(10))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TaskError, match="global batch 16 is larger than the training data: 10 examples"):
        require_whole_batch(10, Layout(per_device_batch_size=8, devices=2))
    batches = _Batches(3)
    batches.batch_size = 5  # type: ignore[attr-defined]
    with pytest.raises(LayoutError, match=r"forms batches of 5, not of 8, although data.batch_size was set"):
        layout = Layout(per_device_batch_size=8)
        check_per_device_share(DealtBatches(batches, layout, 0, 0), layout, "data.batch_size")
