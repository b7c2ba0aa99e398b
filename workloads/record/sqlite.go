// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"zumastor.org/zumastor/workloads/gen"
)

// Rows of the table, and transactions of each kind.
const (
	sqliteRows         = 50_000
	sqliteTransactions = 500
)

func prepareSQLite(ctx context.Context, s *session) error {
	s.note("source: a table of %d rows of 300 bytes with an index, then twice %d transactions of four updates and one insert, at random places",
		sqliteRows, sqliteTransactions)
	return s.version(ctx, "sqlite3", "--version")
}

func runSQLite(ctx context.Context, s *session) error {
	db := filepath.Join(s.mnt, "data.db")
	for _, phase := range []struct {
		name string
		sql  io.Reader
	}{
		{"load", strings.NewReader(sqliteLoad())},
		{"rollback journal", strings.NewReader("PRAGMA journal_mode=DELETE;\n" + sqliteUpdates(1))},
		{"write-ahead log", strings.NewReader("PRAGMA journal_mode=WAL;\n" + sqliteUpdates(2))},
	} {
		s.mark(phase.name)
		if err := s.feed(ctx, phase.sql, "sqlite3", "-bail", db); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
	}
	return nil
}

func sqliteLoad() string {
	return fmt.Sprintf(`PRAGMA synchronous=FULL;
BEGIN;
CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER, body BLOB);
CREATE INDEX item_owner ON item(owner);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < %d)
INSERT INTO item SELECT i, i * 7919 %% 1000, randomblob(300) FROM n;
COMMIT;
`, sqliteRows-1)
}

// sqliteUpdates is the transactions of one phase.
func sqliteUpdates(seed uint64) string {
	var b strings.Builder
	b.WriteString("PRAGMA synchronous=FULL;\n")
	ids := gen.NewPermutation(seed, sqliteRows)
	for i := range uint64(sqliteTransactions) {
		b.WriteString("BEGIN;\n")
		for j := range uint64(4) {
			fmt.Fprintf(&b, "UPDATE item SET owner = owner + 1, body = randomblob(300) WHERE id = %d;\n", ids.At(4*i+j))
		}
		fmt.Fprintf(&b, "INSERT INTO item(owner, body) VALUES(%d, randomblob(300));\nCOMMIT;\n", i%1000)
	}
	return b.String()
}
