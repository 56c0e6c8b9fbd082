package mem

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/share"
	"gosv/machine"
)

// Kept is what SetCharge is told for files in memory: their pages outlive who wrote them, so that killing for memory would not give them
// back. All such files together have share.Pages: ENOSPC.
func Kept(pages int64) error {
	if pages <= 0 {
		share.Pages.Give(-pages * machine.PageSize)
	} else if !share.Pages.Take(pages * machine.PageSize) {
		return unix.ENOSPC
	}
	return nil
}
