package mem

import "golang.org/x/sys/unix"

// A Mapper is an area of an address space that maps a cache. Both methods
// concern the cache's pages first to last, and must do nothing when the area does
// not map c any more.
type Mapper interface {
	// Unmap takes the pages out of the page tables, and with private also the copies
	// that a private mapping made of them.
	Unmap(c *Cache, first, last uint64, private bool)
	// WriteProtect makes the next write through the mapping fault.
	WriteProtect(c *Cache, first, last uint64)
}

// A Mapping enters a Mapper in a cache's list. Set Mapper, and Writable when the
// pages of the cache itself can be written through it.
type Mapping struct {
	Mapper   Mapper
	Writable bool

	prev, next *Mapping // guarded by the cache's lock
}

// AddMapping enters m; EPERM when it is writable and SealWrites was called.
func (c *Cache) AddMapping(m *Mapping) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Writable && c.sealed {
		return unix.EPERM
	}
	c.enter(m)
	return nil
}

// CopyMapping enters m, which stands for a part of a mapping that there is, or for a
// child's copy of it.
func (c *Cache) CopyMapping(m *Mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter(m)
}

// enter puts m into the list. c.mu is held.
func (c *Cache) enter(m *Mapping) {
	if m.Writable {
		c.writers++
	}
	last := c.mappings.prev
	m.prev, m.next = last, &c.mappings
	last.next, c.mappings.prev = m, m
	c.added++
}

// RemoveMapping takes m out again.
func (c *Cache) RemoveMapping(m *Mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.prev.next, m.next.prev = m.next, m.prev
	m.prev, m.next = nil, nil
	if m.Writable {
		c.writers--
	}
}

// Mapped reports whether any mapping exists.
func (c *Cache) Mapped() bool {
	c.mu.Lock()
	v := c.mappings.next != &c.mappings
	c.mu.Unlock()
	return v
}

// SealWrites forbids writable mappings from now on (F_SEAL_WRITE); EBUSY when there
// is one.
func (c *Cache) SealWrites() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writers > 0 {
		return unix.EBUSY
	}
	c.sealed = true
	return nil
}

// EachMapper calls f for the Mapper of every mapping, without holding c.mu. It starts
// again when a mapping came meanwhile, for that may have inherited pages by fork(2) from
// one not served yet.
func (c *Cache) EachMapper(f func(Mapper)) {
	var mappers []Mapper
	for {
		c.mu.Lock()
		added := c.added
		mappers = mappers[:0]
		for m := c.mappings.next; m != &c.mappings; m = m.next {
			mappers = append(mappers, m.Mapper)
		}
		c.mu.Unlock()
		for _, m := range mappers {
			f(m)
		}
		c.mu.Lock()
		again := c.added != added
		c.mu.Unlock()
		if !again {
			return
		}
	}
}
