// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/similar"
	"zumastor.org/zumastor/engine/digest/compute"
)

// deltaCreation is one run of delta create.
type deltaCreation struct {
	app     *app
	content contentFlags
	codec   string
	level   int
	extent  size
	link    bitrate
	index   *similar.Index // of the base, for the codecs that look anywhere
	from    *admin.Ref
	to      admin.Ref
	file    string
}

func (a *app) deltaCreate() *cobra.Command {
	c := &deltaCreation{app: a}
	cmd := &cobra.Command{
		Use:   "create [flags] SERVER|STORE [FROM] TO FILE|-",
		Short: "Make a delta",
		Long: `Create makes a delta by which the content of the snapshot FROM becomes that of TO, or,
without FROM, which has all of TO: as FILE, which must not exist, or with "-" on
standard output. FILE is there only when it is complete and durable. Chunks
that hold the same in both snapshots, and zeroes, cost next to nothing.

What changed is coded by --codec raw, zlib, zstd, bsdiff, vcdiff, zstd-patch, similar,
or best, which takes for each extent what is expected to be smallest, or with
--link to arrive first. All from bsdiff on need FROM. "similar", which best takes
too, finds what has moved; such deltas cannot be composed after another.

A running server is read over NBD, at its default address unless --nbd names
another. Of a store that no server has open, --origin names the origin. The snapshots
cannot be deleted meanwhile.`,
		Example: `  ddsnap delta create /srv/vm.store monday tuesday tuesday.delta
  ddsnap delta create --codec zstd /srv/vm.store 1 - | ssh backup 'cat >vm.full'`,
		Args: args(3, 4, "SERVER|STORE", "TO", "FILE|-"),
	}
	c.flags(cmd)
	f := a.targetFlags(cmd)
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.parse(args); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		t, err := a.open(ctx, args[0], f, true)
		if err != nil {
			return err
		}
		return errors.Join(c.run(ctx, t), t.close())
	}
	return cmd
}

// flags adds those that say how what changed is coded, and where it is read.
func (c *deltaCreation) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&c.codec, "codec", "", "`how` to code what changed (default zstd-patch, without an older one zstd)")
	fl.Var(&c.link, "link", "with best: what arrives soonest over a link of this `rate`, such as 20mbit")
	fl.IntVar(&c.level, "level", 0, "how hard the codec tries (default its own)")
	fl.Var(&c.extent, "extent", "code so much at a time: a power of two from 64k to 16m (default 1m)")
	c.content.addReading(cmd)
}

// parse reads the arguments, and the flags that pflag does not check.
func (c *deltaCreation) parse(args []string) (err error) {
	if len(args) == 4 {
		from, err := parseRef(args[1])
		if err != nil {
			return err
		}
		c.from, args = &from, args[1:]
	}
	if c.to, err = parseRef(args[1]); err != nil {
		return err
	}
	c.file = args[2]
	if c.file == "-" && c.app.json {
		return usageError{errors.New("--json prints to where the delta goes with \"-\"")}
	}
	return c.parseFlags()
}

// parseFlags reads how the delta is coded, once it is known what from.
func (c *deltaCreation) parseFlags() error {
	if c.extent == 0 {
		c.extent = codec.DefaultExtent
	}
	if c.extent < 64<<10 || c.extent > codec.MaxExtent || c.extent&(c.extent-1) != 0 {
		return usageError{fmt.Errorf("--extent %v is not a power of two from 64k to 16m", &c.extent)}
	}
	if c.codec == "" {
		c.codec = codec.Zstd.String()
		if c.from != nil {
			c.codec = codec.ZstdPatch.String()
		}
	}
	if c.codec != best && c.link != 0 {
		return usageError{errors.New("--link is for --codec best")}
	}
	if c.codec == best {
		if c.level != 0 {
			return usageError{errors.New("--level is for one codec, and best tries several")}
		}
		return nil
	}
	id, err := codec.Parse(c.codec)
	if err == nil {
		_, err = codec.NewEncoder(id, codec.Options{Level: c.level})
	}
	if err == nil && id.NeedsBase() && c.from == nil {
		err = fmt.Errorf("codec %v needs FROM", id)
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

func (c *deltaCreation) run(ctx context.Context, t *target) (err error) {
	o, err := c.content.opener(ctx, c.app, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	src, list, done, err := c.source(ctx, t, o)
	defer func() { err = errors.Join(err, done()) }()
	if err != nil {
		return err
	}
	if err := c.indexBase(ctx, src); err != nil {
		return err
	}
	opts, err := c.options(ctx, t, list)
	if err != nil {
		return err
	}
	show, finish := c.app.progress("coding")
	if show != nil {
		opts.Progress = func(done, total int64) { show(uint64(done), uint64(total)) }
	}
	defer finish()
	var sum delta.Summary
	err = c.app.writeDelta(c.file, func(w io.Writer) (err error) {
		sum, err = delta.Encode(ctx, w, src, opts)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("making the delta to snapshot %v of %s: %w", c.to, t.name, err)
	case c.app.json:
		return c.app.printJSON(newDelta{sum.Records, sum.Content, sum.Bytes, hex.EncodeToString(sum.Digest[:])})
	}
	return nil
}

// newDelta is what create --json prints.
type newDelta struct {
	Records uint64 `json:"records"`
	Content int64  `json:"content_bytes"`
	Bytes   int64  `json:"delta_bytes"`
	Digest  string `json:"delta_digest"`
}

// source opens the snapshots, which keeps them, and lists what changed. What it opened
// is to be closed even after an error.
func (c *deltaCreation) source(ctx context.Context, t *target, o opener) (src delta.Source, list *admin.ChangeList, done func() error, err error) {
	var opened []io.Closer
	done = func() (err error) {
		for _, x := range opened {
			err = errors.Join(err, x.Close())
		}
		return err
	}
	open := func(ref admin.Ref) (delta.Content, error) {
		asking, cancel := context.WithTimeout(ctx, c.app.timeout)
		defer cancel()
		s, err := find(asking, t, ref)
		if err != nil {
			return nil, err
		}
		content, err := o.open(s)
		if err != nil {
			return nil, explain(t, ref, "reading", err)
		}
		opened = append(opened, content)
		return content, nil
	}
	if c.from != nil {
		if src.Base, err = open(*c.from); err != nil {
			return src, nil, done, err
		}
	}
	if src.Target, err = open(c.to); err != nil {
		return src, nil, done, err
	}
	asking, cancel := context.WithTimeout(ctx, c.app.timeout)
	defer cancel()
	if list, err = t.changes(asking, admin.ChangeQuery{From: c.from, To: &c.to}); err != nil {
		return src, nil, done, err
	}
	for _, r := range list.Runs {
		e := extentOf(list, r)
		src.Extents = append(src.Extents, delta.Extent{Offset: e.Offset, Length: e.Length})
	}
	return src, list, done, nil
}

// options says what the delta is between, and how it is coded.
func (c *deltaCreation) options(ctx context.Context, t *target, list *admin.ChangeList) (delta.EncodeOptions, error) {
	asking, cancel := context.WithTimeout(ctx, c.app.timeout)
	defer cancel()
	st, err := t.ask(asking, admin.VerbStatus)
	if err != nil {
		return delta.EncodeOptions{}, err
	}
	o := delta.EncodeOptions{Header: delta.Header{ChunkSize: list.ChunkSize, Extent: max(int(c.extent), list.ChunkSize)}}
	if err := c.choose(&o); err != nil {
		return o, err
	}
	if o.To, err = digestedEnd(asking, t, st.Status, list.To); err == nil && list.From != nil {
		var from delta.End
		from, err = digestedEnd(asking, t, st.Status, list.From)
		o.From = &from
	}
	return o, err
}

// digestedEnd describes a snapshot as an end of a delta, with its digest if the store has
// it.
func digestedEnd(ctx context.Context, t *target, store *admin.Status, s *admin.Snapshot) (delta.End, error) {
	e, err := deltaEndOf(store, s)
	if err != nil {
		return e, err
	}
	sum, known, err := compute.Known(ctx, t, admin.Ref{Tag: s.Tag})
	if known && err == nil {
		e.Algorithm, e.Digest = delta.DigestTree, sum
	}
	if compute.Without(err) {
		err = nil
	}
	return e, err
}

// best is the name of the chooser that tries several codecs.
const best = "best"

// choose says how extents are coded.
func (c *deltaCreation) choose(o *delta.EncodeOptions) error {
	if c.codec == best {
		for id := codec.Raw; id <= codec.Similar; id++ {
			o.Codecs = append(o.Codecs, id)
		}
		if c.link == 0 {
			o.Join = delta.JoinGap
		}
		learned := codec.NewLearned()
		o.Chooser = func() (codec.Chooser, error) {
			return codec.NewBest(codec.BestOptions{Extent: o.Extent, Similar: c.index, Learned: learned, LinkBitsPerSecond: float64(c.link), Workers: delta.DefaultWorkers()})
		}
		return nil
	}
	id, err := codec.Parse(c.codec)
	if err != nil {
		return err
	}
	o.Join = delta.JoinFor(id)
	o.Codecs = slices.Compact([]codec.ID{codec.Raw, id})
	o.Chooser = func() (codec.Chooser, error) {
		return codec.NewFixed(id, codec.Options{Level: c.level, Extent: o.Extent, Similar: c.index})
	}
	return nil
}

// indexBase has the codecs that look anywhere in the base know what it holds.
func (c *deltaCreation) indexBase(ctx context.Context, src delta.Source) error {
	if src.Base == nil || c.codec != best && c.codec != codec.Similar.String() {
		return nil
	}
	var err error
	c.index, err = delta.IndexBase(ctx, src, float64(c.link))
	return err
}

// bitrate is a flag for bits a second.
type bitrate float64

// String implements pflag.Value.
func (b *bitrate) String() string {
	if *b == 0 {
		return "" // not given
	}
	return fmt.Sprintf("%gbit", float64(*b))
}

// Type implements pflag.Value.
func (b *bitrate) Type() string { return "rate" }

// Set implements pflag.Value.
func (b *bitrate) Set(text string) error {
	parts := regexp.MustCompile(`^([0-9]{1,9}(?:\.[0-9]{1,3})?)([kmg]?)bit(?:/s)?$`).FindStringSubmatch(strings.ToLower(text))
	if parts == nil {
		return fmt.Errorf("%q is not a rate: want a number such as 512kbit, 20mbit or 10gbit", text)
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("rate %s is not more than zero", text)
	}
	*b = bitrate(n * map[string]float64{"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[parts[2]])
	return nil
}

// deltaEndOf describes a snapshot of a store as an end of a delta.
func deltaEndOf(store *admin.Status, s *admin.Snapshot) (delta.End, error) {
	e := delta.End{Tag: s.Tag, Name: s.Name, Created: s.Created.UnixNano(), Size: s.Size}
	id := admin.Source{Store: store.UUID, Generation: s.Generation}
	if s.Source != nil { // it is a copy
		id = *s.Source
	}
	e.Generation = id.Generation
	p, err := hex.DecodeString(strings.ReplaceAll(id.Store, "-", ""))
	if err != nil || len(p) != len(e.Store) {
		return e, fmt.Errorf("the server has %q for the identity of a store", id.Store)
	}
	copy(e.Store[:], p)
	return e, nil
}

// writeDelta has write write to a new file, which is there only if it succeeds, or to
// standard output.
func (a *app) writeDelta(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(a.Out)
	}
	return delta.NewFile(name, func(f io.Writer) error {
		w := bufio.NewWriterSize(f, block.PageSize<<6)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
}
