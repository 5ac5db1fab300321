# The experiments as rules, for machines with many cores and for clusters:
#   snakemake --cores 16                                  on one machine
#   snakemake --executor slurm --jobs 200                 on a cluster (pip install snakemake-executor-plugin-slurm)
#   snakemake --cores 16 --config experiments=table_iv    some of them, separated by commas
#
# Each trial is a job. The runner knows a trial by the hash of its content, so a rule that runs again without need
# reads what is there and costs nothing.
from aiecof.experiments import EXPERIMENTS
from aiecof.runner import RUNS, trials_of

CHOSEN = str(config.get("experiments", ",".join(EXPERIMENTS))).split(",")
TRIALS = trials_of(CHOSEN, config.get("profile", "full"))


rule all:
    input:
        [f"{RUNS}/{trial}/result.json" for trial in TRIALS],
    params:
        names=" ".join(CHOSEN),
        profile=config.get("profile", "full"),
    shell:
        "aiecof run {params.names} --profile {params.profile}"


rule trial:
    output:
        f"{RUNS}/{{trial}}/result.json",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        profile=config.get("profile", "full"),
    shell:
        "OMP_NUM_THREADS=1 aiecof trial {wildcards.trial} --profile {params.profile}"
