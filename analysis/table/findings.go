// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// OfFindings makes two tables of hypotheses: those tested by measured samples, and by modelled ones.
func OfFindings(findings []goals.Finding) (measured, modelled Table) {
	head := []string{"", "slide", "claim", "what is compared", "holds if", "criterion from", "value", "n", "verdict"}
	numeric := []bool{false, true, false, false, true, false, true, true, false}
	measured = Table{Kind: results.Measured, Header: head, Numeric: numeric}
	modelled = Table{Kind: results.Modelled, Header: head, Numeric: numeric}
	for _, f := range findings {
		row := []string{
			f.Name, fmt.Sprint(f.Slide), f.Claim, f.What, f.Wanted(), string(f.Basis),
			quantity.Quantity(f.Estimate, f.Unit), fmt.Sprint(f.N), string(f.Verdict),
		}
		if f.Kind == results.Modelled {
			modelled.Rows = append(modelled.Rows, row)
		} else {
			measured.Rows = append(measured.Rows, row)
		}
	}
	return measured, modelled
}
