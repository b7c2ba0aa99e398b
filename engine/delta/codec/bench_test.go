// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
	"zumastor.org/zumastor/engine/delta/similar"
)

// The images of BenchmarkImages: pairs of files NAME.old and NAME.new.
const (
	imagesVariable = "ZUMASTOR_DELTA_IMAGES" // paths without .old, with colons
	codecsVariable = "ZUMASTOR_DELTA_CODECS" // names with colons; all where it is not set
	chunk          = 4096
)

// extent is a run of changed chunks.
type extent struct{ from, to int64 }

// changed returns the runs of chunks that differ, each of at most limit bytes
// and within multiples of it.
func changed(a, b []byte, limit int64) (all []extent) {
	for at := int64(0); at < int64(len(b)); at += chunk {
		end := at + chunk
		if end <= int64(len(a)) && bytes.Equal(a[at:end], b[at:end]) {
			continue
		}
		if k := len(all) - 1; k >= 0 && all[k].to == at && at%limit != 0 {
			all[k].to = end
		} else {
			all = append(all, extent{at, end})
		}
	}
	return all
}

// pair is an image, its older form, and what changed.
type pair struct {
	name     string
	old, new []byte
	extents  []extent
	index    *similar.Index
	indexing time.Duration
}

// openPair reads images, leaving zero extents out, and indexes the older content
// of what changed, then as much again of the rest as is there.
func openPair(b *testing.B, path string, limit int64) *pair {
	p := &pair{name: path[strings.LastIndex(path, "/")+1:]}
	var err error
	p.old, err = os.ReadFile(path + ".old")
	require.NoError(b, err)
	p.new, err = os.ReadFile(path + ".new")
	require.NoError(b, err)
	zeros := make([]byte, limit)
	for _, e := range changed(p.old, p.new, limit) {
		if !bytes.Equal(p.new[e.from:e.to], zeros[:e.to-e.from]) {
			p.extents = append(p.extents, e)
		}
	}
	start := processorTime(b)
	p.index, err = similar.NewIndex(0, int64(len(p.old)))
	require.NoError(b, err)
	for _, e := range p.extents {
		p.index.Add(e.from, p.old[e.from:e.to])
	}
	for at := 0; at < len(p.old); at += 1 << 20 {
		p.index.Add(int64(at), p.old[at:min(at+1<<20, len(p.old))])
	}
	p.indexing = processorTime(b) - start
	return p
}

// BenchmarkImages codes what changed between images: bytes, and MB/s each way on
// one core. It needs images of real data; bytes are reproducible, speeds are not.
func BenchmarkImages(b *testing.B) {
	paths := os.Getenv(imagesVariable)
	if paths == "" {
		b.Skipf("%s names no images", imagesVariable)
	}
	for _, path := range strings.Split(paths, ":") {
		for _, size := range []int64{64 << 10, 1 << 20, 4 << 20} {
			p := openPair(b, path, size)
			b.Run(fmt.Sprintf("%s/%dK/best", p.name, size>>10), func(b *testing.B) {
				learned := codec.NewLearned()
				best, err := codec.NewBest(codec.BestOptions{Extent: int(size), Similar: p.index, Learned: learned})
				require.NoError(b, err)
				p.run(b, best)
				for _, f := range learned.Figures() {
					b.Logf("%s %d: tried %d, chosen %d, %d of %d bytes, %.0f MB/s", f.Codec, f.Level, f.Extents, f.Chosen, f.Coded, f.Content, float64(f.Content)/f.Spent.Seconds()/1e6)
				}
			})
			for _, id := range all {
				if names := os.Getenv(codecsVariable); names != "" && !strings.Contains(":"+names+":", ":"+id.String()+":") {
					continue
				}
				b.Run(fmt.Sprintf("%s/%dK/%s", p.name, size>>10, id), func(b *testing.B) {
					e, err := codec.NewFixed(id, codec.Options{Extent: int(size), Similar: p.index})
					require.NoError(b, err)
					p.run(b, e)
				})
			}
		}
	}
}

// processorTime returns what the process has used, which others on the machine
// change less than the time that passes.
func processorTime(b *testing.B) time.Duration {
	var now unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now))
	return time.Duration(now.Nano())
}

// run codes all extents, and checks that they decode.
func (p *pair) run(b *testing.B, c codec.Chooser) {
	var in, out int
	var encoding, decoding time.Duration
	decoders := map[codec.ID]codec.Decoder{}
	for b.Loop() {
		in, out, encoding, decoding = 0, 0, 0, 0
		for _, e := range p.extents {
			content := p.new[e.from:e.to]
			start := processorTime(b)
			id, coded, err := c.Encode(nil, content, e.from, corpus.Memory(p.old))
			encoding += processorTime(b) - start
			require.NoError(b, err)
			if id == codec.Raw {
				coded = content
			}
			if decoders[id] == nil {
				decoders[id], err = codec.NewDecoder(id, codec.Limits{})
				require.NoError(b, err)
			}
			dst := make([]byte, len(content))
			start = processorTime(b)
			err = decoders[id].Decode(dst, coded, e.from, corpus.Memory(p.old))
			decoding += processorTime(b) - start
			require.NoError(b, err)
			require.True(b, bytes.Equal(content, dst))
			in, out = in+len(content), out+len(coded)
		}
	}
	b.ReportMetric(p.indexing.Seconds()*1e3, "ms-index")
	b.ReportMetric(float64(in), "bytes-in")
	b.ReportMetric(float64(out), "bytes-out")
	b.ReportMetric(float64(in)/encoding.Seconds()/1e6, "MB/s-encode")
	b.ReportMetric(float64(in)/decoding.Seconds()/1e6, "MB/s-decode")
}
