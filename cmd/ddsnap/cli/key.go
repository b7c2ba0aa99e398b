// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/replicate/pin"
)

// Where this machine's key, and the pins of others, are by default.
const (
	defaultKey   = "/etc/ddsnap/key"
	defaultPeers = "/etc/ddsnap/peers"
)

// keyFlags say who one is, and who others are.
type keyFlags struct{ key, peers string }

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", defaultKey, "`file` with this machine's private key")
	cmd.Flags().StringVar(&f.peers, "peers", defaultPeers, "`file` with the pins of other machines")
}

// load reads both files.
func (f *keyFlags) load() (*pin.Key, pin.Peers, error) {
	k, err := pin.Load(f.key)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: \"ddsnap key %s\" makes one", err, f.key)
	}
	if err != nil {
		return nil, nil, err
	}
	peers, err := pin.LoadPeers(f.peers)
	return k, peers, err
}

func (a *app) key() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key [flags] [FILE]",
		Short: "Make this machine's key, and show its pin",
		Long: `Key shows the pin of the private key in FILE, by which other machines know this one, with
the name of the host; if there is no such file, it makes a key. The line that it prints
belongs in the file of peers of those machines, /etc/ddsnap/peers: a line for each machine
with its pin, its name and, if there is an end, until=YYYY-MM-DD, the last day.

FILE is /etc/ddsnap/key unless given. It must be readable by its owner alone, and never
leaves the machine.`,
		Example: `  ddsnap key
  ssh copy ddsnap key >>/etc/ddsnap/peers`,
		Args: args(0, 1),
	}
	a.jsonFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		file := defaultKey
		if len(args) > 0 {
			file = args[0]
		}
		k, made, err := loadOrMake(file)
		if err != nil {
			return err
		}
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "unknown"
		}
		if a.json {
			return a.printJSON(keyShown{file, k.Pin().String(), host, made})
		}
		fmt.Fprintf(a.Out, "%v %s\n", k.Pin(), host)
		return nil
	}
	return cmd
}

// keyShown is what key --json prints.
type keyShown struct {
	File string `json:"file"`
	Pin  string `json:"pin"`
	Host string `json:"host"`
	Made bool   `json:"made"`
}

// loadOrMake reads a key, or makes one if there is no such file.
func loadOrMake(file string) (k *pin.Key, made bool, err error) {
	if k, err = pin.Load(file); !errors.Is(err, os.ErrNotExist) {
		return k, false, err
	}
	if k, err = pin.NewKey(); err != nil {
		return nil, false, err
	}
	if err = k.Save(file); errors.Is(err, os.ErrExist) { // somebody else made one meanwhile
		k, err = pin.Load(file)
		return k, false, err
	}
	return k, err == nil, err
}
