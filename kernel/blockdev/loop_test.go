package blockdev_test

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gosv/kernel/block"
	"gosv/kernel/vfs"
)

// TestLoopsTogether: loop devices are made, looked up and taken away by several at once.
func TestLoopsTogether(t *testing.T) {
	w := newWorld(t)
	w.disks.OnChange(func(*block.Disk) {}, func(*block.Disk) {})
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			ops, err := w.files.OpenLoopControl(nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			control := func(cmd uint32, n int) (uint64, error) {
				return ops.Ioctl(nil, &vfs.IoctlArgs{Cmd: cmd, Arg: uint64(n), Ctx: w.Ctx})
			}
			for i := range 300 {
				n, err := control(unix.LOOP_CTL_GET_FREE, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := control(unix.LOOP_CTL_ADD, i%3); err != nil && err != unix.EEXIST {
					t.Error("add", err)
				}
				for _, d := range w.disks.Disks() {
					_ = w.files.BackingFile(d)
				}
				if _, err := control(unix.LOOP_CTL_REMOVE, int(n)); err != nil && err != unix.ENODEV {
					t.Error("remove", err)
				}
			}
		}()
	}
	all.Wait()
	for n := range uint64(256) {
		ops, _ := w.files.OpenLoopControl(nil, nil)
		_, _ = ops.Ioctl(nil, &vfs.IoctlArgs{Cmd: unix.LOOP_CTL_REMOVE, Arg: n, Ctx: w.Ctx})
	}
	if n := len(w.disks.Disks()); n != 0 {
		t.Errorf("%d disks are left", n)
	}
}
