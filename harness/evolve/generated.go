// SPDX-License-Identifier: Apache-2.0

package evolve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
)

// generatedSize is small enough for a test.
const generatedSize = 8 << 20

// makeGenerated makes a volume without file system, programs or network: text of which
// some is edited, some has moved, and some is new.
func makeGenerated(_ context.Context, w *work) (string, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	old := make([]byte, generatedSize)
	for at := 0; at < len(old)*3/4; {
		line := fmt.Sprintf("%s_%d = func(%x) // %s\n", words[rng.IntN(len(words))], rng.IntN(1000), rng.Uint32(), words[rng.IntN(len(words))])
		at += copy(old[at:], line)
	}
	after := append([]byte(nil), old...)
	for range 100 { // edits: what comes behind moves by some bytes, up to the end of the file
		file := rng.IntN(len(old)*3/4>>16) << 16
		text := fmt.Appendf(nil, "// added by %d\n", rng.Uint32())
		at := file + rng.IntN(1<<15)
		copy(after[at+len(text):file+1<<16], append([]byte(nil), after[at:]...))
		copy(after[at:], text)
	}
	copy(after[len(old)*7/8:], old[1<<20:3<<19]) // a file that moved
	if err := os.WriteFile(w.old, old, 0o600); err != nil {
		return "", err
	}
	w.method = "none"
	return "text, edited", os.WriteFile(w.new, after, 0o600)
}

var words = []string{"snapshot", "origin", "chunk", "exception", "store", "generation", "branch", "delta", "lease", "batch"}
