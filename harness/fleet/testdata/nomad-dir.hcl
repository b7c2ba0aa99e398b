# Made by zbench fleet render: 15 trials, one a task.
# nomad job run chunks.hcl; then: zbench merge /mnt/lab --job chunks -o chunks
job "chunks" {
  type        = "batch"
  datacenters = ["*"]

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
      driver = "raw_exec"

      config {
        command = "/opt/zbench"
        args = [
          "--results", "${NOMAD_TASK_DIR}/runs", "run", "--trial", "${NOMAD_ALLOC_INDEX}/15",
          "--job", "chunks", "--collect", "/mnt/lab", "--machine", "${node.unique.name}",
          "--suite=quick",
          "--experiments=E6",
        ]
      }

      resources {
        cpu    = 500
        memory = 4096
      }
    }
  }
}
