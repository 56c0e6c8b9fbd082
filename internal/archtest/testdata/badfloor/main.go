// Command badfloor does what the floor must not, one fault to a function.
package main

import "os"

type node struct{ next *node }

var (
	list  []int
	head  *node
	table = map[string]int{}
	text  string
	any_  any
)

//go:noinline
func floorAppend(n int) { list = append(list, n) }

//go:noinline
func floorNew() *node { return new(node) }

//go:noinline
func floorMake(n int) []byte { return make([]byte, n) }

//go:noinline
func floorMap(s string) { table[s]++ }

//go:noinline
func floorStore(n *node) { head.next = n }

//go:noinline
func floorConcat(s string) { text += s }

//go:noinline
func floorString(b []byte) { text = string(b) }

//go:noinline
func floorInterface(n int) { any_ = n }

//go:noinline
func floorDefer(f func()) {
	for range list {
		defer f()
	}
}

//go:noinline
func helper() *node { return &node{} }

//go:noinline
func floorIndirectly() { head = helper() }

//go:noinline
func floorFine(b []byte, i int) byte {
	var local [256]byte
	local[b[i]] = 1
	return local[i&255] + b[i+1]
}

func main() {
	n := len(os.Args)
	floorAppend(n)
	head = floorNew()
	text = string(floorMake(n))
	floorMap(text)
	floorStore(head)
	floorConcat(text)
	floorString([]byte(text))
	floorInterface(n)
	floorDefer(func() {})
	floorIndirectly()
	println(floorFine([]byte(text), n))
}
