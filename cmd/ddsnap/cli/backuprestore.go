// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/device"
)

// backupRestoration is one run of backup restore.
type backupRestoration struct {
	app         *app
	dryRun, yes bool
}

func (a *app) backupRestore() *cobra.Command {
	var f repositoryFlags
	b := &backupRestoration{app: a}
	cmd := &cobra.Command{
		Use:   "restore [flags] REPO POINT FILE|DEVICE",
		Short: "Restore a backup to a file or device",
		Long: `Restore writes the volume as it was at POINT to FILE, which must not exist, and is there only
when it is complete and durable; or over all that the block device DEVICE holds, if it is
large enough. Everything is verified before it is written. "latest" is the newest backup,
"@2026-11-23" the newest one of that day or before.`,
		Example: `  ddsnap backup restore /mnt/backup/vm latest vm.img
  ddsnap backup restore --key /root/backup.key s3://backups/vm @2026-11-20T18:00 /dev/vg/vm`,
		Args: args(3, 3, "REPO", "POINT", "FILE|DEVICE"),
	}
	f.add(cmd)
	a.jsonFlag(cmd)
	a.progressFlag(cmd)
	cmd.Flags().BoolVar(&b.dryRun, "dry-run", false, "open the backup, say what would be restored, and do nothing")
	cmd.Flags().BoolVarP(&b.yes, "yes", "y", false, "don't ask before a device is overwritten")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		ctx, l, err := r.Lock(ctx, "backup restore", false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		p, err := a.findPoint(ctx, r, args[1])
		if err != nil {
			return err
		}
		m, err := r.NewReader().Image(ctx, p.ID)
		if err == nil {
			err = b.restore(ctx, m, args[2])
		}
		if err != nil {
			return fmt.Errorf("restoring %s: %w", p.ID, err)
		}
		return nil
	}
	return cmd
}

func (b *backupRestoration) restore(ctx context.Context, m *backup.Image, to string) error {
	info, err := os.Stat(to)
	toDevice := err == nil && info.Mode().Type() == os.ModeDevice
	if err == nil && !toDevice {
		return fmt.Errorf("%s: %w: name a new file, or a block device", to, os.ErrExist)
	}
	p := m.Point()
	if b.dryRun {
		if b.app.json {
			return b.app.printJSON(describePoint(&p))
		}
		fmt.Fprintf(b.app.Out, "would restore %s, snapshot %d of %s, to %s\nnothing was done (--dry-run)\n", formatSize(m.Size()), p.Snapshot.Tag, formatTime(p.Created()), to)
		return nil
	}
	show, finish := b.app.progress("restoring")
	defer finish()
	var progress func(done, total int64)
	if show != nil {
		progress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	if toDevice {
		err = b.toDevice(ctx, m, to, progress)
	} else {
		err = backup.RestoreToFile(ctx, m, to, progress)
	}
	if err != nil || !b.app.json {
		return err
	}
	return b.app.printJSON(describePoint(&p))
}

func (b *backupRestoration) toDevice(ctx context.Context, m *backup.Image, to string, progress func(done, total int64)) (err error) {
	holds := "What " + to + " holds"
	if err := device.CheckUnused(to); err != nil {
		found, ok := errors.AsType[*device.SignatureError](err)
		switch {
		case !ok:
			return err
		case isStore(found):
			return codeError{fmt.Errorf("%s holds a %s: it is no place to restore to", to, found.Signature), exitRefused}
		}
		holds = "The " + found.Signature + " on " + to
	}
	d, err := device.OpenFile(to, device.FileOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if d.Size() < m.Size() {
		return codeError{fmt.Errorf("%s has %s, less than the %s of the volume", to, formatSize(d.Size()), formatSize(m.Size())), exitWrong}
	}
	if !b.yes {
		if err := b.app.confirm(holds + " will be lost."); err != nil {
			return err
		}
	}
	return backup.Restore(ctx, m, restored{d}, progress)
}

// restored is a device that is restored to.
type restored struct{ *device.File }

// WriteAt implements backup.Target.
func (r restored) WriteAt(p []byte, off int64) (int, error) {
	aligned := device.Buffer(len(p))
	copy(aligned, p)
	return r.File.WriteAt(aligned, off)
}

// Zero implements backup.Target.
func (r restored) Zero(off, n int64) error { return device.WriteZeroes(r.File, off, n) }
