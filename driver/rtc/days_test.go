package rtc

import (
	"testing"
	"time"
)

func TestDays(t *testing.T) {
	for d := time.Date(1899, 12, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2201; d = d.AddDate(0, 0, 1) {
		if got, want := days(d.Year(), int(d.Month()), d.Day()), int(d.Unix()/86400); got != want {
			t.Fatalf("%v: %d, not %d", d, got, want)
		}
	}
}
