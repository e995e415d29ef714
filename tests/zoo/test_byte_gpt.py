from __future__ import annotations

import math

import pytest
import torch

from lrscale.errors import LrscaleError
from lrscale.zoo import ByteGPT


def _model(**settings: int) -> ByteGPT:
    torch.manual_seed(0)
    return ByteGPT(**{"width": 32, "depth": 2, "heads": 4, "context": 16, **settings})


def test_a_byte_sees_no_later_byte() -> None:
    model = _model().eval()
    text = torch.randint(0, 256, (2, 16))
    changed = text.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 256
    with torch.no_grad():
        before, after = model(text), model(changed)
    assert torch.allclose(before[:, :10], after[:, :10], atol=1e-6)
    assert not torch.allclose(before[:, 10:], after[:, 10:], atol=1e-3)


def test_the_first_loss_is_that_of_a_uniform_guess() -> None:
    windows = torch.randint(0, 256, (8, 17), dtype=torch.uint8)
    loss = _model()._loss(windows).detach()
    # Small initial logits: within 2 % of ln 256.
    assert float(loss) == pytest.approx(math.log(256), rel=0.02)


def test_the_loss_is_the_mean_over_all_predicted_bytes() -> None:
    model, windows = _model(), torch.randint(0, 256, (3, 9), dtype=torch.uint8)
    with torch.no_grad():
        logs = model(windows[:, :-1]).log_softmax(-1)
        by_hand = -logs.gather(-1, windows[:, 1:].long().unsqueeze(-1)).mean()
        assert float(model._loss(windows)) == pytest.approx(float(by_hand), rel=1e-6)


@pytest.mark.parametrize(("tied", "extra"), [(True, 0), (False, 256 * 32)])
def test_the_size_follows_from_width_and_depth(tied: bool, extra: int) -> None:
    width, depth, context = 32, 2, 16
    block = 3 * width**2 + width**2 + 8 * width**2 + 4 * width + width + 4 * width
    expected = 256 * width + context * width + depth * block + 2 * width + extra
    model = ByteGPT(width=width, depth=depth, heads=4, context=context, tied_head=tied)
    assert sum(weight.numel() for weight in model.parameters()) == expected


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    model = _model()
    decayed, plain = model.configure_optimizers().param_groups
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert {weight.ndim for weight in decayed["params"]} == {2}
    assert {weight.ndim for weight in plain["params"]} == {1}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_what_joins_the_residual_stream_starts_smaller_with_depth() -> None:
    model = _model(width=128, depth=8)
    joins = torch.cat([block.mlp_out.weight.detach().flatten() for block in model.blocks])
    inner = torch.cat([block.mlp_in.weight.detach().flatten() for block in model.blocks])
    # 500,000 weights: the standard deviation is known to 0.1 %.
    assert float(inner.std()) == pytest.approx(0.02, rel=0.01)
    assert float(joins.std()) == pytest.approx(0.02 / 4, rel=0.01)


def test_bfloat16_gives_the_same_loss_to_its_precision() -> None:
    model, windows = _model(), torch.randint(0, 256, (8, 17), dtype=torch.uint8)
    with torch.no_grad():
        exact = float(model._loss(windows))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = float(model._loss(windows))
    # Logits are rounded to 8 bits; the loss itself is computed in float32.
    assert rounded == pytest.approx(exact, rel=5e-3)


def test_a_few_steps_on_one_batch_learn_it() -> None:
    model, windows = _model(), torch.randint(0, 256, (4, 17), dtype=torch.uint8)
    optimizer = model.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        loss = model._loss(windows)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 2.0


def test_a_width_that_the_heads_do_not_divide_names_the_rule() -> None:
    with pytest.raises(LrscaleError, match=r"width 30, .*heads 4 .*multiple of heads"):
        _model(width=30)
