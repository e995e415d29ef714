"""People plan on login nodes and read reports on laptops: none of that may wait for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "lrscale"

LIGHT = ("laws", "schedules", "recipe", "store", "study", "sweep", "report", "recommend", "launch", "cli", "zoo")
HEAVY = ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics")
NOT_FOR_HELP = (*HEAVY, "numpy", "pandas", "matplotlib", "scipy", "seaborn", "pyarrow", "sklearn")


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, cwd=PACKAGE.parent
    )


def _light_modules() -> list[str]:
    """Every module that plans, fits or reports; of the zoo only the package, whose names resolve on first use."""
    names = ["lrscale", "lrscale.errors", "lrscale.units", "lrscale.registry"]
    for part in LIGHT:
        for path in sorted((PACKAGE / part).rglob("*.py")):
            module = path.relative_to(PACKAGE.parent).with_suffix("")
            name = ".".join(module.parts).removesuffix(".__init__")
            if part != "zoo" or name == "lrscale.zoo":
                names.append(name)
    return names


def test_planning_fitting_and_reporting_load_no_torch() -> None:
    # One process for all: the first module that loads torch is the culprit.
    code = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    loaded = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]
    if loaded:
        sys.exit(f"import {{name}} loads {{loaded}}")
"""
    result = _run(code, *_light_modules())
    assert result.returncode == 0, result.stderr


def test_import_lrscale_loads_no_third_party_package() -> None:
    code = """
import sys
before = set(sys.modules)
import lrscale
known = sys.stdlib_module_names | {"lrscale"}
foreign = sorted({name.split(".")[0] for name in set(sys.modules) - before} - known)
sys.exit(f"import lrscale loads {foreign}" if foreign else 0)
"""
    result = _run(code)
    assert result.returncode == 0, result.stderr


def test_help_loads_no_array_package() -> None:
    code = f"""
import sys
sys.argv = ["lrscale", "--help"]
from lrscale.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [heavy for heavy in {NOT_FOR_HELP!r} if heavy in sys.modules]
sys.exit(f"lrscale --help loads {{loaded}}" if loaded else 0)
"""
    result = _run(code)
    assert result.returncode == 0, result.stderr
    assert "range-test" in result.stdout


def test_planning_loads_none_of_the_large_parts_of_scipy() -> None:
    # Each takes as long to load as a plan takes to make.
    code = """
import sys
import lrscale.study
large = [name for name in ("scipy.stats", "scipy.ndimage", "scipy.interpolate", "pandas") if name in sys.modules]
sys.exit(f"import lrscale.study loads {large}" if large else 0)
"""
    result = _run(code)
    assert result.returncode == 0, result.stderr
