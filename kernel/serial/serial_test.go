package serial

import "testing"

// Work is done in its order, none of it at the same time; what is over the bound is refused, and what was cleared is not done.
func TestQueue(t *testing.T) {
	var got []int // by the work alone, and by the test when it is over
	begun, on, over := make(chan int), make(chan bool), make(chan bool)
	q := Queue[int]{Do: func(v int) {
		if v < 0 {
			close(over)
			return
		}
		got = append(got, v)
		begun <- v
		<-on
	}}
	q.Add(0, 0)
	<-begun
	for v := 1; v <= 3; v++ {
		if q.Add(v, 2) != (v <= 2) {
			t.Error(v, "of 2")
		}
	}
	if q.Len() != 2 {
		t.Error(q.Len(), "wait")
	}
	for v := 1; v <= 2; v++ {
		on <- true
		if w := <-begun; w != v {
			t.Errorf("%d, want %d", w, v)
		}
	}
	q.Add(7, 0)
	if left := q.Clear(); len(left) != 1 || left[0] != 7 {
		t.Error(left)
	}
	q.Add(-1, 0)
	on <- true
	<-over
	if len(got) != 3 {
		t.Error(got)
	}
}
