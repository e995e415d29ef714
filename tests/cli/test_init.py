from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lrscale.cli.app import app
from lrscale.cli.recipe_template import Discovery, batch_sizes, render, slug
from lrscale.cli.source_signature import Argument, SourceSignature, read_logged_names, read_signature
from lrscale.recipe import parse_recipe

IDENTIFIER = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")
CLASS_PATH = st.lists(IDENTIFIER, min_size=2, max_size=4).map(".".join)
ARGUMENT = st.builds(Argument, IDENTIFIER, st.none() | st.text(max_size=12), st.none() | st.text(max_size=12))
SIGNATURE = st.builds(
    SourceSignature, st.lists(ARGUMENT, max_size=4).map(tuple), st.booleans(), st.just(Path("net.py"))
)


@given(
    st.builds(
        Discovery,
        model=CLASS_PATH,
        data=st.none() | CLASS_PATH,
        model_signature=st.none() | SIGNATURE,
        data_signature=st.none() | SIGNATURE,
        facts=st.lists(st.text(max_size=40), max_size=3),
        problem=st.none() | st.text(max_size=40),
        logged=st.lists(st.text(max_size=12), max_size=3),
        batch_size_home=st.none() | st.just("data.init_args.batch_size"),
        own_batch_size=st.none() | st.integers(1, 5000),
        training_examples=st.none() | st.integers(1, 10**7),
    )
)
def test_whatever_was_found_the_recipe_is_valid(found: Discovery) -> None:
    recipe = parse_recipe(render(found))
    assert recipe.task.model is not None
    assert recipe.task.model.class_path == found.model
    assert recipe.experiments.scaling is not None
    assert list(recipe.experiments.scaling.batch_sizes) == batch_sizes(found.own_batch_size, found.training_examples)


def test_names_of_classes_become_names_of_studies() -> None:
    assert [slug(path) for path in ("a.ByteGPT", "a.Net", "a.LSTMModel", "a._Hidden", "a.my_net")] == [
        "byte-gpt",
        "net",
        "lstm-model",
        "hidden",
        "my-net",
    ]


STORED = """
class Net:
    def training_step(self, batch, batch_idx):
        self.log("train_loss", loss)
        self.log(f"train/{name}", loss)
        math.log(x)

    def validation_step(self, batch, batch_idx):
        self.log_dict({"valid/acc": acc, "valid/loss": loss, **more})
"""
SHOP = """
import sys
sys.exit("reading must not run this")

class Base:
    def __init__(self, width: int = 3, *, depth=None, **kwargs): ...

class Net(Base, Generic[int]): ...

class Needs:
    def __init__(self, classes: int, rates: "list[float]", width=4): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    package = tmp_path / "store_front"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import Net as Exported\nfrom .loop import Loop\n")
    (package / "inner" / "__init__.py").write_text("from shop import Net\n")
    (package / "loop.py").write_text("from . import Loop\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_signature_is_read_without_running_the_module(folder: Path) -> None:
    signature = read_signature("shop.Net", [folder])
    assert signature is not None
    assert [str(one) for one in signature.arguments] == ["width: int = 3", "depth=None"]
    assert signature.takes_any
    assert signature.path == folder / "shop.py"


def test_a_signature_is_found_through_re_exports(folder: Path) -> None:
    assert read_signature("store_front.Exported", [folder]) == read_signature("shop.Net", [folder])


@pytest.mark.parametrize("path", ["shop.Nix", "nowhere.Net", "store_front.Loop", "Net", "shop.Net.inner", "sys.Net"])
def test_what_cannot_be_found_has_no_signature(folder: Path, path: str) -> None:
    assert read_signature(path, [folder]) is None


def test_missing_arguments_are_left_as_placeholders(folder: Path) -> None:
    result = CliRunner().invoke(app, ["init", "shop.Needs", "-o", "my.yaml"])
    assert result.exit_code == 0, result.stderr
    text = (folder / "my.yaml").read_text()
    assert "    # init_args:\n    #   classes: VALUE  # int\n    #   rates: VALUE  # 'list[float]'\n" in text
    assert "    #   width: 4\n" in text
    assert "It could not be built yet: shop.Needs needs classes, rates." in result.stdout
    assert "lrscale doctor my.yaml" in result.stdout
    assert parse_recipe(text).name == "needs"


def test_what_a_module_logs_is_offered_as_the_monitor(folder: Path) -> None:
    (folder / "stored.py").write_text(STORED)
    assert read_logged_names("stored.Net", [folder]) == ("train_loss", "valid/acc", "valid/loss")
    assert read_logged_names("stored.Nix", [folder]) == ()
    text = render(Discovery(model="stored.Net", logged=read_logged_names("stored.Net", [folder])))
    assert "  # Its source logs train_loss, valid/acc, valid/loss.\n  # monitor: valid/loss\n" in text


def test_an_existing_file_is_never_touched(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("mine")
    result = CliRunner().invoke(app, ["init", "shop.Net"])
    assert result.exit_code == 2
    assert "error: recipe.yaml exists and is not overwritten\n" in result.stderr
    assert (folder / "recipe.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("argument", "message", "hint"),
    [
        ("shop.py", "CLASS_PATH shop.py is a file, and a class is needed", "write its module and class: shop.CLASS"),
        ("./sub/net.py:Net", "is a file", "write its module and class: sub.net.CLASS"),
        ("Net", "CLASS_PATH Net is not a class with its module", "write package.module.Class"),
    ],
)
def test_what_is_no_class_path_is_refused(folder: Path, argument: str, message: str, hint: str) -> None:
    result = CliRunner().invoke(app, ["init", argument])
    assert result.exit_code == 2
    assert message in result.stderr
    assert f"hint: {hint}\n" in result.stderr
    assert not list(folder.glob("*.yaml"))


MODULE = """
import torch
import pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset

print("noise on standard output")

class Net(pl.LightningModule):
    def __init__(self, width: int = 3, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, width)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(96, 4)), batch_size=16, shuffle=True)

    val_dataloader = train_dataloader
"""


def test_a_module_file_in_the_current_folder_is_built_and_described(folder: Path) -> None:
    (folder / "own.py").write_text(MODULE)
    result = CliRunner().invoke(app, ["init", "own.Net"])
    assert result.exit_code == 0, result.stderr
    text = (folder / "recipe.yaml").read_text()
    for line in (
        "#   15 parameters",
        "#   optimizer SGD; LR of its 1 parameter group: 0.1",
        "#   96 training examples",
        "    #   lr: 0.1  # float",
        "  # monitor: val/loss",
    ):
        assert line in text.splitlines()
    assert "could not be built" not in text
    recipe = parse_recipe(text)
    assert recipe.experiments.scaling is not None
    assert list(recipe.experiments.scaling.batch_sizes) == [4, 16]


@pytest.mark.slow
def test_a_class_that_is_not_there_writes_nothing(folder: Path) -> None:
    (folder / "own.py").write_text(MODULE)
    result = CliRunner().invoke(app, ["init", "own.Nte"])
    assert result.exit_code == 2
    assert result.stderr.endswith("error: module own has no Nte\nhint: did you mean Net?\n")
    assert not list(folder.glob("*.yaml"))
