package vfs_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gosv/kernel/vfs/vfstest"
)

func TestLikeTheHost(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			vfstest.NewPair(t, newTree(t).Ctx).Run(rand.New(rand.NewPCG(seed, 1)).IntN, 400, nil)
		})
	}
}

// FuzzLikeTheHost takes the random numbers from the fuzzer.
func FuzzLikeTheHost(f *testing.F) {
	f.Add([]byte("some calls, whatever they may be, one after the other"))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0])
			b = b[1:]
			if n > 256 && len(b) > 0 {
				v = v<<8 | int(b[0])
				b = b[1:]
			}
			return v % n
		}
		vfstest.NewPair(t, newTree(t).Ctx).Run(next, 0, func() bool { return len(b) > 0 })
	})
}
