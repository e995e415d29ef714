"""Which version of the code a study's trials come from, as far as git knows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PATIENCE = 5.0
"""Seconds for each of two questions; a file system that needs longer for them leaves the state unknown."""
SHOWN = 12
"""Digits of a commit: more than any repository needs to tell its own apart."""


def code_state(folder: Path) -> str | None:
    """Return the commit of the repository that a folder lies in, and whether files differ from it.

    Parameters
    ----------
    folder : Path
        That of the recipe.

    Returns
    -------
    str or None
        None outside of a repository, without git, and where git gives no answer in time.

    Examples
    --------
    >>> code_state(Path("/")) is None
    True
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if changed is None:
        return f"commit {commit[:SHOWN]}"
    files = len(changed.splitlines())
    if not files:
        return f"commit {commit[:SHOWN]}"
    return f"commit {commit[:SHOWN]}, with changes in {files} file{'s' if files > 1 else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    # A status that refreshes the index would take a lock from whoever works in the repository.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
