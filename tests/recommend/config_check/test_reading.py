"""What a config says, wherever it says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import LrscaleError
from lrscale.recipe.lines import dump_yaml
from lrscale.recommend.config_check.config import LaunchConfig
from lrscale.recommend.config_check.read import KEYS, read_launch_config

FOUND: dict[str, tuple[dict[str, Any], str, float]] = {
    "LightningCLI": ({"fit": {"model": {"class_path": "a.B", "init_args": {"lr": 0.1}}}}, "model.init_args.lr", 0.1),
    "optimizer of its own": (
        {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.3}}},
        "optimizer.init_args.lr",
        0.3,
    ),
    "plain": ({"lr": 1e-3, "batch_size": 8}, "lr", 1e-3),
    "another word": ({"model": {"hparams": {"learning_rate": 0.02}}}, "model.hparams.learning_rate", 0.02),
    "a callback's is another": (
        {"lr": 0.1, "trainer": {"callbacks": [{"class_path": "a.Finder", "init_args": {"lr": 9.0}}]}},
        "lr",
        0.1,
    ),
    "the peak of a cycle": (
        {
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.3}},
            "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.9}},
        },
        "lr_scheduler.init_args.max_lr",
        0.9,
    ),
}


def read(folder: Path, *configs: dict[str, Any], **keys: str) -> LaunchConfig:
    paths = []
    for index, config in enumerate(configs):
        paths.append(folder / f"{index}.yaml")
        paths[-1].write_text(dump_yaml(config))
    return read_launch_config(paths, keys)


@pytest.mark.parametrize("name", FOUND)
def test_the_learning_rate_is_found(name: str, tmp_path: Path) -> None:
    config, key, value = FOUND[name]
    found = read(tmp_path, config).lr
    assert found is not None
    assert (found.key, found.value) == (key, value)


def test_two_learning_rates_are_a_question_and_not_a_choice(tmp_path: Path) -> None:
    gan = {"model": {"generator": {"lr": 1e-4}, "critic": {"lr": 4e-4}}}
    with pytest.raises(LrscaleError, match=r"more than one thing about lr") as caught:
        read(tmp_path, gan)
    assert caught.value.hint == "say which one counts: --key lr=model.generator.lr"
    named = read(tmp_path, gan, lr="model.critic.lr").lr
    assert named is not None
    assert named.value == 4e-4
    tied = {"model": {"generator": {"lr": 1e-4}, "critic": {"lr": 1e-4}}}
    assert read(tmp_path, tied).lr is not None


def test_a_later_file_lies_on_top_and_adds_callbacks(tmp_path: Path) -> None:
    first = {
        "model": {"class_path": "a.B", "init_args": {"lr": 0.1, "width": 4}},
        "trainer": {"devices": 8, "callbacks": [{"class_path": "a.EMA", "init_args": {"decay": 0.99}}]},
    }
    second = {"model": {"init_args": {"lr": 0.2}}, "trainer": {"callbacks+": [{"class_path": "a.Other"}]}}
    both = read(tmp_path, first, second)
    assert both.lr is not None
    assert both.ema is not None
    assert both.devices is not None
    assert (both.lr.value, both.ema.value, both.devices.value) == (0.2, 0.99, 8)
    # The arguments of another class are not those of the first.
    other = read(tmp_path, first, {"model": {"class_path": "a.C", "init_args": {"depth": 2}}})
    assert other.lr is None


@pytest.mark.parametrize(
    ("devices", "number"),
    [(4, 4), ([0, 1], 2), ("0,2,3", 3), ("2", 2), ("auto", None), (-1, None)],
)
def test_devices_are_counted_where_the_config_counts_them(devices: Any, number: int | None, tmp_path: Path) -> None:
    found = read(tmp_path, {"trainer": {"devices": devices}}).devices
    assert (None if found is None else found.value) == number


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({"warmup_steps": 30}, 30),
        ({"model": {"warmup_ratio": 0.1}}, 62.5),
        ({"warmup_examples": 640}, 10),
        ({"warmup_epochs": 2}, 200),
        ({"warmup": "640 examples"}, 10),
        ({"warmup": 0.1}, 62.5),
        ({"warmup": 12}, 12),
        ({"warmup": 0}, 0),
    ],
)
def test_a_warmup_is_read_in_the_unit_of_its_key(config: dict[str, Any], steps: float, tmp_path: Path) -> None:
    found = read(tmp_path, config).warmup
    assert found is not None
    assert found.steps(64, 625, 6_400) == pytest.approx(steps)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"trainer": {"max_steps": -1, "max_epochs": 3}}, "3 epochs"),
        ({"trainer": {"max_steps": 625}}, "625 steps"),
        ({"horizon": "50M examples"}, "50M examples"),
        ({"max_examples": 64_000}, "64k examples"),
    ],
)
def test_a_length_is_read_in_the_unit_of_its_key(config: dict[str, Any], length: str, tmp_path: Path) -> None:
    found = read(tmp_path, config).horizon
    assert found is not None
    assert str(found.value) == length


def test_a_key_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LrscaleError, match=r"no model.init_args.learning_rte") as caught:
        read(tmp_path, {"model": {"init_args": {"learning_rate": 0.1}}}, lr="model.init_args.learning_rte")
    assert "model.init_args.learning_rate" in str(caught.value.hint)
    with pytest.raises(LrscaleError, match=r"unknown name rate"):
        read(tmp_path, {"lr": 0.1}, rate="lr")


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "lr: !!python/object:os.system x\n", "lr: [1\n", "lr: 1\nlr: 2\n"])
def test_what_is_no_config_is_refused_and_nothing_in_it_runs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(LrscaleError):
        read_launch_config([path], {})
    with pytest.raises(LrscaleError, match=r"cannot read the config"):
        read_launch_config([tmp_path / "absent.yaml"], {})


def test_every_name_of_a_key_finds_its_own_word(tmp_path: Path) -> None:
    for name, words in KEYS.items():
        value: Any = "cosine" if name == "schedule" else 8
        for word in words:
            config = read(tmp_path, {"run": {word: value}})
            field = {"batch_size": "per_device_batch_size"}.get(name, name)
            assert getattr(config, field) is not None, (name, word)
