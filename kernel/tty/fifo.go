package tty

// fifo is a queue of bytes without a limit of its own.
type fifo struct {
	b   []byte
	off int // bytes before it are gone
}

func (q *fifo) len() int { return len(q.b) - q.off }

// bytes returns what is in the queue, good until the next change.
func (q *fifo) bytes() []byte { return q.b[q.off:] }

func (q *fifo) put(p ...byte) {
	if q.off > 0 && len(q.b)+len(p) > cap(q.b) {
		q.b = q.b[:copy(q.b, q.b[q.off:])]
		q.off = 0
	}
	q.b = append(q.b, p...)
}

// drop removes the first n bytes.
func (q *fifo) drop(n int) {
	if q.off += n; q.off == len(q.b) {
		q.clear()
	}
}

// cut removes all but the first n bytes.
func (q *fifo) cut(n int) {
	if q.len() > n {
		q.b = q.b[:q.off+n]
	}
}

func (q *fifo) clear() { q.b, q.off = q.b[:0], 0 }
