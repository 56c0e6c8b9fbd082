// Package stress runs Debian's stress-ng in virtual machines of four processors: each stressor for two seconds,
// and the classes cpu, vm, memory, os, scheduler, pipe and interrupt for half a minute each with all their stressors at a time. No
// kernel fault, no hang, and at least 240 stressors that run to their end.
//
//	make test-stress             runs all and prints a table
//	go test -v ./test/stress -run Stressors/futex     with GOSV_STRESS=1: those that match
package stress
