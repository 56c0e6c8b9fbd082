package task

import (
	"gosv/kernel/cred"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

// SpawnArgs say what a process that the host asks for begins with.
type SpawnArgs struct {
	Exec  *ExecArgs
	Files *vfs.FDTable // becomes the process's own, also when Spawn fails
	FS    *FS
	Cred  *cred.Cred
	// Terminal is the controlling terminal of the process's session, nil for none.
	Terminal Terminal
	// Ended is called once, on a goroutine of its own, with the status as wait4(2) encodes it.
	Ended func(status int32)
}

// Spawn starts a process beside process 1, as `docker exec` does: it leads a session of its own and is an
// adopted child of process 1, which learns nothing of its end. EAGAIN without a free number, ENOMEM, ESRCH
// when process 1 has ended; else the error of Load.
func (k *Kernel) Spawn(a *SpawnArgs) (*Process, error) {
	t, err := k.newTask(a.Files, a.FS, a.Cred)
	if err != nil {
		a.Files.DecRef()
		return nil, err
	}
	img, err := k.Load(t, a.Exec)
	if err == nil {
		t.install(img, a.Exec)
		if err = k.adopt(t, a); err != nil {
			t.mem.Release()
			t.proc.dropExe()
		}
	}
	if err != nil {
		t.Files.DecRef()
		k.Machine.FreeContext(t.Ctx)
		return nil, err
	}
	k.run(t)
	return t.proc, nil
}

// adopt makes t's process known as a child of process 1.
func (k *Kernel) adopt(t *Task, a *SpawnArgs) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.init == nil || k.dying {
		return unix.ESRCH
	}
	n := k.newID(t)
	if n == 0 {
		return unix.EAGAIN
	}
	k.ids[n].ns = k.pids
	k.publish(t, n, a.Terminal)
	k.started++
	p := t.proc
	p.parent, p.adopted, p.exitSignal, p.onEnd = k.init, true, unix.SIGCHLD, a.Ended
	p.ppid.Store(k.init.PID)
	k.init.children = append(k.init.children, p)
	return nil
}
