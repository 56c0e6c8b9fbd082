package mm

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gosv/kernel/mem"
)

const firstMaxAreas = 65530

var areaLimit atomic.Int64

func init() { areaLimit.Store(firstMaxAreas) }

// MaxAreas is vm.max_map_count: how many areas an address space may have.
func MaxAreas() int { return int(areaLimit.Load()) }

// SetMaxAreas sets it: EINVAL, also for so many that the areas of one program could fill a fifth of the machine's memory.
func SetMaxAreas(n int, pool *mem.Pool) error {
	const perPage = 4 // areas take about 200 bytes each
	total, _ := pool.Usage()
	if n < 0 || uint64(n) > max(perPage*total, firstMaxAreas) {
		return unix.EINVAL
	}
	areaLimit.Store(int64(n))
	return nil
}
