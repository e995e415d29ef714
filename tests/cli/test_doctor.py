from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from lrscale.cli import doctor, doctor_checks
from lrscale.cli.app import app
from lrscale.cli.doctor_checks import Check


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, size))


def versions(monkeypatch: pytest.MonkeyPatch, **found: str | None) -> None:
    monkeypatch.setattr(doctor_checks, "installed", lambda name: found.get(name.replace("-", "_"), "1.0"))


def test_this_environment_passes() -> None:
    for check in doctor_checks.environment_checks(Path.cwd()):
        assert check.status != "FAIL", check
        assert check.sentence.isascii()
        if check.status == "WARNING":
            assert check.remedy, check


def test_disk_and_shared_memory_warn_before_they_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for size, disk, shared in ((10**6, "FAIL", "WARNING"), (2**29, "WARNING", "PASS"), (2**33, "PASS", "PASS")):
        free(monkeypatch, size)
        assert doctor_checks.check_disk(tmp_path).status == disk
        assert doctor_checks.check_shared_memory(tmp_path).status == shared
    assert doctor_checks.check_shared_memory(tmp_path / "absent").status == "INFO"


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert doctor_checks.check_folder(tmp_path).status == "PASS"
    assert doctor_checks.check_folder(tmp_path / "absent").status == "FAIL"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "check", "status"),
    [
        ("torch", doctor_checks.check_torch, "FAIL"),
        ("pytorch_lightning", doctor_checks.check_lightning, "FAIL"),
        ("lightning", doctor_checks.check_lightning, "WARNING"),
        ("scipy", doctor_checks.check_packages, "FAIL"),
    ],
)
def test_a_missing_package_comes_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, missing: str, check: Callable[[], Check], status: str
) -> None:
    versions(monkeypatch, **{missing: None})
    found = check()
    assert found.status == status
    assert found.remedy is not None
    assert "pip install" in found.remedy
    assert missing.replace("_", "-") in found.remedy


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    assert doctor_checks.check_python().status == "FAIL"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("NVIDIA H100, 81559, 100\nNVIDIA H100, 81559, 100\n", "PASS", "2 visible GPUs: NVIDIA H100"),
        ("NVIDIA H100, 81559, 100\nNVIDIA H100, 81559, 40000\n", "WARNING", "memory of GPU 1 is in use"),
        ("NVIDIA H100 MIG, [N/A], [N/A]\n", "PASS", "2 GPUs"),
        ("", "PASS", "2 GPUs"),
    ],
)
def test_gpus_are_named_and_busy_ones_too(monkeypatch: pytest.MonkeyPatch, answer: str, status: str, said: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(shutil, "which", lambda name: name)

    class Answer:
        stdout = answer

    monkeypatch.setattr(doctor_checks.subprocess, "run", lambda *args, **kwargs: Answer)
    check = doctor_checks.check_accelerators()
    assert check.status == status
    assert said in check.sentence


def test_hidden_gpus_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides them" in doctor_checks.check_accelerators().sentence


def with_checks(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> Any:
    monkeypatch.setattr(doctor, "_checks", lambda recipe: iter(checks))
    return CliRunner().invoke(app, ["doctor"])


def test_the_exit_code_is_1_only_when_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    warning = Check(name="disk", status="WARNING", sentence="0.5 GiB free", remedy="free space")
    failure = Check(name="torch", status="FAIL", sentence="torch is not installed", remedy="pip install torch")
    result = with_checks(monkeypatch, warning)
    assert result.exit_code == 0
    assert result.stdout == "WARNING  disk: 0.5 GiB free\n         -> free space\n"
    assert with_checks(monkeypatch, warning, failure).exit_code == 1


def test_a_recipe_that_does_not_load_fails_with_its_message(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: demo\ntask: {modle: {class_path: a.B}}\n")
    (check,) = doctor.check_recipe(str(path))
    assert check.status == "FAIL"
    assert "modle" in check.sentence


def test_two_real_ranks_train_together() -> None:
    check = doctor.check_ranks("cpu", 2)
    assert check.status == "PASS", check
    assert check.sentence.startswith("2 ranks on the CPU (gloo) trained 4 steps together in ")


def recipe_of(folder: Path, model: str, data: str = "Blobs") -> Path:
    trained = Path(__file__).resolve().parent.parent / "training"
    path = folder / "demo.yaml"
    path.write_text(
        f"name: demo\ntask:\n  import_paths: [{trained}]\n  model: {{class_path: layout_modules.{model}}}\n"
        f"  data: {{class_path: layout_modules.{data}}}\nlayout: {{devices: 2, accelerator: cpu}}\n"
        "experiments: {equivalence: false}\n"
    )
    return path


@pytest.mark.slow
def test_a_summed_loss_is_warned_of_with_its_remedy(tmp_path: Path) -> None:
    *others, check = doctor.check_recipe(str(recipe_of(tmp_path, "Summed")))
    assert all(one.status != "FAIL" for one in others), others
    assert (check.name, check.status) == ("layout", "WARNING")
    assert "the loss is summed over the batch" in check.sentence
    assert "reduction='mean'" in (check.remedy or "")


@pytest.mark.slow
def test_ranks_that_read_the_same_batches_fail(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", str(recipe_of(tmp_path, "Clean", "OwnBlobs"))])
    assert result.exit_code == 1
    said = " ".join(result.stdout.split())
    assert "FAIL layout: " in said
    assert "every rank reads the same batches, so that the global batch is 16 and not 32" in said


@pytest.mark.slow
def test_a_module_that_does_not_train_fails_with_what_it_raised(tmp_path: Path) -> None:
    path = recipe_of(tmp_path, "Clean")
    path.write_text(path.read_text().replace("layout_modules.Clean}", "layout_modules.Broken}"))
    *_, check = doctor.check_recipe(str(path))
    assert check.status == "FAIL"
    assert "KeyError: 'no such column'" in check.sentence
    assert check.remedy is None
