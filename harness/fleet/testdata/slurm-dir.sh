#!/bin/bash
# Made by zbench fleet render: 15 trials, one an array task.
# sbatch chunks.sh; then: zbench merge /mnt/lab --job chunks -o chunks
# A trial that is done again finds what is collected: after failures, sbatch the same again.
#SBATCH --job-name=chunks
#SBATCH --array=0-14
#SBATCH --nodes=1
#SBATCH --ntasks=1
# No two trials are measured on one machine at the same time: the others wait.
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=chunks-%a.log
# The environment of who submits, with keys perhaps, is not kept by Slurm.
#SBATCH --export=NIL
set -eu
export HOME=${HOME:-$(getent passwd "$(id -un)" | cut -d: -f6)}
exec "/opt/zbench" --results "/var/tmp/zbench-$(id -un)" run \
  --trial "$SLURM_ARRAY_TASK_ID/15" --job "chunks" --collect "/mnt/lab" --machine "$SLURMD_NODENAME" \
  "--suite=quick" \
  "--experiments=E6"
