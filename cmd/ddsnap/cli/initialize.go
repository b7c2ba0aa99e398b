// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// initialization is one run of initialize.
type initialization struct {
	app    *app
	paths  service.Paths
	origin string

	yes, force, dryRun       bool
	chunk, journalSize, size size
	placement, policy        string

	where   layout.Placement
	options store.FormatOptions
}

func (a *app) initialize() *cobra.Command {
	i := &initialization{app: a}
	cmd := &cobra.Command{
		Use:   "initialize [flags] SNAPDEV ORGDEV [METADEV]",
		Short: "Make a snapshot store",
		Long: `Initialize makes an empty snapshot store for the origin ORGDEV on SNAPDEV, with its
metadata on METADEV if that is named. What SNAPDEV, METADEV and the journal device
hold is lost; the origin is not touched.

A device that is mounted, held or bears a signature is refused. --force overrides a
signature; a mounted or held device must be released. Sizes take k, m, g or t.

Placements: inline puts the record of each batch of copies in front of the copies,
which needs no second write; disk keeps records in a journal in the metadata area;
nvram and pmem keep them in a journal on the --journal device.`,
		Example: `  ddsnap initialize /dev/vg/store /dev/vg/origin
  ddsnap initialize --dry-run --chunksize 16k --size 10g /srv/vm.store /srv/vm.img
  ddsnap initialize --placement pmem --journal /dev/pmem0 /dev/vg/store /dev/vg/origin`,
		Args: args(2, 3, "SNAPDEV", "ORGDEV", "METADEV"),
		RunE: func(_ *cobra.Command, args []string) error {
			i.paths.Store, i.origin = args[0], args[1]
			if len(args) == 3 {
				i.paths.Meta = args[2]
			}
			return i.run()
		},
	}
	i.chunk = store.DefaultChunkSize
	fl := cmd.Flags()
	fl.BoolVarP(&i.yes, "yes", "y", false, "don't ask")
	fl.VarP(&i.chunk, "chunksize", "c", "unit of copying, a power of two from 4k to 1m")
	fl.StringVar(&i.placement, "placement", "inline", "`where` records of copies go: inline, disk, nvram, pmem")
	fl.StringVar(&i.policy, "policy", "drop", "`what` to do when it is full: drop, block or fail-writes")
	fl.StringVarP(&i.paths.Journal, "journal", "j", "", "journal `device`, of placements nvram and pmem")
	fl.Var(&i.journalSize, "journalsize", "use this much of the journal device (default all)")
	fl.Var(&i.size, "size", "make SNAPDEV, a new file, of this size")
	fl.BoolVar(&i.dryRun, "dry-run", false, "print what would be made, and make nothing")
	fl.BoolVar(&i.force, "force", false, "overwrite what the devices hold")
	a.jsonFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(policies, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("placement", cobra.FixedCompletions([]string{"inline", "disk", "nvram", "pmem"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (i *initialization) run() (err error) {
	if i.where, err = layout.ParsePlacement(i.placement); err != nil {
		return usageError{fmt.Errorf("--placement: %w", err)}
	}
	if i.options.Policy, err = layout.ParsePolicy(i.policy); err != nil {
		return usageError{fmt.Errorf("--policy: %w", err)}
	}
	needs := i.where == layout.PlacementNVRAM || i.where == layout.PlacementPMem
	switch {
	case needs && i.paths.Journal == "":
		return usageError{fmt.Errorf("placement %v needs a journal device: name it with --journal", i.where)}
	case !needs && (i.paths.Journal != "" || i.journalSize != 0):
		return usageError{fmt.Errorf("placement %v has no journal device: choose --placement nvram or pmem", i.where)}
	}
	if err := distinct(i.paths.Store, i.origin, i.paths.Meta, i.paths.Journal); err != nil {
		return err
	}
	if err := i.checkOrder(); err != nil {
		return err
	}
	sb, sizes, err := i.plan()
	if err != nil {
		return err
	}
	if err := i.checkUnused(); err != nil {
		return err
	}
	if i.dryRun {
		return i.printPlan(sb, sizes)
	}
	if err := i.confirmLoss(sizes); err != nil {
		return err
	}
	return i.format()
}

// distinct refuses to use one file or device as two.
func distinct(paths ...string) error {
	var infos []os.FileInfo
	var names []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			continue // not named, or to be complained of when it is opened
		}
		for j, other := range infos {
			if os.SameFile(info, other) || sameDevice(info, other) {
				return codeError{fmt.Errorf("%s and %s are the same: name different devices", names[j], p), exitWrong}
			}
		}
		infos, names = append(infos, info), append(names, p)
	}
	return nil
}

// checkOrder looks for the mistake most easily made, which is to swap the two: then
// the origin is a store.
func (i *initialization) checkOrder() error {
	found, isSignature := errors.AsType[*device.SignatureError](device.CheckUnused(i.origin))
	if isSignature && isStore(found) && !i.force {
		return refusal{fmt.Errorf("origin %s holds a %s: the store comes first, then the origin (--force overrides)", i.origin, found.Signature)}
	}
	return nil
}

// checkUnused looks for what making the store would destroy.
func (i *initialization) checkUnused() error {
	for _, p := range []string{i.paths.Store, i.paths.Meta, i.paths.Journal} {
		if p == "" || p == i.paths.Store && i.size != 0 {
			continue
		}
		err := device.CheckUnused(p)
		found, isSignature := errors.AsType[*device.SignatureError](err)
		switch {
		case isSignature && i.force:
		case isSignature:
			return refusal{fmt.Errorf("%s holds a %s, which would be lost: wipe it, or insist with --force", p, found.Signature)}
		case err != nil:
			return err
		}
	}
	return nil
}

// confirmLoss asks the user, if there is something to lose.
func (i *initialization) confirmLoss(s *deviceSizes) error {
	if i.yes {
		return nil
	}
	var lost []string
	for _, p := range []struct {
		path string
		size int64
	}{{i.paths.Store, s.store}, {i.paths.Meta, s.meta}, {i.paths.Journal, s.journal}} {
		if p.path != "" && (p.path != i.paths.Store || i.size == 0) {
			lost = append(lost, fmt.Sprintf("%s (%s)", p.path, formatSize(p.size)))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return i.app.confirm(fmt.Sprintf("Everything on %s will be lost.", strings.Join(lost, ", ")))
}

// format makes the store. A file that was made for it goes again if it cannot be.
func (i *initialization) format() (err error) {
	if i.size != 0 {
		if err := makeFile(i.paths.Store, int64(i.size)); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Remove(i.paths.Store))
			}
		}()
	}
	devs, err := service.OpenDevices(i.paths, service.Access{Placement: i.where})
	if err != nil {
		return serverHint(i.paths, err)
	}
	uuid, err := store.Format(devs.Devices, i.options)
	if err = errors.Join(err, devs.Close()); err != nil {
		return fmt.Errorf("making a store on %s: %w", i.paths.Store, err)
	}
	if i.app.json {
		return i.app.printJSON(map[string]string{"uuid": uuid.String()})
	}
	fmt.Fprintf(i.app.Out, "made store %v on %s\n", uuid, i.paths.Store)
	return nil
}
