package main

import (
	"fmt"
	"io"
	"slices"
)

// missingFiles are the names of files that the program did not find. It is filled by
// one goroutine, and printed when that has ended.
type missingFiles struct{ names []string }

// maxMissing bounds how many names a machine can have the host keep.
const maxMissing = 20000

func (m *missingFiles) add(name string) {
	if len(m.names) < maxMissing {
		m.names = append(m.names, name)
	}
}

func (m *missingFiles) print(out io.Writer) {
	if len(m.names) == 0 {
		return
	}
	slices.Sort(m.names)
	fmt.Fprintln(out, "gosv: these files were looked for and not found:")
	for _, name := range slices.Compact(m.names) {
		fmt.Fprintln(out, "  "+name)
	}
}
