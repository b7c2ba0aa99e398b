# Made by zbench fleet render: {{.Count}} trials, one a task.
# nomad job run {{.Name}}.hcl; then: zbench merge {{.To}} --job {{.Name}} -o {{.Name}}
{{- if .S3}}
# The bucket's keys, once: nomad var put {{.Credentials}} AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
{{- end}}
job "{{.Name}}" {
  type        = "batch"
  datacenters = ["*"]
{{range .Select}}
  constraint {
    attribute = "${{"{"}}{{.Key}}}"
    value     = "{{.Value}}"
  }
{{end}}
  group "trial" {
    count = {{.Count}}

    # A port that nobody listens on: it is there once on a machine, so that no two
    # trials are measured there at the same time. The others wait.
    network {
      port "alone" {
        static = 20717
      }
    }

    # A trial that is done again finds what is collected, or goes on where it was.
    restart {
      attempts = 2
      interval = "24h"
      delay    = "15s"
      mode     = "fail"
    }
    reschedule {
      attempts       = 3
      interval       = "24h"
      delay          = "30s"
      delay_function = "constant"
      unlimited      = false
    }

    task "zbench" {
{{- if .Image}}
      driver = "docker"

      config {
        image   = "{{.Image}}"
        command = "{{.Program}}"
{{- if .Privileged}}
        privileged = true
{{- end}}
{{- if .Mounts}}
        volumes = [{{range $i, $m := .Mounts}}{{if $i}}, {{end}}"{{$m}}:{{$m}}"{{end}}]
{{- end}}
{{- else}}
      driver = "raw_exec"

      config {
        command = "{{.Program}}"
{{- end}}
        args = [
          "--results", "{{or .Scratch "${NOMAD_TASK_DIR}/runs"}}", "run", "--trial", "${NOMAD_ALLOC_INDEX}/{{.Count}}",
          "--job", "{{.Name}}", "--collect", "{{.To}}", "--machine", "${node.unique.name}",
{{- range .Args}}
          "{{.}}",
{{- end}}
        ]
      }
{{- if .S3}}

      template {
        data        = <<EOT
{{"{{"}} with nomadVar "{{.Credentials}}" {{"}}"}}
AWS_ACCESS_KEY_ID={{"{{"}} .AWS_ACCESS_KEY_ID {{"}}"}}
AWS_SECRET_ACCESS_KEY={{"{{"}} .AWS_SECRET_ACCESS_KEY {{"}}"}}
{{"{{"}} end {{"}}"}}
EOT
        destination = "${NOMAD_SECRETS_DIR}/s3.env"
        env         = true
      }
{{- end}}
{{- if .Region}}

      env {
        AWS_REGION = "{{.Region}}"
      }
{{- end}}

      resources {
        cpu    = 500
        memory = {{.MemoryMiB}}
      }
    }
  }
}
