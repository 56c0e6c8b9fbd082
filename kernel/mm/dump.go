package mm

// Own reports whether the area from start to end has pages of its own: memory that was touched, or a private mapping whose pages were written to.
func (as *AddressSpace) Own(start, end uint64) bool {
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(start)
	switch {
	case a == nil || a.shared():
		return false
	case a.object != nil && !a.hugeTLB():
		return a.copied.Load()
	}
	_, ok := as.nextMapped(start, end)
	return ok
}

// NextPage copies the first page at or above va, below end, that holds anything into dst, a page, whatever the rights to it; false: there is none.
// Memory that was never touched holds nothing, and is not made.
func (as *AddressSpace) NextPage(dst []byte, va, end uint64) (at uint64, ok bool) {
	for va < end {
		at, found, file := as.copyPage(dst, va, end)
		if found {
			return at, true
		}
		if file {
			if _, err := as.Peek(dst, at); err == nil {
				return at, true
			}
		}
		va = at + pageSize
	}
	return 0, false
}

// copyPage looks for the next page in the page tables. In a file's mapping, file, it looks at va alone.
func (as *AddressSpace) copyPage(dst []byte, va, end uint64) (at uint64, found, file bool) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	a := as.find(va)
	if a == nil {
		return end, false, false
	}
	file = a.cache != nil
	if !file {
		var ok bool
		if va, ok = as.nextMapped(va, end); !ok {
			return end, false, false
		}
	}
	stripe := as.stripe(va)
	stripe.Lock()
	defer stripe.Unlock()
	f, _, ok := as.space.Lookup(va)
	if !ok || as.pool.IsZero(f) {
		return va, false, file && !ok
	}
	copy(dst, as.pool.Bytes(f))
	return va, true, file
}
