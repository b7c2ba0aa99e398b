// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd"
)

// TestUblkCodes compares with the values of the macros in linux/ublk_cmd.h.
func TestUblkCodes(t *testing.T) {
	for nr, want := range map[uint32]uint32{
		ublkGetDevInfo: 0x80207502, ublkAddDev: 0xc0207504, ublkDelDev: 0xc0207505, ublkStartDev: 0xc0207506, ublkStopDev: 0xc0207507,
		ublkSetParams: 0xc0207508, ublkDelDevAsync: 0x80207514, ublkUpdateSize: 0xc0207515, ublkFetch: 0xc0107520, ublkCommitAndFetch: 0xc0107521,
	} {
		require.Equal(t, want, ublkCode(nr, false), "%#x", nr)
		require.Equal(t, nr, ublkCode(nr, true))
	}
}

// fields reads little-endian hex, with spaces between fields.
func fields(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	require.NoError(t, err)
	return b
}

// TestUblkStructures compares with the layouts of linux/ublk_cmd.h.
func TestUblkStructures(t *testing.T) {
	if !bytes.Equal(encodeUblkIO(1, 0, 0, 0)[:2], []byte{1, 0}) {
		t.Skip("the examples are little-endian")
	}
	require.Equal(t, fields(t, "07000000 ffff 4000 8877665544332211 0900000000000000 0000000000000000"),
		ublkControlCommand{device: 7, length: 64, addr: 0x1122334455667788, data: 9}.encode())
	require.Equal(t, fields(t, "0200 0300 fbffffff 8877665544332211"), encodeUblkIO(2, 3, -5, 0x1122334455667788))

	info := ublkDevInfo{queues: 2, depth: 64, state: 1, maxIO: 1 << 18, id: 5, flags: 1 << 10, private: 42}
	b := make([]byte, 80)
	info.encode(b)
	require.Equal(t, fields(t, "0200 4000 0100 0000 00000400 05000000 00000000 00000000 0004000000000000 2a00000000000000"+
		"0000000000000000 0000000000000000 0000000000000000"), b[:ublkDevInfoSize])
	require.Equal(t, info, parseUblkDevInfo(b))

	ublkParams{size: 1 << 30, blockShift: 9, chunkShift: 16, maxIO: 1 << 18, zeroes: true}.encode(b)
	require.Equal(t, fields(t, "3c000000 03000000 0c000000 09 0c 10 10 00020000 00000000 0000200000000000 0000000000000000"+
		"00000000 00100000 00002000 00002000 0100 0000"), b[:ublkParamsSize])
	ublkParams{size: 512, readOnly: true, blockShift: 9, chunkShift: 9, maxIO: 512}.encode(b)
	require.Equal(t, fields(t, "3c000000 03000000 01000000 09 0c 09 0c"), b[:16])
	require.Equal(t, fields(t, "00000000 0100 0000"), b[52:60], "no zeroing but by writing")

	require.Equal(t, ublkRequest{op: ublkOpWrite, fua: true, n: 4096, off: 1 << 20},
		parseUblkRequest(fields(t, "01200000 08000000 0008000000000000 0000000000000000")))
}

// TestNBDConnect decodes what the kernel is told.
func TestNBDConnect(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	b, err := nbdConnect{size: 1 << 30, blockSize: 512, serverFlags: 0x6d, sockets: []*os.File{r, w}, backend: "zumastor:1:2:n"}.encode()
	require.NoError(t, err)
	d, err := netlink.NewAttributeDecoder(b)
	require.NoError(t, err)
	numbers, sockets, backend := map[uint16]uint64{}, []uint32{}, ""
	for d.Next() {
		switch d.Type() {
		case nbdAttrSockets:
			d.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					require.EqualValues(t, nbdSockItem, list.Type())
					list.Nested(func(item *netlink.AttributeDecoder) error {
						for item.Next() {
							require.EqualValues(t, nbdSockFD, item.Type())
							sockets = append(sockets, item.Uint32())
						}
						return nil
					})
				}
				return nil
			})
		case nbdAttrBackend:
			backend = d.String()
		default:
			numbers[d.Type()] = d.Uint64()
		}
	}
	require.NoError(t, d.Err())
	require.Equal(t, map[uint16]uint64{nbdAttrSize: 1 << 30, nbdAttrBlockSize: 512, nbdAttrServerFlags: 0x6d, nbdAttrClientFlags: 2}, numbers)
	require.Equal(t, []uint32{uint32(r.Fd()), uint32(w.Fd())}, sockets)
	require.Equal(t, "zumastor:1:2:n", backend)
}

// TestPairs takes the kernel's ends through the handshake and speaks for the
// kernel, then hangs up: the server must end by itself.
func TestPairs(t *testing.T) {
	dev := memdev.New(1 << 20)
	d := &nbdDevice{target: &target{dev: dev}, export: newSizedDevice(&target{dev: dev})}
	p, err := newPairs(3)
	require.NoError(t, err)
	server, err := nbd.NewServer(nbd.Config{Exports: d.export})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(t.Context(), p) }()
	for _, end := range p.kernel {
		flags, err := shakeHands(end, 1<<20)
		require.NoError(t, err)
		require.NotZero(t, flags)
	}
	p.onIdle(func() { _ = p.Close() })
	require.NoError(t, p.closeKernel())
	require.NoError(t, ignoreClosed(<-served))
}

func ignoreClosed(err error) error {
	if err != nil && bytes.Contains([]byte(err.Error()), []byte(net.ErrClosed.Error())) {
		return nil
	}
	return err
}

func TestHandshakeRefuses(t *testing.T) {
	a, b := net.Pipe()
	go func() {
		_, _ = b.Write(make([]byte, 18))
		b.Close()
	}()
	_, err := shakeHands(a, 1)
	require.ErrorContains(t, err, "greeting")
	_, err = shakeHands(a, 1)
	require.Error(t, err)
}

func TestNodeIndex(t *testing.T) {
	n, err := nodeIndex("/dev/nbd13", "nbd")
	require.NoError(t, err)
	require.Equal(t, 13, n)
	_, err = nodeIndex("/dev/nbd", "nbd")
	require.Error(t, err)
}

func TestPages(t *testing.T) {
	p := unix.Getpagesize()
	require.Equal(t, []int{0, p, p, 2 * p}, []int{pages(0), pages(1), pages(p), pages(p + 1)})
}
