package floor

// futex(2) for the runtime: FUTEX_WAIT and FUTEX_WAKE on kernel addresses,
// waiters hashed by address.

const futexBuckets = 64

var futexes [futexBuckets]waitq

func futexBucket(key uint64) *waitq {
	return &futexes[(key>>2*0x9e3779b97f4a7c15)>>58]
}

// futexWait blocks t until key is woken or the deadline passes; false when the
// word no longer holds val.
func futexWait(c *cpu, t *thread, key uint64, val uint32, deadline uint64) bool {
	touchRange(c, key, 4)
	q := futexBucket(key)
	lock(c, &q.lock)
	if ld32(key) != val {
		unlock(&q.lock)
		return false
	}
	t.key = key
	t.ctx.RAX = 0
	block(c, t, q, deadline)
	return true
}

func futexWake(c *cpu, key, n uint64) uint64 {
	// The lock is taken even if nobody seems to wait: a thread that has looked
	// at the word holds it until it is on the queue.
	q := futexBucket(key)
	woken := uint64(0)
	for woken < n {
		lock(c, &q.lock)
		id := q.head
		for id != 0 && byID(id).key != key {
			id = byID(id).wnext
		}
		if id != 0 {
			q.remove(byID(id))
		}
		unlock(&q.lock)
		if id == 0 {
			break
		}
		ready(c, byID(id))
		woken++
	}
	return woken
}
