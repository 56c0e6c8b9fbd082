package sync

import "sync"

// The module's mutexes tell a checker, which is not there, of each step, and so are not inlined. This file takes the place of theirs.
type (
	// CrossGoroutineMutex may be unlocked by another goroutine than the one that locked it.
	CrossGoroutineMutex = sync.Mutex
	// Mutex is a mutual exclusion lock.
	Mutex = sync.Mutex
)
