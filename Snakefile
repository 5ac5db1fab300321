# The experiments as rules, for machines with many cores and for clusters:
#   snakemake --cores 16                                  on one machine
#   snakemake --executor slurm --jobs 200                 on a cluster (pip install snakemake-executor-plugin-slurm)
#   snakemake --cores 16 --config experiments=table_iv    some of them, separated by commas
#   snakemake --cores 16 --config folder=DIR              with the trials in another folder than runs/
#
# Each trial is a job. The runner knows a trial by the hash of its content, so a rule that runs again without need
# reads what is there and costs nothing; `update` keeps Snakemake from deleting it first.
import sys

from aiecof.study.experiments import experiments, trials_of
from aiecof.study.runner import runs_folder

CHOSEN = str(config.get("experiments", ",".join(experiments()))).split(",")
PROFILE = config.get("profile", "full")
FOLDER = config.get("folder", runs_folder())
TRIALS = trials_of(CHOSEN, PROFILE)


rule all:
    input:
        [f"{FOLDER}/{trial}/result.json" for trial in TRIALS],
    params:
        command=[sys.executable, "-m", "aiecof", "run", *CHOSEN, "--profile", PROFILE, "--folder", str(FOLDER)],
    shell:
        "{params.command:q}"


rule trial:
    output:
        update(f"{FOLDER}/{{trial}}/result.json"),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=["--profile", PROFILE, "--folder", str(FOLDER)],
        python=sys.executable,
    shell:
        "OMP_NUM_THREADS=1 {params.python:q} -m aiecof trial {wildcards.trial} {params.options:q}"
