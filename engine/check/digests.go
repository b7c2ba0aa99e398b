// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// digestFanout is how many bits of an index tell the children of a node apart.
const digestFanout = 8

// readDigests reads the sums that the store keeps. Whether they are right only the
// content of the snapshots tells, which is not looked at.
func (c *checker) readDigests() {
	w := walk[layout.DigestSum]{img: c.image, codec: layout.DigestCodec{}, kind: layout.KindDigests, pages: &c.pages, report: c.report}
	w.leaf = func(h layout.PageHeader, entries []layout.DigestSum) bool {
		for _, e := range entries {
			c.checkDigest(h.Page, e)
		}
		return c.progress(len(entries))
	}
	c.complete[layout.KindDigests] = w.run()
}

func (c *checker) checkDigest(p block.Page, e layout.DigestSum) {
	problem := ""
	switch nodes := uint64(1) << (digestFanout * (layout.MaxDigestLevel - e.Level)); {
	case e.Index >= nodes:
		problem = fmt.Sprintf("node %d of level %d, which has %d", e.Index, e.Level, nodes)
	case e.Generation == 0 || e.Generation > c.generation:
		problem = fmt.Sprintf("generation %d, and the store's is %d", e.Generation, c.generation)
	default:
		return
	}
	c.report(Violation{
		Severity: Damage, Code: BadDigest, Device: c.meta.name, Offset: pageOffset(p), Structure: pageName(layout.KindDigests, p),
		Problem: problem, Meaning: "digests of snapshots may be wrong",
	})
}
