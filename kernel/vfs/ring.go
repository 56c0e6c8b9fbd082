package vfs

// A ring lists mounts, which a mount can join and leave without a look at the others: there may be a hundred thousand. Guarded by Namespace.mu.
type ring struct{ first, last *ringLink }

// A ringLink is the place of m in a ring.
type ringLink struct {
	m          *Mount
	prev, next *ringLink
}

// add puts l, which is in no ring, at the end.
func (r *ring) add(l *ringLink) {
	l.prev, l.next = r.last, nil
	if r.last != nil {
		r.last.next = l
	} else {
		r.first = l
	}
	r.last = l
}

// remove takes out l, which is in r.
func (r *ring) remove(l *ringLink) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		r.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		r.last = l.prev
	}
	l.prev, l.next = nil, nil
}
