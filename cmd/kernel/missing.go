package main

import (
	"path"
	"sync"
)

// missing remembers which files programs looked for and did not find.
type missing struct {
	mu   sync.Mutex
	seen map[string]struct{} // guarded by mu
}

// Bounds of what is told: names, and bytes of a name.
const (
	maxMissing     = 20000
	maxMissingName = 4000
)

// tell returns a function that tells the host each name once.
func (m *missing) tell(s *streams) func(name string) {
	m.seen = make(map[string]struct{})
	return func(name string) {
		if name = path.Clean(name); len(name) > maxMissingName {
			return
		}
		m.mu.Lock()
		_, known := m.seen[name]
		if known || len(m.seen) == maxMissing {
			m.mu.Unlock()
			return
		}
		m.seen[name] = struct{}{}
		m.mu.Unlock()
		s.say("missing " + name)
	}
}
