"""What starting a trial costs: the local launcher against one torchrun per trial.

    python benchmarks/trial_overhead.py --repeats 9

Both train the same module on the same data with two ranks on CPU, or with one on a GPU (``--accelerator gpu``), one
after the other in turn, so that what else the machine does falls on both. The overhead of a trial is the time from
asking for it to having its result, less the time between the first and the last optimizer step. The launcher's own
start, once for a whole study, is printed apart.

Holds when the launcher's median overhead is at most 1.2 s, and torchrun's median is at least 6 times that. On a busy
machine the first can fail for lack of cores while the second stands; the load is printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANKS = {"cpu": 2, "gpu": 1}
STEPS = 50
GLOBAL_BATCH = 64
MOST_SECONDS = 1.2
LEAST_RATIO = 6.0


def train_as_worker(out: Path, accelerator: str) -> None:
    """Train with a plain Lightning Trainer below torchrun, and write the seconds of training."""
    import pytorch_lightning as pl

    from lrscale.zoo import Digits, DigitsMLP

    class Clock(pl.Callback):
        began = ended = 0.0

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.ended = time.perf_counter()

    clock = Clock()
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=RANKS[accelerator],
        strategy="ddp",
        max_steps=STEPS,
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(DigitsMLP(lr=1e-3), datamodule=Digits(batch_size=GLOBAL_BATCH // RANKS[accelerator]))
    if trainer.is_global_zero:
        out.write_text(json.dumps({"training": clock.ended - clock.began, "steps": trainer.global_step}))
    trainer.strategy.barrier()


def time_torchrun(scratch: Path, number: int, accelerator: str) -> float:
    """Return the seconds of one torchrun beyond its training."""
    out = scratch / f"torchrun-{number}.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    began = time.perf_counter()
    subprocess.run(
        [
            *(*command, str(RANKS[accelerator]), str(Path(__file__).resolve())),
            *("--worker", str(out), "--accelerator", accelerator),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")},
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    result = json.loads(out.read_text())
    if result["steps"] != STEPS:
        raise SystemExit(f"torchrun trained {result['steps']} steps and not {STEPS}")
    return float(seconds - result["training"])


def main() -> int:
    """Measure, print the medians and the ratio, and return 0 when both limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="trials of each kind (default 9)")
    parser.add_argument("--accelerator", choices=sorted(RANKS), default="cpu")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.worker is not None:
        train_as_worker(arguments.worker, arguments.accelerator)
        return 0

    from lrscale.launch import LaunchSettings, LocalLauncher, SilentProgress, TrialRequest
    from lrscale.store import ScheduleSpec, StudyFolder, TrialSpec
    from lrscale.units import Layout

    ranks = RANKS[arguments.accelerator]
    layout = Layout(per_device_batch_size=GLOBAL_BATCH // ranks, devices=ranks)
    spec = TrialSpec(
        task={"model": {"class_path": "lrscale.zoo.DigitsMLP"}, "data": {"class_path": "lrscale.zoo.Digits"}},
        schedule=ScheduleSpec(name="constant"),
        peak_lr=1e-3,
        global_batch_size=GLOBAL_BATCH,
        horizon=STEPS,
        seed=0,
        validate_every=None,
    )
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lrscale-bench-") as temporary:
        scratch = Path(temporary)
        folder = StudyFolder(scratch / "study")
        settings = LaunchSettings(root=scratch, preload=("lrscale.zoo.digits",), accelerator=arguments.accelerator)
        with LocalLauncher(settings) as launcher:

            def run_trial(number: int) -> float:
                trial = dataclasses.replace(spec, seed=number)
                began = time.perf_counter()
                request = TrialRequest(spec=trial, layout=layout, folder=folder.begin_trial(trial))
                (record,) = launcher.run([request], SilentProgress())
                folder.finish_trial(record)
                seconds = time.perf_counter() - began
                if record.status != "completed" or record.steps != STEPS:
                    raise SystemExit(f"the trial ended as {record.status}: {record.reason} {record.log_tail}")
                return seconds - record.timing["training"]

            start = run_trial(10_000)
            for number in range(arguments.repeats):
                ours.append(run_trial(number))
                theirs.append(time_torchrun(scratch, number, arguments.accelerator))
                print(f"{number + 1:3d}  launcher {ours[-1]:6.2f} s   torchrun {theirs[-1]:6.2f} s", flush=True)
    mine, other = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"\nmedian seconds beyond training, ranks: {ranks}, {arguments.repeats} of each in turn:")
    print(f"  local launcher  {mine:6.2f} s  (fastest {min(ours):.2f}; limit {MOST_SECONDS})")
    print(f"  torchrun        {other:6.2f} s  (fastest {min(theirs):.2f})")
    print(f"  ratio           {ratio:6.1f} x  (median of pairs; limit {LEAST_RATIO:.0f})")
    print(f"  launcher's first trial, server start included: {start:.2f} s")
    print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0 if mine <= MOST_SECONDS and ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
