// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"io"
)

// cpioWriter writes the "newc" archive that kernels unpack as early user space:
// per file a header of 110 characters, the name with a zero byte, and the content,
// name and content each padded to 4 bytes.
type cpioWriter struct {
	w     io.Writer
	inode int
	err   error
}

// Modes of stat(2).
const (
	cpioDir  = 0o040755
	cpioExec = 0o100755
	cpioFile = 0o100644
)

// add writes an entry. Directories come before what is in them.
func (c *cpioWriter) add(name string, mode int, content []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	links := 1
	if mode == cpioDir {
		links = 2
	}
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	c.put([]byte(header))
	c.put(content)
}

// put writes bytes and the padding after them.
func (c *cpioWriter) put(b []byte) {
	padded := append(append([]byte{}, b...), make([]byte, (4-len(b)%4)%4)...)
	if c.err == nil {
		_, c.err = c.w.Write(padded)
	}
}

// close writes the trailer and returns the first error.
func (c *cpioWriter) close() error {
	c.add("TRAILER!!!", 0, nil)
	return c.err
}
