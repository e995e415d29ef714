from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits

from lrscale.errors import LrscaleError
from lrscale.zoo import Digits, DigitsMLP


def _data(batch_size: int = 64) -> Digits:
    data = Digits(batch_size=batch_size)
    data.setup("fit")
    return data


def test_the_images_are_those_of_scikit_learn() -> None:
    data = _data()
    labels = torch.cat([data.train.tensors[1], data.validation.tensors[1]])
    pixels = torch.cat([data.train.tensors[0], data.validation.tensors[0]])
    bunch = load_digits()
    assert torch.bincount(labels).tolist() == torch.bincount(torch.from_numpy(bunch.target)).tolist()
    # Standardising is linear, so the correlation of pixel sums with labels survives it.
    ours = torch.corrcoef(torch.stack([pixels.sum(1), labels.float()]))[0, 1]
    theirs = torch.corrcoef(torch.stack([torch.from_numpy(bunch.data).sum(1), torch.from_numpy(bunch.target).double()]))
    assert float(ours) == pytest.approx(float(theirs[0, 1]), abs=1e-5)


def test_the_split_is_1437_and_360_and_fixed_by_its_seed() -> None:
    first, again, other = _data(), _data(), Digits(split_seed=1)
    other.setup("fit")
    assert (len(first.train), len(first.validation)) == (1437, 360)
    assert torch.equal(first.validation.tensors[0], again.validation.tensors[0])
    assert not torch.equal(first.validation.tensors[1], other.validation.tensors[1])


def test_training_pixels_have_mean_zero_and_deviation_one() -> None:
    pixels = _data().train.tensors[0]
    assert float(pixels.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(pixels.std()) == pytest.approx(1.0, abs=1e-4)


def test_a_batch_at_once_equals_its_examples_one_by_one() -> None:
    rows = _data().train
    pixels, labels = rows.__getitems__([5, 0, 9])
    for position, index in enumerate([5, 0, 9]):
        assert torch.equal(pixels[position], rows[index][0])
        assert torch.equal(labels[position], rows[index][1])


def test_width_and_depth_set_the_size() -> None:
    def size(width: int, depth: int) -> int:
        return sum(weight.numel() for weight in DigitsMLP(width=width, depth=depth).parameters())

    assert size(width=32, depth=1) == 64 * 32 + 32 + 32 * 10 + 10
    assert size(width=32, depth=3) == size(width=32, depth=1) + 2 * (32 * 32 + 32)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimizer_has_the_modules_own_learning_rate(name: str) -> None:
    model = DigitsMLP(optimizer=name, lr=0.02, weight_decay=0.3)  # type: ignore[arg-type]  # parametrised by name
    groups = model.configure_optimizers().param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.02, 0.3)]


def test_misuse_names_the_value_and_the_remedy() -> None:
    with pytest.raises(LrscaleError, match=r"width 0 .* at least 1"):
        DigitsMLP(width=0)
    with pytest.raises(LrscaleError, match="no optimizer 'adam'"):
        DigitsMLP(optimizer="adam")  # type: ignore[arg-type]  # the misuse that is tested


def test_four_epochs_learn_nine_digits_of_ten() -> None:
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(DigitsMLP(lr=8e-3), datamodule=Digits(batch_size=32))
    # Over ten seeds: accuracy 0.947 to 0.986, loss 0.04 to 0.14. Chance is 0.1 and 2.3.
    assert float(trainer.callback_metrics["val_accuracy"]) > 0.9
    assert float(trainer.callback_metrics["val_loss"]) < 0.3


def test_wrong_labels_are_of_training_alone_and_grow_with_their_share() -> None:
    def of(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        data = Digits(label_noise=share)
        data.setup("fit")
        return data.train[:][1], data.validation[:][1]

    clean, few, many = of(0.0), of(0.2), of(0.6)
    assert torch.equal(clean[1], few[1]) and torch.equal(clean[1], many[1])
    wrong = [clean[0] != noisy[0] for noisy in (few, many)]
    # One of ten new labels is the old one.
    assert wrong[0].float().mean().item() == pytest.approx(0.18, abs=0.04)
    assert wrong[1].float().mean().item() == pytest.approx(0.54, abs=0.04)
    assert bool((wrong[1] >= wrong[0]).all())
    with pytest.raises(LrscaleError, match=r"label_noise 1\.5"):
        Digits(label_noise=1.5)
