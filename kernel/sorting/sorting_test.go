package sorting

import (
	"math/rand"
	"slices"
	"testing"
)

func TestSort(t *testing.T) {
	type pair struct{ key, place int }
	for range 100 {
		list := make([]pair, rand.Intn(200))
		for i := range list {
			list[i] = pair{rand.Intn(20), i}
		}
		want := slices.Clone(list)
		slices.SortStableFunc(want, func(a, b pair) int { return a.key - b.key })
		Sort(list, func(a, b pair) int { return a.key - b.key })
		if !slices.Equal(list, want) {
			t.Fatalf("%v, want %v", list, want)
		}
	}
}
