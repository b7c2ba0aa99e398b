// SPDX-License-Identifier: Apache-2.0

// Command zbench runs the experiments, and shows what they gave. Package
// harness/cli has all of it; this is the place where it meets the process: its
// arguments, signals and exit code.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/cli"
)

func main() {
	device.UseBlockingIO()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
