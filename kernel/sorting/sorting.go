// Package sorting is sort.Sort for slices of any type. Unlike slices.SortFunc it does
// not bring the whole algorithm into the kernel once more for each type.
package sorting

import "sort"

// Sort sorts list so that compare(a, b) is not positive for any a before b. Equal elements keep their order.
func Sort[T any](list []T, compare func(a, b T) int) {
	sort.Stable(&by[T]{list, compare})
}

type by[T any] struct {
	list    []T
	compare func(a, b T) int
}

func (s *by[T]) Len() int           { return len(s.list) }
func (s *by[T]) Less(i, j int) bool { return s.compare(s.list[i], s.list[j]) < 0 }
func (s *by[T]) Swap(i, j int)      { s.list[i], s.list[j] = s.list[j], s.list[i] }
