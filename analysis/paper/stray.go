// SPDX-License-Identifier: Apache-2.0

package paper

import (
	"fmt"
	"regexp"
)

// result is what looks like one: a number with the unit of a share, ratio, time or rate.
var result = regexp.MustCompile(`\d(?:[\d.,]*\d)?\s?(?:%|x\b|×|(?:n|µ|u|m)?s\b|seconds?\b|minutes?\b|(?:[KMGk]i?)?B/s|[kM]?\s?IOPS)`)

// stray finds results that no run stands behind: outside of marks, and of blocks that name a
// source. It finds marks, too, that Markdown or this package would take for something else.
func stray(lines []string) []Problem {
	var out []Problem
	inside := false
	for i, line := range lines {
		switch {
		case inside:
			inside = !endMark.MatchString(line)
			continue
		case blockMark.MatchString(line), sourceMark.MatchString(line):
			inside = true
			continue
		case endMark.MatchString(line):
			out = append(out, Problem{i + 1, "an <!-- end --> without its begin"})
			continue
		}
		if at := numberMark.FindStringIndex(line); at != nil && at[0] == 0 {
			out = append(out, Problem{i + 1, "a number's mark begins the line: Markdown would end the paragraph there"})
		}
		rest := numberMark.ReplaceAllString(line, "")
		if anyMark.MatchString(rest) {
			out = append(out, Problem{i + 1, "a mark that is not one: <!-- zbench: ... -->, <!-- source: ... --> and <!-- end --> have lines of their own, <!-- = ... -->value<!-- --> is within one"})
		}
		if found := result.FindString(rest); found != "" {
			out = append(out, Problem{i + 1, fmt.Sprintf("%q looks like a result, and no run is behind it: put it into a mark, or into a block that names its <!-- source: ... -->", found)})
		}
	}
	return out
}
