//go:build !race

package syscall

const raceEnabled = false
