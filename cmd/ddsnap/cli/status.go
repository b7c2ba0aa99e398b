// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// statusFlags choose what status prints.
type statusFlags struct {
	*targetFlags
	verbose, list, last, size, state bool
}

func (a *app) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [flags] SERVER|STORE [TAG|NAME]",
		Short: "Show how full a store is and what its snapshots share",
		Long: `Status prints the store's state, and for each snapshot, or the one called TAG, how
many of the chunks that it reads are copies in the store: in all, read by it
alone, and shared with 1, 2 to 3, 4 to 7 ... others. What deleting a snapshot
frees is the column ALONE. Chunks that still are as the origin's are not counted.

With --list, --last, --size or --state it prints one thing for scripts. --state
prints normal, absent or squashed and exits with 0, 1 or 2, or with 9 on an error.`,
		Example: `  ddsnap status /srv/vm.store
  ddsnap status --state /srv/vm.store 17 && echo usable`,
		Args: args(1, 2, "SERVER|STORE", "TAG|NAME"),
	}
	f := &statusFlags{targetFlags: a.targetFlags(cmd)}
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "print also what the metadata takes")
	cmd.Flags().BoolVarP(&f.list, "list", "l", false, "print the tags only, oldest first")
	cmd.Flags().BoolVar(&f.last, "last", false, "print the newest snapshot's tag")
	cmd.Flags().BoolVarP(&f.size, "size", "s", false, "print the size of the origin, or of snapshot TAG, in sectors of 512 bytes")
	cmd.Flags().BoolVarP(&f.state, "state", "S", false, "print the state of snapshot TAG, and exit with it")
	cmd.ValidArgsFunction = a.completeTags(f.targetFlags, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := a.runStatus(cmd.Context(), f, args)
		if err != nil && f.state && exitCode(err) != exitAbsent && exitCode(err) != exitSquashed {
			err = codeError{err, exitError}
		}
		return err
	}
	return cmd
}

// chosen returns how many of the flags are set, of which one may be.
func (f *statusFlags) chosen() (n int) {
	for _, set := range []bool{f.verbose, f.list, f.last, f.size, f.state} {
		if set {
			n++
		}
	}
	return n
}

func (a *app) runStatus(ctx context.Context, f *statusFlags, args []string) error {
	var one *admin.Ref
	if len(args) == 2 {
		ref, err := parseRef(args[1])
		if err != nil {
			return err
		}
		one = &ref
	}
	show := a.showStatus
	switch {
	case f.chosen() > 1:
		return usageError{errors.New("choose one of --verbose, --list, --last, --size and --state")}
	case f.state && one == nil:
		return usageError{fmt.Errorf("--state needs a TAG")}
	case (f.list || f.last) && one != nil:
		return usageError{fmt.Errorf("--list and --last take no TAG")}
	case f.list:
		show = a.showTags
	case f.last:
		show = a.showLast
	case f.size:
		show = a.showSize
	case f.state:
		show = a.showState
	}
	return a.with(ctx, args[0], f.targetFlags, true, func(ctx context.Context, t *target) error {
		return show(ctx, t, one, f.verbose)
	})
}

func (a *app) showTags(ctx context.Context, t *target, _ *admin.Ref, _ bool) error {
	snaps, err := t.list(ctx)
	if err != nil {
		return err
	}
	tags := make([]block.Tag, len(snaps))
	for i, s := range snaps {
		tags[i] = s.Tag
	}
	if a.json {
		return a.printJSON(tags)
	}
	for _, tag := range tags {
		fmt.Fprintln(a.Out, tag)
	}
	return nil
}

func (a *app) showLast(ctx context.Context, t *target, _ *admin.Ref, _ bool) error {
	snaps, err := t.list(ctx)
	switch {
	case err != nil:
		return err
	case len(snaps) == 0:
		return codeError{fmt.Errorf("%s has no snapshots", t.name), exitAbsent}
	case a.json:
		return a.printJSON(snaps[len(snaps)-1])
	}
	fmt.Fprintln(a.Out, snaps[len(snaps)-1].Tag)
	return nil
}

func (a *app) showSize(ctx context.Context, t *target, ref *admin.Ref, _ bool) error {
	var bytes int64
	if ref != nil {
		s, err := find(ctx, t, *ref)
		if err != nil {
			return err
		}
		bytes = s.Size
	} else {
		r, err := t.ask(ctx, admin.VerbStatus)
		if err != nil {
			return err
		}
		bytes = r.Status.OriginSize
	}
	if a.json {
		return a.printJSON(map[string]int64{"sectors": bytes / block.SectorSize})
	}
	fmt.Fprintln(a.Out, bytes/block.SectorSize)
	return nil
}

// showState answers with the exit code; what it prints is for people.
func (a *app) showState(ctx context.Context, t *target, ref *admin.Ref, _ bool) error {
	s, err := find(ctx, t, *ref)
	state, said := "normal", errors.New("")
	switch {
	case err == nil && s.State == layout.SnapshotSquashed.String():
		state, err = "squashed", codeError{said, exitSquashed}
	case err != nil && exitCode(err) == exitAbsent:
		state, err = "absent", codeError{said, exitAbsent}
	case err != nil:
		return err
	}
	if a.json {
		if err := a.printJSON(map[string]string{"state": state}); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.Out, state)
	}
	return err
}

func (a *app) showStatus(ctx context.Context, t *target, ref *admin.Ref, verbose bool) error {
	r, err := t.ask(ctx, admin.VerbStatus)
	if err != nil {
		return fmt.Errorf("asking for the status: %w", err)
	}
	st := *r.Status
	if t.offline != nil {
		st.Mode = offlineMode(t.unclean)
	}
	if r, err = t.ask(ctx, admin.VerbSharing); err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	rows := r.Sharing
	if ref != nil {
		s, err := find(ctx, t, *ref)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r admin.Sharing) bool { return r.Tag != s.Tag })
	}
	if a.json {
		return a.printJSON(struct {
			admin.Status
			Sharing []admin.Sharing `json:"sharing"`
		}{st, append([]admin.Sharing{}, rows...)})
	}
	if err := printFields(a.Out, statusFields(st, verbose)); err != nil || len(rows) == 0 {
		return err
	}
	return a.printSharing(rows)
}

// offlineMode is the state of a store that no server has open. That it was opened
// read-only to be asked says nothing about it.
func offlineMode(unclean bool) string {
	if unclean {
		return "offline, not closed in order"
	}
	return "offline"
}

// badSlots says how many slots are set aside, since when, and what that means.
func badSlots(st admin.Status, many string) string {
	since := ""
	if st.AsideSince != nil {
		since = " since " + st.AsideSince.Local().Format("2006-01-02 15:04:05")
	}
	return many + " could not be written" + since + ": look after the store device; they are tried again when no others are free"
}

// statusFields are the lines about the store as a whole.
func statusFields(st admin.Status, verbose bool) [][2]string {
	slots := func(n uint64) string {
		return fmt.Sprintf("%s (%s chunks)", formatSize(int64(n)*int64(st.ChunkSize)), formatCount(n))
	}
	snapshots := formatCount(st.Snapshots)
	if st.BeingFreed > 0 {
		snapshots += fmt.Sprintf(", and %s deleted that are being freed", formatCount(st.BeingFreed))
	}
	taken := st.SlotsUsed + st.SlotsLeased + st.SlotsWaiting
	fields := [][2]string{
		{"Store", st.UUID},
		{"State", st.Mode},
		{"Origin size", fmt.Sprintf("%s (%s chunks of %s)", formatSize(st.OriginSize), formatCount(chunks(st)), formatSize(int64(st.ChunkSize)))},
		{"Store size", slots(st.Slots)},
		{"Used", slots(st.SlotsUsed)},
		{"Free", slots(st.Slots - min(st.Slots, taken))},
		{"Snapshots", snapshots},
		{"When full", st.Policy},
	}
	if line := digestLine(st); line != "" {
		fields = append(fields, [2]string{"Digests", line})
	}
	if st.Trouble != "" {
		fields = append(fields, [2]string{"Trouble", "the store takes no copies: " + st.Trouble})
	}
	if st.SlotsAside > 0 {
		fields = append(fields, [2]string{"Bad slots", badSlots(st, slots(st.SlotsAside))})
	}
	if st.LostCount > 0 {
		fields = append(fields, [2]string{"Lost", lostLine(st)})
	}
	if st.FullIn != nil {
		fields = append(fields, [2]string{"Full", forecast(st.FullIn)})
	}
	if r := st.Restore; r != nil {
		fields = append(fields, [2]string{"Restoring", restoreLine(r)})
	}
	for _, d := range st.Devices {
		fields = append(fields, [2]string{"Attached", deviceLine(d)})
	}
	if st.Kernel != nil {
		fields = append(fields, [2]string{"Kernel", kernelLine(st.Kernel)})
	}
	if !verbose {
		return fields
	}
	return append(fields, [][2]string{
		{"Leased to the volume", slots(st.SlotsLeased)},
		{"Free after checkpoint", slots(st.SlotsWaiting)},
		{"Exceptions", formatCount(st.Exceptions)},
		{"Metadata", fmt.Sprintf("%s of %s", formatSize(int64(st.MetadataUsed)*block.PageSize), formatSize(int64(st.MetadataPages)*block.PageSize))},
		{"Metadata in memory", formatSize(st.CacheBytes)},
		{"Placement", st.Placement},
		{"Generation", formatCount(uint64(st.Generation))},
		{"Checkpoint", formatCount(st.Checkpoint)},
		{"Copied since", formatSize(st.UnsavedBytes)},
		{"Created", formatTime(st.Created)},
		{"Format", fmt.Sprint(st.FormatVersion)},
	}...)
}

// restoreLine says how far a revert or merge is.
func restoreLine(r *admin.Restore) string {
	text := fmt.Sprintf("snapshot %d, %s of %s chunks", r.Snapshot, formatCount(r.Done), formatCount(r.Chunks))
	if r.Merge {
		text += ", then it is deleted"
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf(", but for %d that cannot be read", r.Skipped)
	}
	if r.Trouble != "" {
		text += "; does not go on: " + r.Trouble
	}
	return text
}

// lostLine says which chunks were lost, as many as a line holds.
func lostLine(st admin.Status) string {
	text := plural(int(st.LostCount), "chunk") + " of the origin that snapshots need could not be read:"
	for i := max(0, len(st.Lost)-maxLostShown); i < len(st.Lost); i++ {
		text += fmt.Sprintf(" %d", st.Lost[i].Chunk)
	}
	if st.LostCount > maxLostShown {
		text += " and others"
	}
	return text
}

// maxLostShown is how many lost chunks status lists; with --json it lists more.
const maxLostShown = 8

// deviceLine says what a block device is.
func deviceLine(d admin.Device) string {
	of := "the origin"
	if d.Snapshot != nil {
		of = "snapshot " + formatTag(*d.Snapshot)
	}
	if !d.Writable {
		of += ", read-only"
	}
	return fmt.Sprintf("%s: %s", d.Path, of)
}

func chunks(st admin.Status) uint64 {
	return uint64((st.OriginSize + int64(st.ChunkSize) - 1) / int64(st.ChunkSize))
}

// printSharing prints the sharing table, without the classes at its end that no
// snapshot has chunks in.
func (a *app) printSharing(rows []admin.Sharing) error {
	used := 2
	for _, r := range rows {
		for k, n := range r.Chunks {
			if n > 0 {
				used = max(used, k+1)
			}
		}
	}
	head := []string{"TAG", "CHUNKS", "ALONE"}
	for k := 1; k < used; k++ {
		head = append(head, "+"+className(k))
	}
	table := make([][]string, len(rows))
	for i, r := range rows {
		table[i] = []string{formatTag(r.Tag), formatCount(r.Total)}
		for k := range used {
			table[i] = append(table[i], formatCount(r.Chunks[k]))
		}
	}
	fmt.Fprintln(a.Out)
	return printTable(a.Out, 0, head, table)
}

// className says with how many others chunks of a class are shared.
func className(k int) string {
	first, end := 1<<(k-1), 1<<k
	switch {
	case k == store.SharingClasses-1:
		return fmt.Sprintf("%d or more", first)
	case end-first == 1:
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, end-1)
}

// kernelLine says what the kernel's targets do.
func kernelLine(k *admin.Kernel) string {
	switch {
	case k.Error != "":
		return k.Error
	case !k.Server:
		return "not connected"
	case k.Origin && k.Session:
		return fmt.Sprintf("origin in use, %d snapshots", k.Snapshots)
	case k.Origin:
		return fmt.Sprintf("origin not yet in use, %d snapshots", k.Snapshots)
	case k.Snapshots > 0:
		return fmt.Sprintf("%d snapshots", k.Snapshots)
	}
	return "connected, no targets"
}
