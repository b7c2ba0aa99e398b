// SPDX-License-Identifier: Apache-2.0

// Package lab boots real Debian kernels in virtual machines and runs commands in
// them, so that what needs a kernel is tested and measured alike everywhere.
//
// It owns the cache of what machines boot (kernels with modules and headers, the
// root file system, early user space), QEMU's command line, and the life of a
// machine from start to exit code. What runs in the guest, it does not know:
// kernel/tests and the callers say that. Commands of package cli call it, and its
// tests.
//
// Everything that is built goes to a directory of [Cache], named by a hash of
// what it is made of: the resolved package versions and the recipe. Builds of
// several processes exclude each other by a file lock, and appear by rename.
// [Run] may be called for several machines at a time; each has a directory of its
// own, which holds the console's log, results and core files when it returns.
//
// Nothing of the host is changed but for the cache and that directory: packages
// are fetched by apt with lists of its own. An error names the tool to install,
// or the end of the console's log.
package lab
