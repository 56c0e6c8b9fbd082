// Package vm holds the tests that need a virtual machine: real programs, from
// test/guest and from Debian, run on Linux first and then on the kernel, and
// must do the same: equal output, equal errors, equal exit status.
//
//	go test -v ./test/vm                          everything that is quick
//	go test -v ./test/vm -run Programs/hello      one program
//	GOSV_SOAK=10m go test -v ./test/vm -run Soak  the long soak
//
// The tests never skip for want of a tool: without QEMU, make, gcc, musl-gcc or
// bin/gosv they fail and say what to do. Programs that need a part of Linux
// which the kernel does not have yet (see capabilities) run on Linux only, and
// the report names them.
//
// Environment: GOSV is the command under test (default: bin/gosv of this
// tree); GOSV_JOBS is how many virtual machines run at a time (2); GOSV_MATRIX
// is full, quick or a list as microvm/1,q35/4.
package vm
