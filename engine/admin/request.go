// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
)

// Verb says what a request asks for. Part of the protocol.
type Verb string

// The verbs, with what each needs, and the members of the response that it sets.
const (
	VerbCreate  Verb = "create"  // New; sets Snapshot
	VerbDelete  Verb = "delete"  // Snapshot; takes Recursive
	VerbChange  Verb = "change"  // Snapshot, Change; sets Snapshot
	VerbList    Verb = "list"    // sets List: the snapshots, oldest first
	VerbStatus  Verb = "status"  // sets Status; no device is read
	VerbSharing Verb = "sharing" // sets Sharing; the whole index is read
	VerbCheck   Verb = "check"   // takes Data; sets Check; takes long

	VerbPolicy Verb = "policy" // Policy
	VerbResize Verb = "resize" // Resize; sets Plan; takes long
	VerbRevert Verb = "revert" // Snapshot, takes SkipLost; see Status.Restore for how far it is
	VerbMerge  Verb = "merge"  // the same

	VerbLost     Verb = "lost"      // Snapshot; sets Lost: what is known to be lost of it
	VerbSkipLost Verb = "skip-lost" // the restore under way leaves what cannot be read as it is
	VerbAbandon  Verb = "abandon"   // the restore under way ends where it is; sets Restore

	VerbScrubStart  Verb = "scrub-start"  // takes Scrub; sets Scrub
	VerbScrubStop   Verb = "scrub-stop"   // sets Scrub
	VerbScrubStatus Verb = "scrub-status" // sets Scrub

	VerbEvents Verb = "events" // Events; sets Events

	VerbChanges Verb = "changes" // Changes; sets Changes

	// Of digests; see package compute for the order of the steps.
	VerbDigest         Verb = "digest"          // Snapshot; sets Digest
	VerbDigestBegin    Verb = "digest-begin"    // Snapshot; sets Digest
	VerbDigestChildren Verb = "digest-children" // Digest; sets Digest
	VerbDigestPut      Verb = "digest-put"      // Digest
	VerbDigestEnd      Verb = "digest-end"      // Digest

	// Of groups; see package group for the order of the steps.
	VerbPrepare Verb = "prepare" // New, Group; returns when writes are held
	VerbRelease Verb = "release" // Group; sets Snapshot unless Group.Abort
	VerbCommit  Verb = "commit"  // Group
	VerbAbort   Verb = "abort"   // Group

	// Of a process that makes block devices. Without Snapshot they are about the
	// origin.
	VerbAttach Verb = "attach" // takes Snapshot, Attach; sets Device
	VerbDetach Verb = "detach" // takes Snapshot, Force

	// Of a server that another process is to replace; in this order.
	VerbListeners Verb = "listeners" // sets Listeners, which come with the response
	VerbYield     Verb = "yield"     // the server stops, and leaves the listeners to who has them
)

// Ref names a snapshot: by its tag or, if it is not empty, by its name.
type Ref struct {
	Tag  block.Tag `json:"tag"`
	Name string    `json:"name,omitempty"`
}

// String returns what a user would call the snapshot.
func (r Ref) String() string {
	if r.Name != "" {
		return r.Name
	}
	return strconv.FormatUint(uint64(r.Tag), 10)
}

// Request asks for one thing. As JSON it is an object such as
//
//	{"verb":"delete","snapshot":{"tag":7}}
//
// in which members that are not known, or that the verb does not take, are
// refused.
type Request struct {
	Verb      Verb         `json:"verb"`
	Snapshot  *Ref         `json:"snapshot,omitempty"`
	New       *NewSnapshot `json:"new,omitempty"`
	Recursive bool         `json:"recursive,omitempty"`
	Change    *Change      `json:"change,omitempty"`
	Scrub     *Scrub       `json:"scrub,omitempty"`
	Events    *EventQuery  `json:"events,omitempty"`
	Attach    *Attach      `json:"attach,omitempty"`
	Force     bool         `json:"force,omitempty"`
	Policy    string       `json:"policy,omitempty"` // of a full store: drop, block or fail-writes
	Resize    *Resize      `json:"resize,omitempty"`
	Group     *Group       `json:"group,omitempty"`
	Data      bool         `json:"data,omitempty"` // verify the checksums of copied chunks too
	Changes   *ChangeQuery `json:"changes,omitempty"`
	SkipLost  bool         `json:"skip_lost,omitempty"`
	Digest    *DigestSums  `json:"digest,omitempty"`
}

// Attach says how to make a volume a block device.
type Attach struct {
	Backend string `json:"backend,omitempty"` // empty: the best that the machine has
	Write   bool   `json:"write,omitempty"`   // to a snapshot; the origin is always written to
}

// Device is a block device that a volume is attached as.
type Device struct {
	Path     string     `json:"path"`
	Backend  string     `json:"backend"`
	Snapshot *block.Tag `json:"snapshot,omitempty"` // nil: the origin
	Writable bool       `json:"writable"`
}

// Kernel is what the kernel has of a store whose server serves it.
type Kernel struct {
	Origin    bool   `json:"origin"`          // a target of the origin
	Session   bool   `json:"session"`         // which is with this server, or goes on with the next
	Server    bool   `json:"server"`          // the kernel is connected
	Snapshots int    `json:"snapshots"`       // targets of snapshots
	Error     string `json:"error,omitempty"` // why the kernel does not say
}

// NewSnapshot says what snapshot to make.
type NewSnapshot struct {
	Tag      block.Tag `json:"tag"`
	Name     string    `json:"name,omitempty"`
	Parent   *Ref      `json:"parent,omitempty"` // of what snapshot; nil: of the origin
	Priority int8      `json:"priority,omitempty"`
	Held     bool      `json:"held,omitempty"`
	Source   *Source   `json:"source,omitempty"` // that it is a copy of
}

// Source names a snapshot of which there are copies in other stores.
type Source struct {
	Store      string           `json:"store_uuid"`
	Generation block.Generation `json:"generation"`
}

// Change says what is to be different about a snapshot. What is nil stays.
type Change struct {
	Name     *string `json:"name,omitempty"`
	Priority *int8   `json:"priority,omitempty"`
	Held     *bool   `json:"held,omitempty"`
	Uses     int64   `json:"uses,omitempty"` // added to the use count
	// Applying is the identity, as a UUID, of the delta by which the origin is being made
	// a newer state than the snapshot; empty: of none.
	Applying *string `json:"applying,omitempty"`
	// Applied is up to which offset the origin durably holds what that delta makes, which
	// must be being applied already. Zero: nobody knows.
	Applied int64 `json:"applied_bytes,omitempty"`
}

// Response is the answer to a request: an error, or what the verb sets.
type Response struct {
	Error    *Error     `json:"error,omitempty"`
	Snapshot *Snapshot  `json:"snapshot,omitempty"`
	List     []Snapshot `json:"list,omitempty"`
	Status   *Status    `json:"status,omitempty"`
	Sharing  []Sharing  `json:"sharing,omitempty"`

	Scrub  *ScrubStatus `json:"scrub,omitempty"`
	Events []Event      `json:"events,omitempty"`
	Device *Device      `json:"device,omitempty"`
	Plan   *ResizePlan  `json:"plan,omitempty"`
	Check  *Findings    `json:"check,omitempty"`

	Changes *ChangeList `json:"changes,omitempty"`

	Listeners []Listener `json:"listeners,omitempty"`

	Lost    *Lost    `json:"lost,omitempty"`
	Restore *Restore `json:"restore,omitempty"`
	Digest  *Digest  `json:"digest,omitempty"`
}

// Lost are chunks of a snapshot that are known to be lost.
type Lost struct {
	Count  uint64        `json:"count"`
	Chunks []block.Chunk `json:"chunks"` // the first of them, at most store.MaxLost
}

// Findings are what a check of a store in use has found.
type Findings struct {
	Violations []check.Violation `json:"violations"`     // the first MaxFindings
	More       uint64            `json:"more,omitempty"` // beside those
}

// MaxFindings is how many violations are answered with.
const MaxFindings = 10000

// member is a set of members of requests and responses.
type member uint

const (
	snapshotMember member = 1 << iota
	statusMember
	newMember
	recursiveMember
	changeMember
	scrubMember
	eventsMember
	attachMember
	deviceMember
	forceMember
	policyMember
	resizeMember
	planMember
	groupMember
	dataMember
	checkMember
	listenersMember
	changesMember
	skipLostMember
	lostMember
	restoreMember
	digestMember
)

// grammar says of each verb which members its request needs, which it takes
// besides, and which its response has for sure.
var grammar = map[Verb]struct{ needs, takes, answers member }{
	VerbCreate:  {needs: newMember, answers: snapshotMember},
	VerbDelete:  {needs: snapshotMember, takes: recursiveMember},
	VerbChange:  {needs: snapshotMember | changeMember, answers: snapshotMember},
	VerbList:    {},
	VerbStatus:  {answers: statusMember},
	VerbSharing: {},
	VerbCheck:   {takes: dataMember, answers: checkMember},

	VerbPolicy: {needs: policyMember},
	VerbResize: {needs: resizeMember, answers: planMember},
	VerbRevert: {needs: snapshotMember, takes: skipLostMember},
	VerbMerge:  {needs: snapshotMember, takes: skipLostMember},

	VerbLost:     {needs: snapshotMember, answers: lostMember},
	VerbSkipLost: {},
	VerbAbandon:  {answers: restoreMember},

	VerbScrubStart:  {takes: scrubMember, answers: scrubMember},
	VerbScrubStop:   {answers: scrubMember},
	VerbScrubStatus: {answers: scrubMember},

	VerbEvents: {needs: eventsMember},

	VerbChanges: {needs: changesMember, answers: changesMember},

	VerbDigest:         {needs: snapshotMember, answers: digestMember},
	VerbDigestBegin:    {needs: snapshotMember, answers: digestMember},
	VerbDigestChildren: {needs: digestMember, answers: digestMember},
	VerbDigestPut:      {needs: digestMember},
	VerbDigestEnd:      {needs: digestMember},

	VerbPrepare: {needs: newMember | groupMember},
	VerbRelease: {needs: groupMember, answers: snapshotMember},
	VerbCommit:  {needs: groupMember},
	VerbAbort:   {needs: groupMember},

	VerbAttach: {takes: snapshotMember | attachMember, answers: deviceMember},
	VerbDetach: {takes: snapshotMember | forceMember},

	VerbListeners: {answers: listenersMember},
	VerbYield:     {},
}

// names of the members, for errors.
var names = []string{"a snapshot", "a status", "a new snapshot", "recursive", "a change", "a scrub", "a query of events",
	"a way to attach", "a device", "force", "a policy", "sizes", "a plan", "a group", "data", "findings", "listeners", "a query of changes", "skip_lost", "lost chunks", "a restore", "a digest"}

// String names the first of the members.
func (m member) String() string {
	for i, name := range names {
		if m&(1<<i) != 0 {
			return name
		}
	}
	return "nothing"
}

// set returns which of the members are there, given in the order of member.
func set(there ...bool) (m member) {
	for i, yes := range there {
		if yes {
			m |= 1 << i
		}
	}
	return m
}

// Check returns an error unless the request has what its verb needs, and nothing
// else.
func (r *Request) Check() error {
	g, ok := grammar[r.Verb]
	if !ok {
		return fmt.Errorf("%w: unknown verb %q", ErrRequest, r.Verb)
	}
	has := set(r.Snapshot != nil, false, r.New != nil, r.Recursive, r.Change != nil, r.Scrub != nil, r.Events != nil,
		r.Attach != nil, false, r.Force, r.Policy != "", r.Resize != nil, false, r.Group != nil, r.Data,
		false, false, r.Changes != nil, r.SkipLost, false, false, r.Digest != nil)
	if missing := g.needs &^ has; missing != 0 {
		return fmt.Errorf("%w: verb %s needs %v", ErrRequest, r.Verb, missing)
	}
	if more := has &^ (g.needs | g.takes); more != 0 {
		return fmt.Errorf("%w: verb %s does not take %v", ErrRequest, r.Verb, more)
	}
	return nil
}

// answers reports whether the response is one to a request of that verb.
func (r *Response) answers(v Verb) bool {
	has := set(r.Snapshot != nil, r.Status != nil, false, false, false, r.Scrub != nil, false, false, r.Device != nil,
		false, false, false, r.Plan != nil, false, false, r.Check != nil, len(r.Listeners) > 0, r.Changes != nil, false, r.Lost != nil, r.Restore != nil,
		r.Digest != nil)
	return grammar[v].answers&^has == 0
}

// DecodeRequest reads a request from its JSON. The error wraps [ErrRequest].
func DecodeRequest(text []byte) (Request, error) {
	var r Request
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("%w: something follows the object", ErrRequest)
	}
	return r, r.Check()
}
