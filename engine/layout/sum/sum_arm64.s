// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func updateCRC32(crc *[4]uint32, p []byte)
TEXT ·updateCRC32(SB), NOSPLIT, $0-32
	MOVD crc+0(FP), R0
	MOVD p_base+8(FP), R1
	MOVD p_len+16(FP), R2
	LSR  $6, R2
	CBZ  R2, done
	LDPW 0(R0), (R4, R5)
	LDPW 8(R0), (R6, R7)
	MVNW R4, R4
	MVNW R5, R5
	MVNW R6, R6
	MVNW R7, R7

loop:
	LDP.P   16(R1), (R8, R9)
	LDP.P   16(R1), (R10, R11)
	CRC32CX R8, R4
	CRC32CX R9, R5
	CRC32CX R10, R6
	CRC32CX R11, R7
	LDP.P   16(R1), (R8, R9)
	LDP.P   16(R1), (R10, R11)
	CRC32CX R8, R4
	CRC32CX R9, R5
	CRC32CX R10, R6
	CRC32CX R11, R7
	SUB     $1, R2
	CBNZ    R2, loop

	MVNW R4, R4
	MVNW R5, R5
	MVNW R6, R6
	MVNW R7, R7
	STPW (R4, R5), 0(R0)
	STPW (R6, R7), 8(R0)

done:
	RET
