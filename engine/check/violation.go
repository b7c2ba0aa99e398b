// SPDX-License-Identifier: Apache-2.0

package check

import "fmt"

// Severity says what a violation costs.
type Severity uint8

// The severities, from the least on.
const (
	Note   Severity = 1 + iota // worth knowing, and normal after a crash
	Leak                       // space is lost, but no data
	Damage                     // data is lost or wrong, or may become so
)

// String returns the severity's name.
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Leak:
		return "leak"
	case Damage:
		return "damage"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText makes a severity its name in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (s *Severity) UnmarshalText(text []byte) error {
	for v := Note; v <= Damage; v++ {
		if v.String() == string(text) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q", text)
}

// Code names a kind of violation, for programs.
type Code string

// The codes.
const (
	NoStore        Code = "no-store"        // neither superblock is one
	BadSuperblock  Code = "superblock"      // one of them is damaged, or contradicts the other
	BadGeometry    Code = "geometry"        // regions that overlap or exceed their device
	BadLabel       Code = "label"           // a device is not this store's, or not in this role
	Unreadable     Code = "unreadable"      // a device returned an error
	BadPage        Code = "tree-page"       // a tree page is not what belongs at its address
	SharedPage     Code = "shared-page"     // a tree page has two parents
	BadOrder       Code = "tree-order"      // entries are outside the bounds that their parents give
	BadCount       Code = "entry-count"     // a tree's number of entries is not its root's
	BadSnapshot    Code = "snapshot"        // an impossible entry of the snapshot table
	BadLog         Code = "log"             // a record that must be there is not, or that recovery refuses
	BadException   Code = "exception"       // an impossible entry of the exception tree
	SharedSlot     Code = "shared-slot"     // two exceptions are in one slot
	FreeSlot       Code = "free-slot"       // an exception's slot is not allocated
	LeakedSlot     Code = "leaked-slot"     // a slot is allocated, but nothing is in it
	BadSlots       Code = "slots"           // an impossible entry of the slot tree, or a wrong count of them
	BadLease       Code = "lease"           // a lease of slots that cannot be leased
	BadDigest      Code = "digest"          // an impossible entry of the tree of digests
	NeedlessCopy   Code = "needless-copy"   // an exception that no snapshot reads
	MissingChange  Code = "missing-change"  // an exception without its mirror
	DanglingChange Code = "dangling-change" // a mirror without its exception
	BadData        Code = "data"            // a chunk's bytes are not those that were copied
	LostData       Code = "lost"            // chunks that are known to be lost: the origin or the store could not be read
	BadRestore     Code = "restore"         // a restore under way of what cannot be restored
	NotChecked     Code = "not-checked"     // something that could not be judged
)

// Violation is one thing that is wrong with a store.
type Violation struct {
	Severity  Severity `json:"severity"`
	Code      Code     `json:"code"`
	Device    string   `json:"device"`    // "store", "metadata" or "journal"
	Offset    int64    `json:"offset"`    // of the structure on the device in bytes; -1 when it has no place of its own
	Structure string   `json:"structure"` // such as "superblock 1" or "exceptions page 41"
	Problem   string   `json:"problem"`   // what is wrong with it
	Meaning   string   `json:"meaning"`   // what follows from that
}

// String returns the violation in one line.
func (v Violation) String() string {
	place := v.Device + " device"
	if v.Offset >= 0 {
		place += fmt.Sprintf(", byte %d", v.Offset)
	}
	return fmt.Sprintf("%s [%s] %s (%s): %s: %s", v.Severity, v.Code, v.Structure, place, v.Problem, v.Meaning)
}
