// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"io"
	"slices"
)

// lone is the code of a function that only returns, which is all that a mark does.
var lone = map[elf.Machine][]byte{
	elf.EM_X86_64:  {0xc3},
	elf.EM_AARCH64: {0xc0, 0x03, 0x5f, 0xd6},
}

// findMarks returns where in the file of a Go program its functions with the names
// are. It looks in the table that the program has for its own use, which is there without
// symbols too. Each must only return: a probe at a wrong place would be fatal to the
// process.
func findMarks(path string, names []string) (map[string]uint64, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	table, err := functions(file)
	if err != nil {
		return nil, err
	}
	found := map[string]uint64{}
	for i := range table.Funcs {
		f := &table.Funcs[i]
		if !slices.Contains(names, f.Name) {
			continue
		}
		if found[f.Name], err = checkMark(file, f.Entry); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	for _, name := range names {
		if _, ok := found[name]; !ok {
			return nil, fmt.Errorf("it has no function %s: %w", name, ErrUnavailable)
		}
	}
	return found, nil
}

// functions reads the function table of a Go program.
func functions(file *elf.File) (table *gosym.Table, err error) {
	text, lines := file.Section(".text"), file.Section(".gopclntab")
	if lines == nil {
		lines = file.Section(".data.rel.ro.gopclntab") // position-independent
	}
	if text == nil || lines == nil {
		return nil, fmt.Errorf("it is no Go program: %w", ErrUnavailable)
	}
	data, err := lines.Data()
	if err != nil {
		return nil, err
	}
	return gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
}

// checkMark returns where in the file an address is, if the function there only
// returns.
func checkMark(file *elf.File, address uint64) (uint64, error) {
	want := lone[file.Machine]
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD || address < p.Vaddr || address-p.Vaddr >= p.Filesz {
			continue
		}
		code := make([]byte, len(want))
		if _, err := p.ReadAt(code, int64(address-p.Vaddr)); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if want == nil || !bytes.Equal(code, want) {
			return 0, fmt.Errorf("its code % x is not that of a mark: %w", code, ErrUnavailable)
		}
		return address - p.Vaddr + p.Off, nil
	}
	return 0, fmt.Errorf("address %#x is not in the file: %w", address, ErrUnavailable)
}
