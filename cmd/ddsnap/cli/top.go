// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
)

// topFlags are the flags of top.
type topFlags struct {
	*targetFlags
	once     bool
	interval time.Duration
}

func (a *app) top() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top [flags] SERVER|STORE",
		Short: "Show what a running server does, as it does it",
		Long: `Top shows what the server of a store does, anew each second, until it is
interrupted: requests to the origin; chunks copied out for snapshots, in how many
batches; slots leased in advance; how full store and metadata are, and when the
store will be full if it goes on filling so.

With --json it prints an object a line. What is counted is since the line before.`,
		Example: `  ddsnap top /srv/vm.store
  ddsnap top --once --json /srv/vm.store`,
		Args: args(1, 1, "SERVER|STORE"),
	}
	f := &topFlags{targetFlags: a.targetFlags(cmd)}
	cmd.Flags().BoolVar(&f.once, "once", false, "show one interval and exit")
	cmd.Flags().DurationVarP(&f.interval, "interval", "i", time.Second, "`time` between looks")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.interval <= 0 {
			return usageError{errors.New("--interval is to be more than nothing")}
		}
		return a.watch(cmd.Context(), args[0], f.targetFlags, "start one with \"ddsnap nbd\"", func(ctx context.Context, t *target) error {
			return a.runTop(ctx, t, f)
		})
	}
	return cmd
}

// moment is the status at a time.
type moment struct {
	at time.Time
	admin.Status
}

func (a *app) runTop(ctx context.Context, t *target, f *topFlags) error {
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	var before moment
	for {
		asking, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("no answer within %v", a.timeout))
		r, err := t.ask(asking, admin.VerbStatus)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil // interrupted: that is how it ends
		case err != nil:
			return fmt.Errorf("asking for the status: %w", err)
		}
		now := moment{time.Now(), *r.Status}
		if !before.at.IsZero() {
			if err := a.showTop(t.name, newActivity(before, now)); err != nil || f.once {
				return err
			}
		}
		before = now
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// activity is what a server did in an interval, and where it stands.
type activity struct {
	Time         time.Time `json:"time"`
	Mode         string    `json:"mode"`
	Snapshots    int       `json:"snapshots"`
	BeingFreed   int       `json:"snapshots_being_freed"`
	Reads        float64   `json:"reads_per_second"`
	Writes       float64   `json:"writes_per_second"`
	ReadBytes    float64   `json:"read_bytes_per_second"`
	WrittenBytes float64   `json:"written_bytes_per_second"`
	Copied       float64   `json:"copied_chunks_per_second"`
	CopiedBytes  float64   `json:"copied_bytes_per_second"`
	Batches      float64   `json:"batches_per_second"`
	BatchChunks  float64   `json:"chunks_per_batch"`
	LeasedBytes  int64     `json:"leased_bytes"`
	UsedBytes    int64     `json:"store_used_bytes"`
	FreeBytes    int64     `json:"store_free_bytes"`
	StoreBytes   int64     `json:"store_bytes"`
	MetadataUsed int64     `json:"metadata_used_bytes"`
	Metadata     int64     `json:"metadata_bytes"`
	FullIn       *float64  `json:"full_in_seconds,omitempty"` // as it has been filling lately
	served       bool      // whether anything is known of reads and writes
	inKernel     bool      // by the kernel's targets
}

// newActivity compares a moment with the one before it.
func newActivity(before, last moment) activity {
	chunk := int64(last.ChunkSize)
	seconds := last.at.Sub(before.at).Seconds()
	rate := func(now, then uint64) float64 { return float64(now-min(now, then)) / seconds }
	taken := last.SlotsUsed + last.SlotsLeased + last.SlotsWaiting
	x := activity{
		Time: last.at.UTC(), Mode: last.Mode, Snapshots: last.Snapshots, BeingFreed: last.BeingFreed,
		Copied: rate(last.Copied, before.Copied), Batches: rate(last.Batches, before.Batches),
		LeasedBytes: int64(last.SlotsLeased) * chunk, UsedBytes: int64(last.SlotsUsed) * chunk,
		FreeBytes: int64(last.Slots-min(last.Slots, taken)) * chunk, StoreBytes: int64(last.Slots) * chunk,
		MetadataUsed: int64(last.MetadataUsed) * block.PageSize, Metadata: int64(last.MetadataPages) * block.PageSize,
		FullIn: last.FullIn, served: last.Volume != nil && before.Volume != nil,
		inKernel: last.Kernel != nil && last.Kernel.Origin,
	}
	x.CopiedBytes = x.Copied * float64(chunk)
	if x.Batches > 0 {
		x.BatchChunks = x.Copied / x.Batches
	}
	if x.served {
		now, then := last.Volume, before.Volume
		x.Reads, x.Writes = rate(now.Reads, then.Reads), rate(now.Writes, then.Writes)
		x.ReadBytes, x.WrittenBytes = rate(now.ReadBytes, then.ReadBytes), rate(now.WrittenBytes, then.WrittenBytes)
	}
	return x
}

// showTop prints an activity: an object a line, or a screen that replaces the one
// before on a terminal.
func (a *app) showTop(name string, x activity) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(x)
	}
	if isTerminal(a.Out) {
		fmt.Fprint(a.Out, "\x1b[H\x1b[2J") // home, clear
	}
	fmt.Fprintf(a.Out, "%s  %s\n", formatTime(x.Time), name)
	return printFields(a.Out, topFields(x))
}

// topFields are the lines of the screen.
func topFields(x activity) [][2]string {
	state := x.Mode + ", " + plural(x.Snapshots, "snapshot")
	if x.BeingFreed > 0 {
		state += fmt.Sprintf(", %d being freed", x.BeingFreed)
	}
	origin := "not served by this process"
	if x.inKernel {
		origin = "served by the kernel"
	}
	if x.served {
		origin = fmt.Sprintf("%s reads/s, %s/s; %s writes/s, %s/s",
			formatRate(x.Reads), formatSize(int64(x.ReadBytes)), formatRate(x.Writes), formatSize(int64(x.WrittenBytes)))
	}
	return [][2]string{
		{"State", state},
		{"Origin", origin},
		{"Copied", fmt.Sprintf("%s chunks/s, %s/s; %s batches/s of %.1f chunks",
			formatRate(x.Copied), formatSize(int64(x.CopiedBytes)), formatRate(x.Batches), x.BatchChunks)},
		{"Leased", formatSize(x.LeasedBytes)},
		{"Store", gauge(x.UsedBytes, x.StoreBytes) + ", " + formatSize(x.FreeBytes) + " free"},
		{"Metadata", gauge(x.MetadataUsed, x.Metadata)},
		{"Full", forecast(x.FullIn)},
	}
}

// forecast says when a store will be full.
func forecast(seconds *float64) string {
	switch {
	case seconds == nil:
		return "not filling"
	case *seconds <= 0:
		return "now"
	}
	return "in " + formatAge(time.Duration(min(*seconds, 1e9)*float64(time.Second))) + " at this rate"
}

// formatRate returns a number a second for people.
func formatRate(n float64) string {
	if n > 0 && n < 10 {
		return fmt.Sprintf("%.1f", n)
	}
	return formatCount(uint64(n))
}

// gauge draws how much of a whole is used.
func gauge(used, whole int64) string {
	const width = 30
	share := float64(used) / float64(max(whole, 1))
	full := min(int(share*width+0.5), width)
	return fmt.Sprintf("[%s%s] %5.1f %% of %s", strings.Repeat("#", full), strings.Repeat("-", width-full), 100*share, formatSize(whole))
}
