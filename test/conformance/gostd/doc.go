// Package gostd runs the tests of Go's standard library that ask most of a kernel, on Linux and then in a virtual
// machine, and compares test by test. known-differences.txt has the differences, with reasons; it only
// shrinks.
//
//	go test -v ./test/conformance/gostd -run TestGo/os_exec    with GOSV and GOSV_CONFORMANCE set: one package
//
// GOSV_GO_WHOLE=1 runs the long tests too, GOSV_GO_RUN=PATTERN only some, and GOSV_GO_LOGS=DIR keeps what both sides said.
package gostd
