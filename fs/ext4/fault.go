package ext4

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Places in the superblock about faults.
const (
	sErrorCount = 0x194
	sFirstError = 0x198
	sLastError  = 0x1cc
)

// broken makes the file system read-only because of a fault; fs.mu is held for writing. The writer puts a mark on the disk.
func (fs *fileSystem) broken(err error) error {
	if fs.failed == nil {
		fs.failed = err
		if err != unix.EIO && err != unix.EUCLEAN {
			fs.failed = unix.EIO
		}
		fs.problem("is read-only from now on: " + err.Error())
		select {
		case fs.faulty <- struct{}{}:
		default:
		}
	}
	return err
}

// fail is broken where fs.mu is not held.
func (fs *fileSystem) fail(err error) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.broken(err)
}

// caughtLocked, deferred where fs.mu is held for writing, turns a panic, which is a bug here, into a fault of this file system: the machine goes on
// without it, and nothing that was half done is committed.
func (fs *fileSystem) caughtLocked(err *error) {
	if r := recover(); r != nil {
		fs.tell(r)
		*err = fs.broken(unix.EIO)
	}
}

// caught is caughtLocked where fs.mu is not held.
func (fs *fileSystem) caught(err *error) {
	if r := recover(); r != nil {
		fs.tell(r)
		*err = fs.fail(unix.EIO)
	}
}

// tell logs a panic with the stack that it came from.
func (fs *fileSystem) tell(r any) {
	text := "kernel panic"
	switch v := r.(type) {
	case error:
		text += ": " + v.Error()
	case string:
		text += ": " + v
	}
	b := make([]byte, 4096)
	fs.problem(text + "\n" + string(b[:runtime.Stack(b, false)]))
}

// locked does what needs fs.mu for writing, in parts of a commit.
func (fs *fileSystem) locked(do func() error) (err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	defer fs.caughtLocked(&err)
	return do()
}

// markErrors says on the disk that there was a fault, so that e2fsck looks at the file system: in the superblock, and in the journal's, since a
// superblock in the journal comes over the first when it is replayed. Nothing else is written any more.
func (fs *fileSystem) markErrors() {
	fs.committing.Lock()
	defer fs.committing.Unlock()
	if fs.marked || fs.readOnly.Load() || fs.failure() == nil {
		return
	}
	fs.marked = true
	for _, mark := range [...]func() error{fs.markSuper, fs.markJournal} {
		if err := fs.tried(mark); err != nil {
			fs.problem("the fault cannot be marked: " + err.Error())
		}
	}
}

// tried does what may panic.
func (fs *fileSystem) tried(do func() error) (err error) {
	defer fs.caught(&err)
	return do()
}

// markJournal marks a fault in the journal's superblock. fs.committing is held.
func (fs *fileSystem) markJournal() error {
	j := fs.journal
	if j == nil {
		return nil
	}
	errno := -int32(unix.EIO)
	be.PutUint32(j.super[jErrno:], uint32(errno))
	return j.storeSuper()
}

// markSuper marks a fault in the superblock that the disk has.
func (fs *fileSystem) markSuper() error {
	b := make([]byte, min(fs.disk.Limits().Size, 4096))
	if err := fs.disk.ReadAt(b, 0); err != nil {
		return err
	}
	raw, now := b[superOffset:][:superSize], uint32(fs.vfs.Now()/1e9)
	le.PutUint16(raw[sState:], le.Uint16(raw[sState:])|stateErrors)
	if le.Uint32(raw[sErrorCount:]) == 0 {
		le.PutUint32(raw[sFirstError:], now)
	}
	le.PutUint32(raw[sErrorCount:], le.Uint32(raw[sErrorCount:])+1)
	le.PutUint32(raw[sLastError:], now)
	if fs.csum {
		le.PutUint32(raw[sChecksum:], crc32c(^uint32(0), raw[:sChecksum]))
	}
	return fs.disk.WriteAt(b, 0, true)
}
