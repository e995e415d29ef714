from __future__ import annotations

import dataclasses

import pytest
import torch
from layout_modules import Attending, Normalised
from lrscale_test_trials import Trials, make_spec, make_task
from torch import nn

from lrscale.errors import LrscaleError
from lrscale.training.instruments.gradient_sketch import BUCKETS, GradientSketcher, folded
from lrscale.training.instruments.layout_probe import LayoutProbe
from lrscale.training.instruments.still import still
from lrscale.units import Layout


def test_a_sketch_is_linear_and_the_same_in_every_process() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(50, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    one, other = GradientSketcher(), GradientSketcher()
    mean = one.sketch("a.weight", (first + second) / 2)
    torch.testing.assert_close(mean, (other.sketch("a.weight", first) + other.sketch("a.weight", second)) / 2)
    assert not torch.equal(one.sketch("a.weight", first), one.sketch("b.weight", first))


def test_the_squared_norm_of_a_sketch_is_unbiased_with_the_stated_spread() -> None:
    gradient = torch.randn(10_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    squares = (
        torch.stack([GradientSketcher().sketch(f"layer.{place}", gradient).square().sum() for place in range(400)])
        / gradient.square().sum()
    )
    # 400 draws of a mean with relative standard deviation sqrt(2 / 64).
    assert abs(float(squares.mean()) - 1) < 4 * (2 / BUCKETS) ** 0.5 / 20
    assert float(squares.std()) == pytest.approx((2 / BUCKETS) ** 0.5, rel=0.2)


def test_a_tensor_longer_than_the_signs_keeps_every_element() -> None:
    long = torch.zeros(3 * (1 << 20) + 5)
    for place in (0, 1 << 20, len(long) - 1):
        one = long.clone()
        one[place] = 2.0
        assert float(GradientSketcher().sketch("w", one).abs().sum()) == 2.0


def test_sparse_and_half_precision_gradients_are_sketched() -> None:
    dense = torch.zeros(20, 4)
    dense[3] = 1.5
    sketcher = GradientSketcher()
    expected = sketcher.sketch("table", dense)
    torch.testing.assert_close(sketcher.sketch("table", dense.to_sparse(1)), expected)
    torch.testing.assert_close(sketcher.sketch("table", dense.bfloat16()), expected)
    torch.testing.assert_close(folded(expected, 16).sum(), expected.sum())


def test_stillness_takes_dropout_and_batch_statistics_out_and_puts_them_back() -> None:
    inputs = torch.randn(12, 6)
    for module in (Attending(), Normalised()):
        call = module if isinstance(module, Attending) else module.logits
        with still(module, ("dropout", "batch_norm")):
            together = call(inputs)
            apart = torch.cat([call(inputs[:5]), call(inputs[5:])])
            torch.testing.assert_close(together, apart)
        assert not torch.allclose(call(inputs), torch.cat([call(inputs[:5]), call(inputs[5:])]), rtol=1e-3)
    assert nn.functional.dropout(torch.ones(1000), 0.5).sum() != 1000


def test_a_part_that_cannot_be_taken_out_is_named() -> None:
    with pytest.raises(LrscaleError, match="layout_probe cannot still noise"):
        LayoutProbe(still=["noise"])


@pytest.mark.parametrize(
    "layout", [Layout(per_device_batch_size=4, accumulate=2), Layout(per_device_batch_size=4, devices=2)]
)
def test_a_probed_trial_trains_as_it_would_without(trials: Trials, layout: Layout) -> None:
    spec = make_spec(make_task("layout_modules.Dropping", "layout_modules.Blobs"), lr=0.01, horizon=6, every=None)
    probed = dataclasses.replace(spec, instruments={"layout_probe": {}})
    plain, measured = trials.one(spec, layout), trials.one(probed, layout)
    assert measured.train_losses == plain.train_losses
    assert measured.record.warnings == plain.record.warnings
    found = measured.record.measurements["layout_probe"]
    assert len(found["steps"]) == 6
    assert found["steps"][0]["drew"]
    assert len({hashed for rank in found["steps"][0]["hashes"] for hashed in rank}) == 2
    losses = [sum(map(sum, step["losses"])) / 2 for step in found["steps"]]
    assert losses == pytest.approx(plain.train_losses, rel=1e-6)
