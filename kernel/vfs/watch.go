package vfs

import (
	"slices"
	"sync"
)

// A Watcher is told when a file that it watches is closed for good. It holds no reference.
type Watcher interface {
	// FileClosed is called once, without locks, before FileOps.Release. The watcher ends its
	// registrations with the file.
	FileClosed(f *File)
}

type watchers struct {
	mu   sync.Mutex
	list []Watcher // guarded by mu
}

// AddWatcher has w told when the file is closed. The caller holds a reference.
func (f *File) AddWatcher(w Watcher) {
	if f.watch.Load() == nil {
		f.watch.CompareAndSwap(nil, new(watchers))
	}
	ws := f.watch.Load()
	ws.mu.Lock()
	ws.list = append(ws.list, w)
	ws.mu.Unlock()
}

// RemoveWatcher takes one AddWatcher back. FileClosed may be on its way already.
func (f *File) RemoveWatcher(w Watcher) {
	ws := f.watch.Load()
	ws.mu.Lock()
	if i := slices.Index(ws.list, w); i >= 0 {
		ws.list = slices.Delete(ws.list, i, i+1)
	}
	ws.mu.Unlock()
}

func (ws *watchers) closed(f *File) {
	ws.mu.Lock()
	list := ws.list
	ws.list = nil
	ws.mu.Unlock()
	for _, w := range list {
		w.FileClosed(f)
	}
}
