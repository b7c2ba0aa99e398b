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

// beginnings are the first instructions of a mark: of a frame without a look at the
// stack's bound; or, of programs of before, a return.
var beginnings = map[elf.Machine][][]byte{
	elf.EM_X86_64:  {{0x55, 0x48, 0x89, 0xe5}, {0xc3}},                   // PUSHQ BP, MOVQ SP, BP; RET
	elf.EM_AARCH64: {{0xfe, 0x0f, 0x1f, 0xf8}, {0xc0, 0x03, 0x5f, 0xd6}}, // MOVD.W R30, -16(RSP); RET
}

// findMarks returns where in the file of a Go program its functions with the names
// are. It looks in the table that the program has for its own use, which is there without
// symbols too. Each must begin as a mark does: a probe at a wrong place would be fatal to the
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

// checkMark returns where in the file an address is, if the function there begins as a
// mark does.
func checkMark(file *elf.File, address uint64) (uint64, error) {
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD || address < p.Vaddr || address-p.Vaddr >= p.Filesz {
			continue
		}
		code := make([]byte, 4)
		if _, err := p.ReadAt(code, int64(address-p.Vaddr)); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if !slices.ContainsFunc(beginnings[file.Machine], func(want []byte) bool { return bytes.HasPrefix(code, want) }) {
			return 0, fmt.Errorf("its code % x is not that of a mark: %w", code, ErrUnavailable)
		}
		return address - p.Vaddr + p.Off, nil
	}
	return 0, fmt.Errorf("address %#x is not in the file: %w", address, ErrUnavailable)
}
