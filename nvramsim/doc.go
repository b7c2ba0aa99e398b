// SPDX-License-Identifier: Apache-2.0

// Package nvramsim simulates the devices that experiments compare: NVRAM,
// persistent memory, and disks whose time is modelled.
//
// It owns virtual time ([Clock]), the models of time ([NewHDD], [NewFlash],
// [NewNVRAM]) and the persistence domain of [PMem]. It does not own data:
// a model's [Partition] puts time beside a backing device, usually a memdev,
// whose kind decides what a power cut leaves (NVRAM and NVMe with power-loss
// protection: memdev.New; the others: memdev.NewVolatile). The harness, and
// tests of the placements, call it.
//
// Modelled is not measured. A model turns the exact sequence of I/O into
// nanoseconds by the figures in its Params, which are typical ones, stated with
// their source; nothing here looks at a real clock, and the same sequence gives
// the same time on every machine. Such figures compare layouts and orders of
// I/O; they do not predict a given drive. Never put them beside measured ones.
//
// Devices are safe for concurrent use, but time is only meaningful, and
// repeatable, when one goroutine at a time issues I/O: an operation begins at the
// clock's time and advances it to its end, so operations issued one after
// another add up, on different devices too. The ops of one device.Do are under
// way at once. What a drive does by itself (emptying its cache, reading ahead)
// goes on while the clock advances for other reasons. Operations fail as the
// backing device fails, and take no time then.
package nvramsim
