package tcpip

import "math"

// sum is a+b, or the nearest number that there is: what package time's Add and Sub gave, of which a request and its answer
// asked a hundred times for a tenth of the work.
func sum(a, b int64) int64 {
	c := a + b
	if (c > a) == (b > 0) {
		return c
	}
	if b > 0 {
		return math.MaxInt64
	}
	return math.MinInt64
}

// difference is a-b, or the nearest number that there is.
func difference(a, b int64) int64 {
	c := a - b
	if (c < a) == (b > 0) {
		return c
	}
	if b > 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}
