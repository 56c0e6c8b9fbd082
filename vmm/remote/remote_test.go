package remote

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

type handler struct{ did chan string }

func (h handler) Signal(n syscall.Signal) { h.did <- "signal " + n.String() }
func (h handler) Kill()                   { h.did <- "kill" }
func (h handler) Exec(conn net.Conn)      { io.Copy(conn, conn); conn.Close() }

func TestRequests(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := handler{make(chan string, 2)}
	go Serve(l, h)
	dial := func() *net.UnixConn {
		conn, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		return conn.(*net.UnixConn)
	}
	if err := Signal(dial(), syscall.SIGHUP); err != nil || <-h.did != "signal hangup" {
		t.Error(err)
	}
	if err := Kill(dial()); err != nil || <-h.did != "kill" {
		t.Error(err)
	}
	if err := Signal(dial(), 65); err == nil || !strings.Contains(err.Error(), "65") {
		t.Error(err)
	}
	conn := dial()
	if err := Exec(conn); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "echo")
	conn.CloseWrite()
	if b, _ := io.ReadAll(conn); string(b) != "echo" {
		t.Errorf("%q", b)
	}
	for _, bad := range []string{"nonsense\n", `{"op":"reboot"}` + "\n", strings.Repeat("x", 5000) + "\n"} {
		conn := dial()
		io.WriteString(conn, bad)
		if b, _ := io.ReadAll(conn); !strings.Contains(string(b), "error") {
			t.Errorf("%.20q: %q", bad, b)
		}
	}
}
