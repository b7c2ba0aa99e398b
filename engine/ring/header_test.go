// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// layoutOf prints, in C, what this package takes to be so.
const layoutOf = `
#include <stdio.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include "ddsnap_dev.h"
#define P(x) printf("%s %lu\n", #x, (unsigned long)(x))
int main(void)
{
	P(DDSNAP_DEV_VERSION);
	P(DDSNAP_IOC_QUERY);
	P(DDSNAP_IOC_BIND);
	P(DDSNAP_IOC_KICK);
	P(DDSNAP_HAS_ORIGIN);
	P(DDSNAP_HAS_SESSION);
	P(DDSNAP_HAS_SERVER);
	P(sizeof(struct ddsnap_rings));
	P(offsetof(struct ddsnap_rings, to_server.head));
	P(offsetof(struct ddsnap_rings, to_server.reader_waits));
	P(offsetof(struct ddsnap_rings, to_server.tail));
	P(offsetof(struct ddsnap_rings, to_server.writer_waits));
	P(offsetof(struct ddsnap_rings, to_kernel.head));
	P(offsetof(struct ddsnap_rings, closed));
	P(sizeof(struct ddsnap_bind));
	P(offsetof(struct ddsnap_bind, uuid));
	P(offsetof(struct ddsnap_bind, to_server_size));
	P(offsetof(struct ddsnap_bind, to_kernel_size));
	P(sizeof(struct ddsnap_query));
	P(offsetof(struct ddsnap_query, flags));
	P(offsetof(struct ddsnap_query, snapshots));
	P(DDSNAP_RING_MIN <= 1 && DDSNAP_RING_MAX >= 1);
	return 0;
}
`

// The kernel's header has the numbers, sizes and offsets that this package has.
func TestKernelHeaderAgrees(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no gcc to compile the header with")
	}
	_, err = os.ReadFile("../../kernel/include/ddsnap_dev.h") // so that go test knows what the outcome depends on
	require.NoError(t, err)
	dir := t.TempDir()
	source, program := filepath.Join(dir, "layout.c"), filepath.Join(dir, "layout")
	bounds := strings.Replace(layoutOf, "DDSNAP_RING_MIN <= 1 && DDSNAP_RING_MAX >= 1",
		fmt.Sprintf("DDSNAP_RING_MIN <= %d && DDSNAP_RING_MAX >= %d", toKernelBytes, toServerBytes), 1)
	require.NoError(t, os.WriteFile(source, []byte(bounds), 0o600))
	out, err := exec.CommandContext(t.Context(), gcc, "-Wall", "-Werror", "-I", "../../kernel/include", "-o", program, source).CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.CommandContext(t.Context(), program).CombinedOutput()
	require.NoError(t, err)
	var s shared
	var b bindRequest
	var q queryRequest
	want := []uint64{
		interfaceVersion, ioctlQuery, ioctlBind, ioctlKick, hasOrigin, hasSession, hasServer,
		uint64(unsafe.Sizeof(s)), uint64(unsafe.Offsetof(s.toServer.head)), uint64(unsafe.Offsetof(s.toServer.readerWaits)),
		uint64(unsafe.Offsetof(s.toServer.tail)), uint64(unsafe.Offsetof(s.toServer.writerWaits)), uint64(unsafe.Offsetof(s.toKernel)),
		uint64(unsafe.Offsetof(s.closed)),
		uint64(unsafe.Sizeof(b)), uint64(unsafe.Offsetof(b.uuid)), uint64(unsafe.Offsetof(b.toServerSize)), uint64(unsafe.Offsetof(b.toKernelSize)),
		uint64(unsafe.Sizeof(q)), uint64(unsafe.Offsetof(q.flags)), uint64(unsafe.Offsetof(q.snapshots)), 1,
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, len(want))
	for i, line := range lines {
		require.Equal(t, fmt.Sprint(want[i]), line[strings.LastIndexByte(line, ' ')+1:], line)
	}
}
