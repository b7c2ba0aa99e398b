// SPDX-License-Identifier: Apache-2.0

package paper

import (
	"fmt"
	"regexp"
	"strings"
)

// Marks are comments of Markdown, so that a paper is read as it is.
//
//	<!-- zbench: figure e4-read-qd32-measured -->
//	what is between is made anew
//	<!-- end -->
//
//	a read costs <!-- = goal origin-read-vs-raw -->0.99 x<!-- --> of raw
var (
	blockMark  = regexp.MustCompile(`^<!-- zbench: (.+) -->\s*$`)
	sourceMark = regexp.MustCompile(`^<!-- source: (.*\S.*) -->\s*$`)
	endMark    = regexp.MustCompile(`^<!-- end -->\s*$`)
	numberMark = regexp.MustCompile(`<!-- = (.+?) -->(.*?)<!-- -->`)
	anyMark    = regexp.MustCompile(`<!--\s*(zbench|source|=|end)`)
)

// renderer fills the marks of one paper, line by line.
type renderer struct {
	book   *Book
	folder string
	draft  bool // what cannot be filled says so in the text
	ed     Edition
	out    []string
}

func (r *renderer) problem(i int, format string, args ...any) {
	r.ed.Problems = append(r.ed.Problems, Problem{i + 1, fmt.Sprintf(format, args...)})
}

func (r *renderer) changed(i int, format string, args ...any) {
	r.ed.changes = append(r.ed.changes, Problem{i + 1, fmt.Sprintf(format, args...)})
}

// line renders the line, or the block that it begins, and returns the next one's index.
func (r *renderer) line(lines []string, i int) int {
	if m := blockMark.FindStringSubmatch(lines[i]); m != nil {
		return r.block(lines, i, m[1])
	}
	r.out = append(r.out, numberMark.ReplaceAllStringFunc(lines[i], func(mark string) string {
		m := numberMark.FindStringSubmatch(mark)
		v, err := r.book.number(m[1])
		if err != nil {
			r.problem(i, "%s: %v", m[1], err)
			if !r.draft {
				return mark
			}
			v = notInRun
		}
		if v != m[2] {
			r.changed(i, "%s: the paper says %q, its run %q", m[1], m[2], v)
		}
		return "<!-- = " + m[1] + " -->" + v + "<!-- -->"
	}))
	return i + 1
}

// block renders a block and its marks; one that does not end is left as it is.
func (r *renderer) block(lines []string, i int, what string) int {
	end := i + 1
	for end < len(lines) && !endMark.MatchString(lines[end]) {
		if blockMark.MatchString(lines[end]) {
			break
		}
		end++
	}
	if end == len(lines) || !endMark.MatchString(lines[end]) {
		r.problem(i, "the block %q has no <!-- end -->", what)
		r.out = append(r.out, lines[i])
		return i + 1
	}
	old := strings.Join(lines[i+1:end], "\n")
	text, err := r.fill(what)
	if err != nil {
		r.problem(i, "%s: %v", what, err)
		if text = old; r.draft {
			text = "\n*" + notInRun + "*\n"
		}
	} else if text = "\n" + strings.TrimSpace(text) + "\n"; text != old {
		r.changed(i, "the block %q is not what its run gives", what)
	}
	r.out = append(r.out, lines[i], text, lines[end])
	return end + 1
}
