// SPDX-License-Identifier: Apache-2.0

// Package fleet divides a suite into trials for many machines, renders them as a job of
// an engine that runs jobs, collects what each trial gave in one place, and merges it.
//
// It owns the form of a collected trial (one object: see [Trial]), the templates of jobs
// for Nomad, Kubernetes and Slurm, and what may be merged with what. It starts no job and
// talks to no engine: their own commands do. How a trial is carried out is package
// runner's, where objects are kept engine/backup/storage's. Command zbench calls it.
//
// A trial may be carried out again at any time, by the same machine or another: what is
// collected already is left as it is, and an object is put as a whole or not at all.
//
// What is merged keeps a run for each machine, so that nothing that reads runs can mix
// machines; machines of exactly one kind may be pooled where that is asked for. What is
// collected is believed only as far as its sums and its samples bear it out: an error
// names the object, and nothing is written.
//
// Functions may be called from several goroutines, for different jobs.
package fleet
