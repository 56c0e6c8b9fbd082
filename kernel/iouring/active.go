package iouring

// enter makes q active.
//
// +checklocks:r.mu
func (r *Ring) enter(q *Request) {
	r.add(q)
	if q.drains() {
		r.draining++
		q.Flags |= Drain
	}
}

// add makes q active.
//
// +checklocks:r.mu
func (r *Ring) add(q *Request) {
	r.active[q] = struct{}{}
	first := r.byData[q.UserData]
	q.same[0], q.same[1] = nil, first
	if first != nil {
		first.same[0] = q
	}
	r.byData[q.UserData] = q
}

// remove undoes add.
//
// +checklocks:r.mu
func (r *Ring) remove(q *Request) {
	delete(r.active, q)
	before, after := q.same[0], q.same[1]
	if after != nil {
		after.same[0] = before
	}
	switch {
	case before != nil:
		before.same[1] = after
	case after != nil:
		r.byData[q.UserData] = after
	default:
		delete(r.byData, q.UserData)
	}
}

// find returns the active requests that match.
func (r *Ring) find(match func(*Request) bool) (list []*Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := range r.active {
		if q.live.Load() && match(q) {
			list = append(list, q)
		}
	}
	return list
}

// with returns the active requests with that user data that match.
func (r *Ring) with(userData uint64, match func(*Request) bool) (list []*Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for q := r.byData[userData]; q != nil; q = q.same[1] {
		if q.live.Load() && match(q) {
			list = append(list, q)
		}
	}
	return list
}
