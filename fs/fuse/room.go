package fuse

import (
	"runtime"
	"time"
)

const (
	// letGoMost is how often a request is made again when the server had no room.
	letGoMost = 5
	// letGoTime is how long the collector may take to tell of inodes that it collected, until it is taken that there are none.
	letGoTime = time.Second
)

// letGo has the server forget what nobody uses here, since it has no more room. It reports whether there was something.
func (k *conn) letGo() bool {
	if k.fs == nil {
		return false // at INIT
	}
	before := k.forgottenSoFar()
	k.letting.Lock()
	defer k.letting.Unlock()
	if k.forgottenSoFar() != before {
		return true // another's call has just made room
	}
	k.fs.DropNames()
	runtime.GC() // inodes are forgotten when they are collected
	for end := time.Now().Add(letGoTime); k.forgottenSoFar() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			break
		}
	}
	k.flushForgets()
	return k.forgottenSoFar() != before
}

func (k *conn) forgottenSoFar() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.forgotten
}

// flushForgets sends what waits to be forgotten.
func (k *conn) flushForgets() {
	for {
		k.mu.Lock()
		n := min(len(k.forgets), forgetMost)
		batch := k.forgets[:n:n]
		k.forgets = k.forgets[n:]
		k.mu.Unlock()
		if n == 0 {
			return
		}
		k.sendForgets(batch)
	}
}
