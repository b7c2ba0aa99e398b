# Made by zbench fleet render: 15 trials, one a task.
# nomad job run chunks.hcl; then: zbench merge s3:https://s3.lab:9000/bench/lab --job chunks -o chunks
# The bucket's keys, once: nomad var put lab/bench AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
job "chunks" {
  type        = "batch"
  datacenters = ["*"]

  constraint {
    attribute = "${node.class}"
    value     = "bench"
  }

  constraint {
    attribute = "${attr.cpu.arch}"
    value     = "amd64"
  }

  group "trial" {
    count = 15

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
      driver = "docker"

      config {
        image   = "zbench:1"
        command = "/opt/zbench"
        privileged = true
        volumes = ["/data/scratch:/data/scratch", "/dev:/dev"]
        args = [
          "--results", "/data/scratch", "run", "--trial", "${NOMAD_ALLOC_INDEX}/15",
          "--job", "chunks", "--collect", "s3:https://s3.lab:9000/bench/lab", "--machine", "${node.unique.name}",
          "--suite=quick",
          "--experiments=E6",
          "--device=/dev/sdz",
          "--force",
        ]
      }

      template {
        data        = <<EOT
{{ with nomadVar "lab/bench" }}
AWS_ACCESS_KEY_ID={{ .AWS_ACCESS_KEY_ID }}
AWS_SECRET_ACCESS_KEY={{ .AWS_SECRET_ACCESS_KEY }}
{{ end }}
EOT
        destination = "${NOMAD_SECRETS_DIR}/s3.env"
        env         = true
      }

      env {
        AWS_REGION = "eu-1"
      }

      resources {
        cpu    = 500
        memory = 4096
      }
    }
  }
}
