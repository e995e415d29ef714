"""Files that are either whole or absent, and JSON that every reader accepts."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrscale.errors import StudyError


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old one or the new one, also after a kill or a power cut.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    text : str
        The content, written as UTF-8.
    durable : bool, optional
        Whether to wait until it is on the disk. Without, a power cut may leave it absent or empty: for what a run tells
        its own processes and nobody reads after it. Default True.

    Raises
    ------
    StudyError
        When the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Log lines may hold bytes that are no UTF-8, as lone surrogates: written as the escapes that JSON has for them.
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise StudyError(
            f"cannot write {path}: {error.strerror}", hint="free space or choose another --study"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON; NaN and infinity become null, since many readers refuse them.

    Examples
    --------
    >>> to_json({"loss": float("nan"), "lr": 0.1})
    '{"loss": null, "lr": 0.1}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def read_json(path: Path) -> Any:
    """Read a JSON file of a study.

    Raises
    ------
    StudyError
        When it is absent or not JSON, naming the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise StudyError(f"{path} is not valid JSON: {error}", hint="remove the file to have it made again") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _finite(value.item())
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value
