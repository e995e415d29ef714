from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lrscale.errors import LrscaleError
from lrscale.zoo import PythonSource
from lrscale.zoo.python_source import Windows, read_source


def _data(**settings: int) -> PythonSource:
    data = PythonSource(**{"max_bytes": 500_000, **settings})
    data.setup("fit")
    return data


def _tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_the_text_is_the_same_every_time() -> None:
    assert _data().sha256 == _data().sha256


def test_training_and_validation_come_from_different_files(tmp_path: Path) -> None:
    _tree(tmp_path, {f"package/module_{number}.py": chr(33 + number) * 50 for number in range(64)})
    train, validation = read_source(tmp_path, None)
    assert set(train.tolist()).isdisjoint(validation.tolist())
    assert len(train) + len(validation) == 64 * 50
    # One file in 16 validates: 4 of 64 expected, and 0 or more than 12 has a chance below 2 %.
    assert 0 < len(validation) <= 12 * 50


def test_tests_tables_packages_and_build_settings_are_left_out(tmp_path: Path) -> None:
    left_out = ["test/a.py", "json/tests/b.py", "site-packages/c.py", "encodings/d.py", "_sysconfigdata_x.py", "e.txt"]
    _tree(tmp_path, {**dict.fromkeys(left_out, "no"), "kept.py": "yes"})
    train, validation = read_source(tmp_path, None)
    assert train.tobytes() + validation.tobytes() == b"yes"


def test_the_size_is_bounded() -> None:
    train, validation = read_source(PythonSource().root, 100_000)
    assert len(train) + len(validation) == 100_000


def test_neighbouring_windows_predict_every_byte_once() -> None:
    data = _data(context=32)
    first, second = data.train[0], data.train[1]
    assert len(first) == 33
    # The last byte that one window predicts is the first that the next one reads.
    assert first[-1] == second[0]
    predicted = torch.cat([first[1:], second[1:]])
    assert predicted.tolist() == data.train.text[1:65].tolist()


def test_a_smaller_stride_gives_overlapping_windows() -> None:
    assert len(_data(context=32, stride=8).train) == pytest.approx(4 * len(_data(context=32).train), abs=4)


def test_validation_windows_are_as_many_as_asked_and_spread_over_the_text() -> None:
    data = _data(context=32, validation_windows=50)
    starts = data.validation.starts
    assert len(starts) == 50
    assert starts[0] == 0
    assert starts[-1] == len(data.validation.text) - 33
    assert len(set(np.diff(starts).tolist())) <= 2


def test_a_batch_at_once_equals_its_examples_one_by_one() -> None:
    windows = Windows(np.arange(100, dtype=np.uint8), context=4, starts=np.arange(0, 95, 4))
    batch = windows.__getitems__([3, 0, 7])
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, torch.stack([windows[index] for index in (3, 0, 7)]))


def test_loader_processes_give_the_same_windows() -> None:
    here, apart = _data(context=16, max_bytes=60_000), _data(context=16, max_bytes=60_000, num_workers=1)
    torch.manual_seed(0)
    one = next(iter(here.train_dataloader()))
    torch.manual_seed(0)
    other = next(iter(apart.train_dataloader()))
    assert torch.equal(one, other)


def test_a_text_shorter_than_a_window_names_the_remedy(tmp_path: Path) -> None:
    _tree(tmp_path, {"a.py": "short"})
    with pytest.raises(LrscaleError, match="raise max_bytes, or lower context"):
        PythonSource(root=str(tmp_path)).setup("fit")
