// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/mark"
)

// Extent is Length bytes from Offset on.
type Extent struct {
	Offset, Length int64
}

// From returns what of the extent is at start or beyond; nothing may be.
func (x Extent) From(start int64) Extent {
	skip := min(max(0, start-x.Offset), x.Length)
	return Extent{x.Offset + skip, x.Length - skip}
}

// Source is what a delta is made of.
type Source struct {
	Base    Content  // nil where the delta has all of Target
	Target  Content  // whose size is the header's
	Extents []Extent // that may differ: whole chunks, ascending, not overlapping
}

// EncodeOptions say how a delta is made.
type EncodeOptions struct {
	Header
	// Chooser returns what codes extents; each worker has one of its own. It must not
	// choose a codec that is not one of the header's.
	Chooser func() (codec.Chooser, error)
	// Start is where the delta begins, if its receiver has the target up to there: a
	// multiple of the chunk size, or the target's. Only [NewRestReader], which is told
	// the same, reads what is then made.
	Start   int64
	Workers int   // zero: as many as there are processors, at most MaxWorkers
	Memory  int64 // bound of the buffers in bytes; zero: DefaultMemory
	// Join has changed chunks share an extent that have at most so many bytes between them
	// which are the same in the base: for codecs that look there, to which these cost less
	// than a record does. Zero: none do, unless they are neighbours.
	Join int
	// QuickSums has raw content carry sums that take a third of the time, for a delta that
	// is applied as it comes, from who is known to have made it. They tell what differs by
	// accident, or was made to differ by who writes to the volume, but not what somebody
	// forges who knows the header.
	QuickSums bool
	// Progress is told, by one goroutine, how many bytes of the extents are done of how
	// many; it may be nil.
	Progress func(done, total int64)
}

// JoinGap is an [EncodeOptions.Join] for codecs that look at the base: beyond it deltas of
// real data (experiment D1) become hardly smaller.
const JoinGap = 64 << 10

// JoinFor returns the [EncodeOptions.Join] for a codec: of those that look at the base, bsdiff
// takes small extents alone.
func JoinFor(id codec.ID) int {
	if id.NeedsBase() && id != codec.Bsdiff {
		return JoinGap
	}
	return 0
}

// DefaultMemory bounds the buffers of Encode and Apply, whatever the size of the volume.
const DefaultMemory = 96 << 20

// MaxWorkers bounds the workers of Encode where the caller does not say how many, and so
// the memory of their codecs, whatever the machine.
const MaxWorkers = 3

// DefaultWorkers returns how many workers [Encode] has where the caller does not say.
func DefaultWorkers() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU(), MaxWorkers) }

// buffersPerJob is how many times the bound of an extent one job has in buffers: content,
// base and coded form.
const buffersPerJob = 4

// parallel returns how many jobs there are at a time, and goroutines for them: as many as
// there are processors, for workers zero; within memory, or DefaultMemory, for zero.
//
// Note: GOMAXPROCS alone is more than that where device.UseBlockingIO raised it. Jobs
// compute, and each goroutine more has a codec's memory and gains nothing.
func parallel(workers int, memory int64, extent int) (jobs, goroutines int) {
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), runtime.NumCPU())
	}
	if memory <= 0 {
		memory = DefaultMemory
	}
	jobs = int(max(2, min(int64(2*workers), memory/int64(buffersPerJob*extent))))
	return jobs, min(workers, jobs)
}

// Encode writes to w the delta by which the base of a source becomes its target. Chunks
// that hold the same in both are left out; zeroes, and chunks of which an earlier one
// holds the same, cost next to nothing.
//
// Reading, coding and writing overlap, on all processors, and what is written does not
// depend on how many there are, unless a chooser learns. Memory: [EncodeOptions.Memory], at least twice four
// times the bound of extents; 16 bytes for each of the source's extents; 8 MiB to find
// chunks again; and what each worker's codec takes, of at most MaxWorkers. It returns when ctx ends, or with
// the first error; then what was written is not a whole delta, and is known not to be.
func Encode(ctx context.Context, w io.Writer, src Source, o EncodeOptions) (Summary, error) {
	if src.Target.Size() < o.To.Size || (src.Base == nil) != (o.From == nil) || src.Base != nil && src.Base.Size() < o.From.Size {
		return Summary{}, errors.New("the source is not what the header says")
	}
	out, err := newWriter(w, o.Header, o.Start)
	if err != nil {
		return Summary{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src.Extents = joined(src.Extents, int64(o.Join))
	e := &encoding{source: src, o: o, seen: newSeen(src.Target), quick: o.Header.quickKey()}
	if src.Base != nil {
		e.base = sized{src.Base, o.From.Size}
	}
	if err := e.run(ctx, cancel, out); err != nil {
		return out.sum, err
	}
	return out.Close()
}

// joined returns a list in which extents with at most gap bytes between them are one.
func joined(list []Extent, gap int64) []Extent {
	if gap == 0 {
		return list
	}
	var out []Extent
	for _, x := range list {
		if n := len(out) - 1; n >= 0 && x.Offset-(out[n].Offset+out[n].Length) <= gap {
			out[n].Length = x.Offset + x.Length - out[n].Offset
			continue
		}
		out = append(out, x)
	}
	return out
}

// encoding is one run of Encode.
type encoding struct {
	source Source
	base   Content // nil for none
	o      EncodeOptions
	seen   *seen
	quick  quickKey
	free   chan *job
}

// job is the coding of a piece of the target, which lies within a bound of extents.
type job struct {
	Extent
	content, base, coded []byte
	records              []Record
	err                  error
	before               <-chan struct{} // closed when the jobs before have looked for chunks that were seen
	looked, done         chan struct{}
}

func (e *encoding) run(ctx context.Context, cancel context.CancelFunc, out *Writer) error {
	workers := e.o.Workers
	if workers <= 0 {
		workers = DefaultWorkers()
	}
	jobs, workers := parallel(workers, e.o.Memory, e.o.Extent)
	e.free = make(chan *job, jobs)
	for range jobs {
		e.free <- &job{}
	}
	work, order := make(chan *job, jobs), make(chan *job, jobs)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for range workers {
		c, err := e.o.Chooser()
		if err != nil {
			close(work)
			return err
		}
		all.Go(func() {
			for j := range work {
				e.do(ctx, j, c)
			}
		})
	}
	all.Go(func() { e.plan(ctx, work, order) })
	if err := e.write(ctx, out, order); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// plan hands out the pieces of the target, in order.
func (e *encoding) plan(ctx context.Context, work, order chan<- *job) {
	defer close(order)
	defer close(work)
	before := make(chan struct{})
	close(before)
	window := int64(e.o.Extent)
	for _, x := range e.source.Extents {
		x = x.From(e.o.Start)
		for x.Length > 0 {
			n := min(x.Length, window-x.Offset%window)
			var j *job
			select {
			case <-ctx.Done():
				return
			case j = <-e.free:
			}
			j.Extent, j.before = Extent{x.Offset, n}, before
			j.looked, j.done = make(chan struct{}), make(chan struct{})
			before = j.looked
			work <- j
			order <- j
			x.Offset, x.Length = x.Offset+n, x.Length-n
		}
	}
}

// write writes what the jobs made, in order.
func (e *encoding) write(ctx context.Context, out *Writer, order <-chan *job) error {
	var done, total int64
	for _, x := range e.source.Extents {
		total += x.From(e.o.Start).Length
	}
	var zeroes Record // not written yet: more may follow
	flush := func() error {
		if zeroes.Length == 0 {
			return nil
		}
		z := zeroes
		zeroes = Record{}
		return out.Write(&z)
	}
	for j := range order {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-j.done:
		}
		if j.err != nil {
			return j.err
		}
		for i := range j.records {
			r := &j.records[i]
			if r.Kind == KindZero && zeroes.Length > 0 && zeroes.end() == r.Offset {
				zeroes.Length += r.Length
				continue
			}
			if err := flush(); err != nil {
				return err
			}
			if r.Kind == KindZero {
				zeroes = *r
			} else if err := out.Write(r); err != nil {
				return err
			}
		}
		done += j.Length
		if e.o.Progress != nil {
			e.o.Progress(done, total)
		}
		e.free <- j
	}
	return flush()
}

// do carries out a job.
func (e *encoding) do(ctx context.Context, j *job, c codec.Chooser) {
	defer close(j.done)
	j.err = e.read(ctx, j)
	var runs []run
	<-j.before
	if j.err == nil {
		runs, j.err = e.sort(j)
	}
	close(j.looked)
	j.records, j.coded = j.records[:0], j.coded[:0]
	for _, r := range runs {
		if j.err == nil {
			j.err = e.code(j, r, c)
		}
	}
}

// read reads a job's content and base.
func (e *encoding) read(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if j.content == nil {
		j.content = make([]byte, e.o.Extent)
	}
	j.content = j.content[:j.Length]
	if err := readFull(e.source.Target, j.content, j.Offset); err != nil {
		return fmt.Errorf("the newer snapshot: %w", err)
	}
	j.base = j.base[:0]
	if e.base == nil || j.Offset >= e.base.Size() {
		return nil
	}
	if cap(j.base) == 0 {
		j.base = make([]byte, e.o.Extent)
	}
	j.base = j.base[:min(j.Length, e.base.Size()-j.Offset)]
	if err := readFull(e.base, j.base, j.Offset); err != nil {
		return fmt.Errorf("the older snapshot: %w", err)
	}
	return nil
}

// code appends the record of a run to those of its job.
func (e *encoding) code(j *job, r run, c codec.Chooser) error {
	rec := Record{Kind: r.kind, Offset: j.Offset + int64(r.from), Length: int64(r.to - r.from), Source: r.source}
	content := j.content[r.from:r.to]
	if r.kind != KindZero && r.from < len(j.base) {
		rec.Base, rec.HasBase = SumOf(j.base[r.from:min(r.to, len(j.base))]), true
	}
	if r.kind == KindExtent {
		var base codec.Base
		if e.base != nil {
			base = &window{e.base, j.Offset, j.base}
		}
		from := len(j.coded)
		var err error
		mark.EncodeBegin(uint64(len(content)))
		rec.Codec, j.coded, err = c.Encode(j.coded, content, rec.Offset, base)
		mark.EncodeEnd()
		if err != nil {
			return fmt.Errorf("coding %d bytes at offset %d: %w", len(content), rec.Offset, err)
		}
		if rec.Payload = j.coded[from:]; rec.Codec == codec.Raw {
			rec.Payload = content
		}
	}
	switch {
	case r.kind == KindZero:
	case e.o.QuickSums && rec.bare():
		rec.Sum, rec.Quick = e.quick.sumOf(content), true
	default:
		rec.Sum = SumOf(content)
	}
	j.records = append(j.records, rec)
	return nil
}

// sized is content of which only the begin counts.
type sized struct {
	io.ReaderAt
	size int64
}

// Size implements Content.
func (s sized) Size() int64 { return s.size }

// window is content of which a piece is in memory.
type window struct {
	Content
	off int64
	p   []byte
}

// ReadAt implements Content.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if off >= w.off && off+int64(len(p)) <= w.off+int64(len(w.p)) {
		return copy(p, w.p[off-w.off:]), nil
	}
	return w.Content.ReadAt(p, off)
}
