// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func updateSSE42(crc *[4]uint32, p []byte)
TEXT ·updateSSE42(SB), NOSPLIT, $0-32
	MOVQ crc+0(FP), DI
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), CX
	SHRQ $6, CX
	JZ   done
	MOVL 0(DI), AX
	MOVL 4(DI), BX
	MOVL 8(DI), R8
	MOVL 12(DI), R9
	NOTL AX
	NOTL BX
	NOTL R8
	NOTL R9

loop:
	CRC32Q 0(SI), AX
	CRC32Q 8(SI), BX
	CRC32Q 16(SI), R8
	CRC32Q 24(SI), R9
	CRC32Q 32(SI), AX
	CRC32Q 40(SI), BX
	CRC32Q 48(SI), R8
	CRC32Q 56(SI), R9
	ADDQ   $64, SI
	DECQ   CX
	JNZ    loop

	NOTL AX
	NOTL BX
	NOTL R8
	NOTL R9
	MOVL AX, 0(DI)
	MOVL BX, 4(DI)
	MOVL R8, 8(DI)
	MOVL R9, 12(DI)

done:
	RET
