// Command kernel is the guest's kernel.
package main

import (
	"gosv/machine/bare"
)

func main() {
	m := bare.New()
	println("hello from the kernel", m.CommandLine(), m.CPUs())
	t, f := m.Usage()
	println(t, f)
	m.Off(0)
}
