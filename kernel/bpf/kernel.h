// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What the probes use of the kernel's types. Only names and nesting count: the loader puts in
 * the offsets of the running kernel, by its BTF (CO-RE). So no vmlinux.h is needed, and what
 * a probe depends on is all here. Field names are those of Linux 5.15 and newer.
 */
#ifndef ZUMASTOR_BPF_KERNEL_H
#define ZUMASTOR_BPF_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

/* Of the kernel's interface to programs: values never change. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

#define EEXIST 17

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct blk_mq_ops;

struct gendisk {
	int major;
	int first_minor;
	struct request_queue *queue;
};

struct request_queue {
	struct gendisk *disk; /* since 5.15 */
	const struct blk_mq_ops *mq_ops;
};

struct block_device {
	struct gendisk *bd_disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	__u64 __sector;
};

struct bvec_iter {
	__u64 bi_sector;
	unsigned int bi_size;
};

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
};

struct task_struct {
	int pid; /* of the thread */
	int tgid; /* of the process */
};

/* Registers where a probe hits. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r14;
	unsigned long ax;
	unsigned long si;
	unsigned long di;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
};
#endif

#pragma clang attribute pop

/* Whose numbers differ between kernels; the loader puts in the right ones. */
enum req_flag_bits {
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
};

/* Never changed since 4.10. */
enum req_op {
	REQ_OP_READ = 0,
	REQ_OP_WRITE = 1,
	REQ_OP_FLUSH = 2,
	REQ_OP_DISCARD = 3,
	REQ_OP_SECURE_ERASE = 5,
	REQ_OP_WRITE_ZEROES = 9,
	REQ_OP_MASK = 255,
};

#endif
