// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
)

func (a *app) check() *cobra.Command {
	var data bool
	var journal string
	cmd := &cobra.Command{
		Use:   "check [flags] SNAPDEV [METADEV]",
		Short: "Verify a store",
		Long: `Check verifies every structure of the store and how they fit together, and with
--data the checksum of every chunk that was copied. It prints each thing that is
wrong, what that means, and changes nothing. A store that was not closed is judged
by what recovery would make of it. Of a store that a server has open, the server
checks its newest checkpoint, while requests go on.`,
		Example: `  ddsnap check --data /srv/vm.store`,
		Args:    args(1, 2, "SNAPDEV", "METADEV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p := service.Paths{Store: args[0], Journal: journal}
			if len(args) == 2 {
				p.Meta = args[1]
			}
			return a.runCheck(cmd.Context(), p, data)
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "verify the copied data too, which reads all of it")
	cmd.Flags().StringVarP(&journal, "journal", "j", "", "journal `device`, of placements nvram and pmem")
	a.jsonFlag(cmd)
	a.progressFlag(cmd)
	return cmd
}

// inspect opens a store's devices to read and runs do.
func (a *app) inspect(p service.Paths, do func(check.Devices) error) error {
	if err := distinct(p.Store, p.Meta, p.Journal); err != nil {
		return err
	}
	devs, err := service.OpenDevices(p, service.Access{ReadOnly: true})
	if err != nil {
		return serverHint(p, err)
	}
	return errors.Join(do(devs.Checked()), devs.Close())
}

func (a *app) runCheck(ctx context.Context, p service.Paths, data bool) error {
	err := a.inspect(p, func(d check.Devices) error {
		progress, finish := a.progress("checking")
		found := check.Check(d, check.Options{Data: data, OnProgress: progress})
		return a.report(p.Store, found, finish)
	})
	if !errors.Is(err, device.ErrInUse) {
		return err
	}
	client, socket := serverOf(ctx, p)
	if client == nil {
		return err
	}
	got, err := client.Do(ctx, admin.Request{Verb: admin.VerbCheck, Data: data})
	if err = errors.Join(err, client.Close()); err != nil {
		return fmt.Errorf("checking %s through %s: %w", p.Store, socket, err)
	}
	if got.Check.More > 0 {
		fmt.Fprintf(a.Err, "ddsnap: %s of %s are left out: close the store, and check again to see all\n",
			plural(int(got.Check.More), "finding"), p.Store)
	}
	return a.report(p.Store, slices.Values(got.Check.Violations), func() {})
}

// report prints what was found, calls finish at its end, and says how bad it is.
func (a *app) report(name string, found iter.Seq[check.Violation], finish func()) error {
	var counts [check.Damage + 1]int
	noStore := false
	for v := range found {
		counts[v.Severity]++
		noStore = noStore || v.Code == check.NoStore
		if err := a.printViolation(v); err != nil {
			return err
		}
	}
	finish()
	switch wrong := counts[check.Leak] + counts[check.Damage]; {
	case noStore && partHint(name) != nil:
		return partHint(name)
	case noStore:
		return codeError{fmt.Errorf("%s holds no store: if it did, \"ddsnap repair --dry-run\" says what is left", name), exitWrong}
	case wrong > 0:
		return codeError{fmt.Errorf("%s: %d damaged, %d leaked", name, counts[check.Damage], counts[check.Leak]), exitDamaged}
	case !a.json:
		fmt.Fprintf(a.Out, "%s: no errors\n", name)
	}
	return nil
}

// printViolation prints a line of text or of JSON.
func (a *app) printViolation(v check.Violation) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(v)
	}
	_, err := fmt.Fprintln(a.Out, v)
	return err
}

func (a *app) dump() *cobra.Command {
	var journal string
	var log bool
	cmd := &cobra.Command{
		Use:   "dump [flags] SNAPDEV [METADEV] [FIRSTCHUNK ENDCHUNK]",
		Short: "Print the structures of a store",
		Long: `Dump prints the superblocks, snapshots and statistics of a store, a line each, and
the exceptions of the chunks from FIRSTCHUNK up to and without ENDCHUNK. What it
prints is as of the last checkpoint; --log adds what came after. No server may have
the store open.`,
		Example: `  ddsnap dump /srv/vm.store
  ddsnap dump --json /srv/vm.store 0 1000`,
		Args: args(1, 4, "SNAPDEV"),
		RunE: func(_ *cobra.Command, args []string) error {
			o := check.DumpOptions{JSON: a.json, Log: log}
			p := service.Paths{Store: args[0], Journal: journal}
			if len(args)%2 == 0 {
				p.Meta = args[1]
			}
			if len(args) > 2 {
				var err error
				if o.First, o.End, err = parseChunks(args[len(args)-2:]); err != nil {
					return err
				}
			}
			return a.inspect(p, func(d check.Devices) error {
				if err := check.Dump(d, a.Out, o); err != nil {
					return codeError{fmt.Errorf("%s: %w", p.Store, err), exitWrong}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&log, "log", false, "print the records since the last checkpoint")
	cmd.Flags().StringVarP(&journal, "journal", "j", "", "journal `device`, of placements nvram and pmem")
	a.jsonFlag(cmd)
	return cmd
}

// parseChunks reads the bounds of a range of chunks.
func parseChunks(args []string) (first, end block.Chunk, err error) {
	var n [2]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(args[i], 0, 64); err != nil {
			return 0, 0, usageError{fmt.Errorf("chunk %q is not a number", args[i])}
		}
	}
	if n[0] >= n[1] {
		return 0, 0, usageError{fmt.Errorf("there are no chunks from %d up to %d", n[0], n[1])}
	}
	return block.Chunk(n[0]), block.Chunk(n[1]), nil
}
