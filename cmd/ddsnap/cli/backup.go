// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/delta"
)

func (a *app) backup() *cobra.Command {
	return family(&cobra.Command{
		Use:   "backup",
		Short: "Keep snapshots in a directory or an object store",
		Long: `Backup keeps snapshots in a repository: full images and chains of deltas, in which each
backup can be restored, or read over NBD without that. Several volumes may share one.

REPO is a directory, or a bucket of an S3-compatible object store as
s3://BUCKET[/PREFIX] or s3:https://HOST[:PORT]/BUCKET[/PREFIX]. The first form is at
Amazon's unless AWS_ENDPOINT_URL names another place. Credentials are those of
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, of ~/.aws/credentials, or of the machine's
role.

A repository may be encrypted, with a key file that "ddsnap backup key" makes. Without the
key nothing can be restored: keep a copy of it elsewhere.

POINT is a backup: its ID or the begin of it, the tag or name of the snapshot, "latest", or
"@" and a date or time, for the newest one that is not later. Days are in the local time
zone.`,
	}, a.backupInit(), a.backupKey(), a.backupCreate(), a.backupList(), a.backupRestore(), a.backupServe(), a.backupCheck(), a.backupPrune(), a.backupUnlock())
}

// repositoryFlags are the flags of all verbs on repositories.
type repositoryFlags struct {
	key string
}

func (f *repositoryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", "", "key `file` of an encrypted repository")
}

// readKey returns the key that the flags name, nil for none.
func (f *repositoryFlags) readKey() (*seal.Key, error) {
	if f.key == "" {
		return nil, nil
	}
	k, err := seal.ReadKey(f.key)
	return &k, err
}

// openStorage opens where a repository is.
func openStorage(name string) (storage.Storage, error) {
	if !storage.IsS3(name) {
		d, err := storage.OpenDir(name)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: \"ddsnap backup init\" makes a repository", err)
		}
		return d, err
	}
	place, err := storage.ParseS3(name)
	if err != nil {
		return nil, usageError{err}
	}
	s, err := storage.OpenS3(place)
	if err != nil {
		return nil, err
	}
	return &storage.Retry{Storage: s, Tries: storage.DefaultTries, Wait: storage.DefaultWait}, nil
}

// open opens a repository.
func (f *repositoryFlags) open(ctx context.Context, name string) (*backup.Repository, error) {
	key, err := f.readKey()
	if err != nil {
		return nil, err
	}
	s, err := openStorage(name)
	if err != nil {
		return nil, err
	}
	r, err := backup.Open(ctx, s, key)
	switch {
	case errors.Is(err, backup.ErrNoRepository):
		return nil, codeError{fmt.Errorf("%w in %s: \"ddsnap backup init\" makes one", backup.ErrNoRepository, name), exitWrong}
	case errors.Is(err, backup.ErrKey) && key == nil:
		return nil, fmt.Errorf("%s: %w: name its file with --key", name, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (a *app) backupInit() *cobra.Command {
	var f repositoryFlags
	cmd := &cobra.Command{
		Use:   "init [flags] REPO",
		Short: "Make a repository",
		Long: `Init makes a backup repository in a directory, which it makes if it is not there, or in a
bucket, which is to exist. It must be empty. With --key the repository is encrypted.`,
		Example: `  ddsnap backup init /mnt/backup/vm
  ddsnap backup key /root/backup.key && ddsnap backup init --key /root/backup.key s3://backups/vm`,
		Args: args(1, 1, "REPO"),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		key, err := f.readKey()
		if err != nil {
			return err
		}
		if !storage.IsS3(args[0]) {
			if err := os.Mkdir(args[0], 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		s, err := openStorage(args[0])
		if err == nil {
			err = backup.Init(ctx, s, key)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return nil
	}
	return cmd
}

func (a *app) backupKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key FILE",
		Short: "Make the key of an encrypted repository",
		Long: `Key makes a random key and writes it to FILE, which must not exist, and which only its owner
may read. Whoever has it can read and make backups; without it, they are lost.`,
		Example: `  ddsnap backup key /root/backup.key`,
		Args:    args(1, 1, "FILE"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := seal.NewKey()
		if err != nil {
			return err
		}
		return delta.NewFile(args[0], func(w io.Writer) error {
			_, err := io.WriteString(w, k.Text())
			return err
		})
	}
	return cmd
}

func (a *app) backupUnlock() *cobra.Command {
	var f repositoryFlags
	cmd := &cobra.Command{
		Use:   "unlock [flags] REPO",
		Short: "Remove the locks on a repository",
		Long: `Unlock removes all locks on a repository and says whose they were: for when a machine that
had one is known not to come back. Others go by themselves: those of processes of this
machine that have ended, and those that were not renewed for half an hour. Whoever has one
of them ends with an error.`,
		Example: `  ddsnap backup unlock /mnt/backup/vm`,
		Args:    args(1, 1, "REPO"),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		were, err := r.Unlock(ctx)
		for _, text := range were {
			fmt.Fprintf(a.Out, "removed the lock of %s\n", text)
		}
		return err
	}
	return cmd
}
