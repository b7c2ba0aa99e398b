// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"os"

	"zumastor.org/zumastor/engine/pattern"
)

// writeAccount begins an account in place of the file that has its name, and returns
// what appends to it.
func writeAccount(name string, b pattern.Bounds) (*os.File, *pattern.Log, error) {
	f, err := os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	log, err := pattern.NewLog(f, b)
	if err = errors.Join(err, os.Rename(name+".new", name)); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, log, nil
}

func readAccount(name string) (*pattern.Ledger, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return pattern.ReadLog(f)
}

// WriteBounds keeps what a device is to hold in a file.
func WriteBounds(name string, b pattern.Bounds) error {
	f, _, err := writeAccount(name, b)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ReadBounds returns what WriteBounds has kept.
func ReadBounds(name string) (pattern.Bounds, error) {
	l, err := readAccount(name)
	if err != nil {
		return pattern.Bounds{}, err
	}
	return l.Present(), nil
}

// Keeps checks that a device holds what the file promises. From then on the file
// promises exactly what was found: what a snapshot held once, it holds for ever.
func Keeps(device, promise string) error {
	held, err := ReadBounds(promise)
	if err != nil {
		return err
	}
	d, err := OpenDevice(device, false)
	if err != nil {
		return err
	}
	defer d.Close()
	found, err := held.Check(d)
	if err != nil {
		return err
	}
	return WriteBounds(promise, found)
}
