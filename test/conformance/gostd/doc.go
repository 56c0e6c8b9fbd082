// Package gostd runs the tests of Go's standard library that ask most of a kernel, on Linux and then in a virtual
// machine, and compares test by test. known-differences.txt has the differences, with reasons; it only
// shrinks.
package gostd
