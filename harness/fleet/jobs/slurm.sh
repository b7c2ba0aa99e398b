#!/bin/bash
# Made by zbench fleet render: {{.Count}} trials, one an array task.
# sbatch {{.Name}}.sh; then: zbench merge {{.To}} --job {{.Name}} -o {{.Name}}
# A trial that is done again finds what is collected: after failures, sbatch the same again.
#SBATCH --job-name={{.Name}}
#SBATCH --array=0-{{.Last}}
#SBATCH --nodes=1
#SBATCH --ntasks=1
# No two trials are measured on one machine at the same time: the others wait.
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={{.Name}}-%a.log
# The environment of who submits, with keys perhaps, is not kept by Slurm.
#SBATCH --export=NIL
{{- range .Select}}
#SBATCH --{{.Key}}={{.Value}}
{{- end}}
set -eu
export HOME=${HOME:-$(getent passwd "$(id -un)" | cut -d: -f6)}
{{- if .S3}}
{{- if .Credentials}}
set -a
. "{{.Credentials}}" # AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=..., on each machine
set +a
{{- else}}
# The bucket's keys are those of ~/.aws/credentials.
{{- end}}
{{- end}}
{{- if .Region}}
export AWS_REGION="{{.Region}}"
{{- end}}
exec "{{.Program}}" --results "{{or .Scratch "/var/tmp/zbench-$(id -un)"}}" run \
  --trial "$SLURM_ARRAY_TASK_ID/{{.Count}}" --job "{{.Name}}" --collect "{{.To}}" --machine "$SLURMD_NODENAME"
{{- range .Args}} \
  "{{.}}"
{{- end}}
