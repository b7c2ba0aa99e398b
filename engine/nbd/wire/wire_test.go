// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVectors pins the layout: the hex is what the protocol document prescribes.
func TestVectors(t *testing.T) {
	for _, tc := range []struct {
		name string
		put  func() []byte
		want string
	}{
		{"request", func() []byte {
			b := make([]byte, RequestSize)
			(&Request{Flags: CmdFlagFUA, Type: CmdWrite, Cookie: 0x0102030405060708, Offset: 0x1000, Length: 0x200}).Put(b)
			return b
		}, "25609513" + "0001" + "0001" + "0102030405060708" + "0000000000001000" + "00000200"},
		{"simple reply", func() []byte {
			b := make([]byte, SimpleSize)
			PutSimple(b, ENOSPC, 9)
			return b
		}, "67446698" + "0000001c" + "0000000000000009"},
		{"chunk", func() []byte {
			b := make([]byte, ChunkSize)
			(&Chunk{Flags: ChunkFlagDone, Type: ChunkError, Cookie: 9, Length: 6}).Put(b)
			return b
		}, "668e33ef" + "0001" + "8001" + "0000000000000009" + "00000006"},
		{"option", func() []byte {
			b := make([]byte, OptionSize)
			PutOption(b, OptSetMetaContext, 5)
			return b
		}, "49484156454f5054" + "0000000a" + "00000005"},
		{"option reply", func() []byte { return AppendOptionReply(nil, OptGo, RepErrUnknown, []byte("ab")) },
			"0003e889045565a9" + "00000007" + "80000006" + "00000002" + "6162"},
		{"string", func() []byte { return AppendString(nil, "ab") }, "00000002" + "6162"},
	} {
		require.Equal(t, tc.want, hex.EncodeToString(tc.put()), tc.name)
	}
}

// FuzzParse checks that what a decoder accepts is what its encoder writes.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"2560951300010001010203040506070800000000000010000000020", "668e33ef00018001000000000000000900000006",
		"49484156454f50540000000a00000005", "0003e889045565a900000007800000060000000026162", "000000026162"} {
		b, _ := hex.DecodeString(seed[:len(seed)&^1])
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := make([]byte, 64)
		var q Request
		if q.Parse(in) == nil {
			q.Put(out)
			require.Equal(t, in[:RequestSize], out[:RequestSize])
		}
		var c Chunk
		if c.Parse(in) == nil {
			c.Put(out)
			require.Equal(t, in[:ChunkSize], out[:ChunkSize])
		}
		if o, n, err := ParseOption(in); err == nil {
			PutOption(out, o, n)
			require.Equal(t, in[:OptionSize], out[:OptionSize])
		}
		if s, rest, err := TakeString(in); err == nil {
			require.Equal(t, in, append(AppendString(nil, s), rest...))
		}
	})
}

func TestNamesOfNumbers(t *testing.T) {
	require.Equal(t, "write zeroes", CmdWriteZeroes.String())
	require.Equal(t, "command 99", Command(99).String())
	require.Equal(t, "ENOTSUP: operation not supported", ENOTSUP.Error())
	require.Equal(t, "error number 3", Errno(3).Error())
	require.True(t, RepErrTooBig.IsError() && ChunkErrorOffset.IsError() && !RepInfo.IsError() && !ChunkHole.IsError())
}
