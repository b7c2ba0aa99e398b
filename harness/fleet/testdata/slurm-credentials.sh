#!/bin/bash
# Made by zbench fleet render: 15 trials, one an array task.
# sbatch chunks.sh; then: zbench merge s3:https://s3.lab:9000/bench/lab --job chunks -o chunks
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
#SBATCH --constraint=epyc&nvme
#SBATCH --time=01:00:00
set -eu
export HOME=${HOME:-$(getent passwd "$(id -un)" | cut -d: -f6)}
set -a
. "/etc/zbench/s3" # AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=..., on each machine
set +a
export AWS_REGION="eu-1"
exec "/opt/zbench" --results "/data/scratch" run \
  --trial "$SLURM_ARRAY_TASK_ID/15" --job "chunks" --collect "s3:https://s3.lab:9000/bench/lab" --machine "$SLURMD_NODENAME" \
  "--suite=quick" \
  "--experiments=E6" \
  "--device=/dev/sdz" \
  "--force"
