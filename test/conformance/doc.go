// Package conformance runs Linux's own selftests (Debian's linux-source-6.1, built by ./build) on Linux and in
// virtual machines, and compares. What Linux passes and the kernel does not is in differences.txt, with the
// reason; the list only shrinks.
//
//	make test-conformance        builds the tests, runs all, prints a table
//	go test -v ./test/conformance -run Selftests/futex    with GOSV_CONFORMANCE=DIR: those that match
package conformance
