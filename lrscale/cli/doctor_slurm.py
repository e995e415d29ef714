"""The line of ``lrscale doctor --launch`` about SLURM: whether a job would be taken, without submitting one."""

from __future__ import annotations

import shutil
from pathlib import Path

from lrscale.cli.doctor_checks import Check


def check_slurm() -> Check:
    """Ask SLURM whether it would take a worker job of one node (``sbatch --test-only``); nothing is submitted."""
    from lrscale.launch.slurm.cluster import PROGRAMS, Cluster, RefusedError
    from lrscale.launch.slurm.script import job_script, sbatch_options
    from lrscale.launch.slurm.states import remedy_for
    from lrscale.recipe import SlurmSettings

    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if "sbatch" in absent:
        return Check(name="slurm", status="INFO", sentence="sbatch is not on the path: no job can be submitted here")
    if absent:
        return Check(
            name="slurm",
            status="FAIL",
            sentence=f"sbatch is on the path, and {', '.join(absent)} is not",
            remedy="--launcher slurm needs all of them: run it on a login node",
        )
    cluster, settings = Cluster(), SlurmSettings()
    options = sbatch_options(settings, name="lrscale-doctor", log=Path("/dev/null"), nodes=1, ranks=1)
    try:
        cluster.try_out(options, job_script(settings, study=Path("/tmp"), nodes=1, ranks=1))
    except RefusedError as error:
        said = str(error).splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ")
        return Check(
            name="slurm",
            status="WARNING",
            sentence=f"SLURM does not take a job that asks for one node and nothing else: {said}",
            remedy=remedy_for(str(error))
            or "say in the recipe's slurm what your cluster wants: partition, account, time",
        )
    if cluster.jobs("lrscale-doctor") is None:
        return Check(
            name="slurm",
            status="FAIL",
            sentence="squeue does not answer, so the ends of jobs could not be seen",
            remedy="run squeue by hand, and ask an administrator",
        )
    return Check(
        name="slurm",
        status="PASS",
        sentence="SLURM would take a worker job of one node; none was submitted",
        remedy="to try it whole: lrscale run digits --launcher slurm; in an allocation: srun lrscale doctor --launch",
    )
