// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 && !arm64

package sum

func update(crc *[lanes]uint32, p []byte) { updateGeneric(crc, p) }
