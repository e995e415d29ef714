"""Checks that run alike on a laptop and in continuous integration: ``nox``, or ``nox -s NAME``.

``nox --no-venv`` uses the packages of the environment that nox runs in, which must hold ``.[dev]``,
and ``.[bench]`` for the peers of ``nox -s bench -- replay``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nox
import nox.virtualenv

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True

ROOT = Path(__file__).resolve().parent
CONSTRAINTS = str(ROOT / "constraints.txt")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _install(session: nox.Session, *packages: str) -> None:
    if not isinstance(session.virtualenv, nox.virtualenv.PassthroughEnv):
        session.install("-c", CONSTRAINTS, *packages)


def _python(session: nox.Session, *arguments: str, **environment: str) -> None:
    # Without an environment of its own a session has nox's interpreter, which `python` on the path need not be.
    alone = isinstance(session.virtualenv, nox.virtualenv.PassthroughEnv)
    session.run(sys.executable if alone else "python", *arguments, env=environment, external=alone)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    _install(session, "ruff")
    _python(session, "-m", "ruff", "check", *session.posargs, ".")
    _python(session, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, strictly."""
    _install(session, "-e", ".[dev]")
    _python(session, "-m", "mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the default tests: everything that needs no cluster, no browser and little time."""
    _install(session, "-e", ".[test]")
    _python(session, "-m", "pytest", *session.posargs)


@nox.session
def tests_all(session: nox.Session) -> None:
    """Run every test but the endurance tests. Tests whose tool is absent skip themselves and say so."""
    _install(session, "-e", ".[test,strangers,ray-search]")
    _python(session, "-m", "pytest", "-m", "not endurance", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job twice, then open its report. The second run must find nothing missing."""
    _install(session, "-e", ".[test]")
    study = Path(session.create_tmp(), "digits-study").resolve()
    shutil.rmtree(study, ignore_errors=True)
    for _ in range(2):
        _python(session, "-m", "lrscale", "run", "digits", "--study", str(study))
    for name in ("report.html", "recommendation.yaml"):
        if not (study / name).is_file():
            session.error(f"the demo wrote no {name}")
    test = "tests/test_demo_report.py"
    if any(shutil.which(name) for name in BROWSERS):
        _python(session, "-m", "pytest", "-m", "browser", test, LRSCALE_DEMO_STUDY=str(study))
    else:
        session.warn("no Chromium or Chrome on the path: the report was not opened")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks named after ``--``, or all; options follow their benchmark: ``-- coverage --only laws``."""
    _install(session, "-e", ".[test,bench]")
    known = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_"))
    runs: list[list[str]] = []
    for word in session.posargs or known:
        if word in known:
            runs.append([word])
        elif runs:
            runs[-1].append(word)
        else:
            session.error(f"no benchmark {word}; there are {', '.join(known)}")
    for name, *options in runs:
        _python(session, f"benchmarks/{name}.py", *options, OMP_NUM_THREADS="1")


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and from it the wheel, install the wheel into a fresh environment and list the recipes."""
    _install(session, "build")
    scratch = Path(session.create_tmp()).resolve()
    dist, fresh = scratch / "dist", scratch / "fresh"
    shutil.rmtree(dist, ignore_errors=True)
    shutil.rmtree(fresh, ignore_errors=True)
    _python(session, "-m", "build", "--outdir", str(dist), str(ROOT))
    (wheel,) = dist.glob("*.whl")
    _python(session, "-m", "venv", str(fresh))
    bin_folder = fresh / ("Scripts" if os.name == "nt" else "bin")
    session.run(str(bin_folder / "python"), "-m", "pip", "install", "-c", CONSTRAINTS, str(wheel), external=True)
    # Outside the checkout, so that what answers is the installed package.
    with session.chdir(scratch):
        answer = session.run(str(bin_folder / "lrscale"), "recipes", silent=True, external=True)
    if not isinstance(answer, str) or not re.search(r"\bdigits\b", answer):
        session.error(f"the installed package does not list the recipe digits: {answer}")
    session.log(answer)
