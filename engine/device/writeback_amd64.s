// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func cpuid(leaf, sub uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET

// func clwb(first unsafe.Pointer, n uintptr)
TEXT ·clwb(SB), NOSPLIT, $0-16
	MOVQ first+0(FP), AX
	MOVQ n+8(FP), CX
clwbnext:
	CLWB (AX)
	ADDQ $64, AX
	DECQ CX
	JNZ  clwbnext
	SFENCE
	RET

// func clflushopt(first unsafe.Pointer, n uintptr)
TEXT ·clflushopt(SB), NOSPLIT, $0-16
	MOVQ first+0(FP), AX
	MOVQ n+8(FP), CX
optnext:
	CLFLUSHOPT (AX)
	ADDQ $64, AX
	DECQ CX
	JNZ  optnext
	SFENCE
	RET

// func clflush(first unsafe.Pointer, n uintptr)
TEXT ·clflush(SB), NOSPLIT, $0-16
	MOVQ first+0(FP), AX
	MOVQ n+8(FP), CX
flushnext:
	CLFLUSH (AX)
	ADDQ $64, AX
	DECQ CX
	JNZ  flushnext
	SFENCE
	RET
