package main

import (
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"one.go:1: bad\n"}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"fine\n"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"--- FAIL: TestOne (0.00s)\n"}
{"Action":"fail","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"    --- PASS: TestTwo (0.00s)\n"}
{"Action":"pass","Package":"a","Test":"TestTwo"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
words of the go command
{"ImportPath":"b","Action":"build-output","Output":"b.go:1: syntax error\n"}
{"Action":"output","Package":"b","Output":"FAIL\tb [build failed]\n"}
{"Action":"fail","Package":"b"}
{"Action":"output","Package":"c","Output":"PASS\n"}
{"Action":"output","Package":"c","Output":"ok  \tc\t0.1s\n"}
{"Action":"pass","Package":"c"}
`

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		verbose bool
		tests   string
	}{{false, ""}, {true, "one.go:1: bad\nfine\n--- FAIL: TestOne (0.00s)\n"}} {
		var w strings.Builder
		failed := follow(strings.NewReader(events), &w, c.verbose)
		want := c.tests + "FAIL\ta\t0.1s\nwords of the go command\nb.go:1: syntax error\nFAIL\tb [build failed]\nok  \tc\t0.1s\n"
		if w.String() != want {
			t.Errorf("verbose %v: printed\n%swant\n%s", c.verbose, w.String(), want)
		}
		if len(failed) != 2 || failed[0].name != "a TestOne" || !strings.Contains(failed[0].output, "one.go:1: bad\n--- FAIL") || failed[1].name != "b " {
			t.Errorf("failures: %q", failed)
		}
	}
}

// TestCrash: when a package's process dies, what the test that ran then printed is told.
func TestCrash(t *testing.T) {
	const crash = `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"--- PASS: TestOne (0.00s)\n"}
{"Action":"pass","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestTwo"}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"=== RUN   TestTwo\n"}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"fatal error: fault\n"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
`
	var w strings.Builder
	failed := follow(strings.NewReader(crash), &w, false)
	if len(failed) != 2 || failed[0].name != "a TestTwo" || !strings.Contains(failed[0].output, "fatal error: fault\n") || failed[1].name != "a " {
		t.Errorf("failures: %q", failed)
	}
}
