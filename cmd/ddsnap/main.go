// SPDX-License-Identifier: Apache-2.0

// Command ddsnap makes snapshot stores, takes and deletes snapshots, and exports
// a volume with its snapshots over NBD.
//
// It owns nothing but the process: package cli has the verbs. Users and scripts
// call it. It exits with the codes of "ddsnap help exit-codes".
package main

import (
	"os"

	"zumastor.org/zumastor/cmd/ddsnap/cli"
	"zumastor.org/zumastor/engine/device"
)

func main() {
	device.UseBlockingIO()
	os.Exit(cli.Run(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
