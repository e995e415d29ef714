"""Parts of a trial that need no trial to be looked at."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import TaskError
from lrscale.schedules import build_schedule
from lrscale.training.batches import hash_batch, tensors_of
from lrscale.training.divergence import DivergenceWatch
from lrscale.training.failure import describe_failure, is_out_of_memory
from lrscale.training.flavour import flavour_of
from lrscale.training.instantiate import import_object, instantiate
from lrscale.training.lr_control import LRControl
from lrscale.training.monitor import KNOWN_NAMES, find_monitor
from lrscale.training.paths import get_in_config, get_in_object, set_in_config, set_in_object, tied_values
from lrscale.training.recorder import Recorder
from lrscale.training.step_clock import StepClock


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    return torch.optim.SGD(groups, lr=lrs[0])


class TestLRControl:
    def test_one_factor_moves_every_group_of_every_optimizer(self) -> None:
        first, second = optimizer(0.1, 0.01), optimizer(0.4)
        control = LRControl(build_schedule("linear"), peak_lr=1.0, horizon=4)
        facts = control.attach([first, second], [])
        assert facts["group_lrs"] == [0.1, 0.01, 0.4]
        for step in range(4):
            lr = control.before_step(step)
            got = [group["lr"] for one in (first, second) for group in one.param_groups]
            assert got == pytest.approx([lr, 0.1 * lr, 4 * lr])

    def test_an_lr_that_was_set_in_between_is_put_back(self) -> None:
        one = optimizer(0.1)
        control = LRControl(build_schedule("constant"), peak_lr=1.0, horizon=4)
        control.attach([one], [])
        control.before_step(0)
        control.reassert()
        assert control.closing_notes() == []
        one.param_groups[0]["lr"] = 0.5
        control.reassert()
        assert one.param_groups[0]["lr"] == 1.0
        assert len(control.closing_notes()) == 1

    def test_an_lr_in_a_tensor_is_changed_in_place(self) -> None:
        one = optimizer(0.1)
        held = torch.tensor(0.1)
        one.param_groups[0]["lr"] = held
        control = LRControl(build_schedule("linear"), peak_lr=1.0, horizon=4)
        control.attach([one], [])
        control.before_step(1)
        assert one.param_groups[0]["lr"] is held
        assert float(held) == pytest.approx(build_schedule("linear").factor(1, 4))

    def test_a_module_that_was_told_the_peak_keeps_its_own_schedule_as_it_is(self) -> None:
        one = optimizer(0.001)
        scheduler = torch.optim.lr_scheduler.LambdaLR(one, lambda step: 1 + step)
        config = SimpleNamespace(scheduler=scheduler, strict=True)
        LRControl(None, peak_lr=0.01, horizon=4, told="task.lr").attach([one], [config])
        assert one.param_groups[0]["lr"] == pytest.approx(0.001)
        assert config.strict is False

    def test_without_an_optimizer_it_says_so(self) -> None:
        with pytest.raises(TaskError, match="no optimizer"):
            LRControl(None, 0.1, 1).attach([], [])


class TestDivergence:
    @given(offset=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
    def test_the_verdict_does_not_depend_on_offset_or_scale(self, offset: float, scale: float) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, 200)
        for shape, leaves in ((np.linspace(2, 1, 200), False), (2 + np.linspace(0, 3, 200), True)):
            watch = DivergenceWatch(horizon=200)
            reasons = [watch.add(offset + scale * loss) for loss in shape + noise]
            assert any(reasons) is leaves

    def test_a_spike_of_the_catapult_phase_is_no_divergence(self) -> None:
        losses = [2.0, 2.1, 1.9, 2.0, 2.0, 8.0, 9.0, 3.0, *np.linspace(2, 1, 192)]
        watch = DivergenceWatch(horizon=200)
        assert not any(watch.add(loss) for loss in losses)
        assert watch.verdict_at_end() is None

    @given(st.floats(-100, 100), st.floats(0.01, 100))
    def test_a_run_that_ends_where_it_began_after_it_had_learned_has_diverged(
        self, offset: float, scale: float
    ) -> None:
        noise = 0.05 * np.random.default_rng(0).normal(size=200)
        learned = np.interp(np.arange(200), [0, 80, 100, 110, 199], [2.3, 1.0, 1.0, 2.3, 2.3])
        verdicts = []
        for course in (learned, np.full(200, 2.3), np.linspace(2.3, 1.0, 200)):
            watch = DivergenceWatch(horizon=200)
            assert not any(watch.add(float(offset + scale * loss)) for loss in course + noise)
            verdicts.append(watch.verdict_at_end())
        assert verdicts[0] is not None and "where it began" in verdicts[0]
        # A run that never left its start may have too small an LR, and its loss is a result.
        assert verdicts[1:] == [None, None]

    def test_steps_that_a_loss_scaler_skips_are_no_divergence_and_a_run_of_them_is(self) -> None:
        watch = DivergenceWatch(horizon=100, tolerated=3)
        losses = [2.0, math.inf, 2.1, math.inf, math.nan, math.inf, 1.9, 1.8, 1.7, 1.6]
        assert [watch.add(loss) for loss in losses] == [None] * len(losses)
        assert watch.initial == pytest.approx((2.0 + 2.1 + 1.9 + 1.8 + 1.7) / 5)
        assert [watch.add(math.nan) is None for _ in range(4)] == [True, True, True, False]

    def test_a_loss_that_is_no_number_ends_it_at_once(self) -> None:
        for bad in (math.nan, math.inf, -math.inf):
            watch = DivergenceWatch(horizon=100)
            assert watch.add(1.0) is None
            assert watch.add(bad) is not None


class TestFailures:
    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried"),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ],
    )
    def test_exhausted_memory_is_known_by_its_words(self, error: Exception) -> None:
        assert is_out_of_memory(error)
        assert describe_failure(error).status == "out_of_memory"

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            ("found invalid values: tensor([nan])", "diverged"),
            ("probability tensor contains either `inf`, `nan` or element < 0", "diverged"),
            ("linalg.svd: The algorithm failed because the input matrix contained non-finite values", "diverged"),
            ("no information about the finance table", "crashed"),
            ("dominant inference path is missing", "crashed"),
        ],
    )
    def test_numbers_that_are_none_are_told_from_words_that_look_like_them(self, words: str, status: str) -> None:
        hooks: Any = SimpleNamespace(in_training_step=True)
        recorder: Any = SimpleNamespace(steps=7, own_pending_losses=list)
        watch = DivergenceWatch(horizon=100)
        for loss in (2.0, 2.1, 1.9, 2.0, 2.1, 1.8):
            watch.add(loss)
        module = torch.nn.Linear(1, 1)
        found = describe_failure(ValueError(words), module=module, hooks=hooks, recorder=recorder, watch=watch)
        assert found.status == status

    def test_weights_that_are_no_numbers_explain_any_error(self) -> None:
        module = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(module.weight, math.nan)
        hooks: Any = SimpleNamespace(in_training_step=True)
        recorder: Any = SimpleNamespace(steps=7, own_pending_losses=list)
        watch = DivergenceWatch(horizon=100)
        error = IndexError("index out of range in self")
        found = describe_failure(error, module=module, hooks=hooks, recorder=recorder, watch=watch)
        assert found.status == "diverged"

    def test_a_lost_peer_is_worth_another_try_on_several_ranks_only(self) -> None:
        error = RuntimeError("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:3421")
        assert describe_failure(error, ranks=2).retryable
        assert not describe_failure(error, ranks=1).retryable

    def test_remedies_of_known_errors_are_in_the_words_of_a_recipe(self) -> None:
        error = RuntimeError("Expected to have finished reduction ... by passing `find_unused_parameters=True`")
        assert "task.trainer.strategy" in describe_failure(error, ranks=2).reason


class TestMonitor:
    @pytest.mark.parametrize("name", KNOWN_NAMES)
    def test_names_in_use_are_found_among_others(self, name: str) -> None:
        assert find_monitor([name, "val_acc", "other_loss"], asked=None, has_returned=True) == name

    def test_the_number_of_a_loader_is_no_part_of_the_name(self) -> None:
        logged = ["val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"]
        assert find_monitor(logged, asked=None, has_returned=False) == logged[0]
        assert find_monitor(logged, asked="val_loss", has_returned=False) == logged[0]
        assert find_monitor(logged, asked=logged[1], has_returned=False) == logged[1]

    def test_what_cannot_be_told_is_asked(self) -> None:
        with pytest.raises(TaskError, match="cannot be told: a_loss, b_loss"):
            find_monitor(["a_loss", "b_loss"], asked=None, has_returned=False)
        with pytest.raises(TaskError, match="neither logs nor returns"):
            find_monitor([], asked=None, has_returned=False)
        assert find_monitor(["a_loss", "b_loss"], asked=None, has_returned=True) is None


class TestPaths:
    def test_init_args_may_be_left_out(self) -> None:
        config: dict[str, Any] = {"model": {"class_path": "m.Net", "init_args": {"opt": {"lr": 1}}}}
        assert get_in_config(config, "model.opt.lr") == get_in_config(config, "model.init_args.opt.lr") == 1
        set_in_config(config, "model.opt.lr", 2)
        assert config["model"]["init_args"]["opt"]["lr"] == 2
        set_in_config(config, "model.width", 3)
        assert config["model"]["init_args"]["width"] == 3

    def test_objects_items_and_attributes_are_one_path(self) -> None:
        owner = SimpleNamespace(kwargs={"inner": SimpleNamespace(lr=0.1)})
        set_in_object(owner, "kwargs.inner.lr", 0.3, "task.lr")
        assert get_in_object(owner, "kwargs.inner.lr", "task.lr") == 0.3
        with pytest.raises(TaskError, match=r"task.lr: dict has no iner; did you mean inner"):
            get_in_object(owner, "kwargs.iner", "task.lr")

    def test_numbers_count_into_lists(self) -> None:
        owner = SimpleNamespace(batch_sizes=[8, 16])
        set_in_object(owner, "batch_sizes.1", 4, "task.batch_size")
        assert owner.batch_sizes == [8, 4]
        with pytest.raises(TaskError, match=r"list has no 2; known: 0, 1"):
            get_in_object(owner, "batch_sizes.2", "task.batch_size")

    def test_tied_values_keep_their_ratio_to_the_first(self) -> None:
        values = {"max": "1e-2", "start": 1e-3, "end": None}
        assert tied_values(list(values), values.__getitem__, 0.5) == pytest.approx(
            {"max": 0.5, "start": 0.05, "end": 0.5}
        )


class TestInstantiate:
    def test_nested_class_paths_become_objects(self) -> None:
        made = instantiate(
            {
                "class_path": "types.SimpleNamespace",
                "init_args": {"parts": [{"class_path": "fractions.Fraction", "init_args": {"numerator": 3}}]},
            },
            "task.model",
        )
        assert made.parts == [3]

    def test_numbers_written_as_text_become_numbers(self) -> None:
        made = instantiate({"class_path": "trial_modules.Probe", "init_args": {"lr": "1e-3"}}, "task.model")
        assert made.lr == 1e-3

    def test_a_colon_may_stand_before_the_name(self) -> None:
        assert import_object("fractions:Fraction") is import_object("fractions.Fraction")

    def test_both_flavours_are_told_apart(self) -> None:
        import lightning.pytorch
        import pytorch_lightning

        assert flavour_of(lightning.pytorch.LightningModule).package == "lightning.pytorch"
        assert flavour_of(type("Own", (pytorch_lightning.LightningModule,), {})).package == "pytorch_lightning"
        with pytest.raises(TaskError, match="not a LightningModule"):
            flavour_of(torch.nn.Linear)


class TestBatches:
    def test_tensors_are_found_in_whatever_holds_them(self) -> None:
        inner = SimpleNamespace(x=torch.zeros(3), text="x")
        inner.owner = inner
        batch = {"a": [torch.zeros(2), 1], "b": (inner,), "c": torch.zeros(2).to_sparse()}
        assert sorted(tensor.shape[0] for tensor in tensors_of(batch)) == [2, 3]

    def test_hashes_tell_batches_apart_and_know_them_again(self) -> None:
        one = {"x": torch.arange(8.0), "y": torch.arange(3)}
        assert hash_batch(one) == hash_batch({"x": torch.arange(8.0), "y": torch.arange(3)})
        assert hash_batch(one) != hash_batch({"x": torch.arange(8.0), "y": torch.arange(3) + 1})
        assert hash_batch(["text"]) == 0
        assert 0 < hash_batch(one) < 2**62
        assert hash_batch([torch.zeros(4, dtype=torch.bfloat16), torch.zeros(0)]) > 0


class TestRecorder:
    def recorder(self, folder: Any, **changed: Any) -> Recorder:
        settings: dict[str, Any] = {
            "folder": folder,
            "rank": 0,
            "world_size": 1,
            "horizon": 100,
            "global_batch_size": 4,
            "watch": DivergenceWatch(horizon=100),
            "stop_on_divergence": True,
            "monitor": None,
        }
        recorder = Recorder(**{**settings, **changed})
        recorder.begin(torch.device("cpu"))
        return recorder

    def test_validation_losses_are_weighted_by_the_size_of_their_batch(self, tmp_path: Any) -> None:
        recorder = self.recorder(tmp_path)
        recorder.validation_sizes = (8, 2)
        recorder.begin_validation()
        for index, loss in enumerate((1.0, 6.0)):
            recorder.add_validation_batch({"loss": torch.tensor(loss)}, index)
        recorder.end_validation({})
        assert recorder.final_loss() == pytest.approx((8 * 1 + 2 * 6) / 10)
        recorder.close()

    def test_rows_are_strict_json_whatever_the_numbers(self, tmp_path: Any) -> None:
        import json

        recorder = self.recorder(tmp_path, stop_on_divergence=False)
        for loss in (1.0, math.nan, math.inf, 1e-30, 1e30):
            recorder.lr = 1e-7
            recorder.add_step([torch.tensor(loss)])
        recorder.add_step([])
        recorder.close()
        lines = (tmp_path / "trajectory.jsonl").read_text().splitlines()
        rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        assert [row["train_loss"] for row in rows][:3] == [1.0, None, None]
        assert rows[3]["train_loss"] == pytest.approx(1e-30, rel=1e-6)
        assert rows[5]["train_loss"] is None
        assert {row["lr"] for row in rows} == {1e-7}
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]

    def test_several_losses_of_a_step_are_averaged(self, tmp_path: Any) -> None:
        recorder = self.recorder(tmp_path)
        recorder.add_step([torch.tensor(1.0), torch.tensor([2.0, 4.0], dtype=torch.float16)])
        assert recorder.losses == [2.0]
        recorder.close()


def test_the_clock_leaves_out_what_lies_between_steps() -> None:
    import time

    clock = StepClock(torch.device("cpu"))
    clock.step()
    time.sleep(0.05)
    clock.resume()
    clock.step()
    assert clock.seconds[1] < 0.04
    ends = clock.settle(2)
    assert ends[1] - ends[0] >= 0.05
    assert clock.elapsed >= ends[1]
