package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Memory that a program gave back leaves QEMU's process, and comes back when it is used; and the host gets what it asks for
// by QMP, and gives it back.
func TestBalloon(t *testing.T) {
	for _, machine := range []string{"microvm", "q35"} {
		t.Run(machine, func(t *testing.T) { testBalloon(t, machine) })
	}
}

func testBalloon(t *testing.T, machine string) {
	t.Parallel()
	slots <- struct{}{}
	defer func() { <-slots }()
	const memory, used = 384, 200 // MiB
	qmp := filepath.Join(shortDir(t), "qmp")
	c := exec.Command(gosv, "run", "--accel", "tcg", "--machine", machine, "--timeout", "3m", "-m", fmt.Sprint(memory, "M"), "--net", "none", "--qemu-arg", "-qmp", "--qemu-arg", "unix:"+qmp+",server=on,wait=off",
		filepath.Join(guestDir, "balloon.static"), strconv.Itoa(used))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	say := func(word string) string {
		t.Helper()
		fmt.Fprintln(in, word)
		if !lines.Scan() {
			t.Fatalf("%s: the program ended: %v", word, c.Wait())
		}
		return lines.Text()
	}
	free := func() int {
		n, _ := strconv.Atoi(strings.Fields(say("free"))[0])
		return n
	}
	say("use")
	full := resident(t, c.Process.Pid)
	say("drop")
	within(t, "QEMU has as much memory as before", func() bool { return resident(t, c.Process.Pid) < full-used*3/4 })
	say("use")
	say("drop")

	host := openQMP(t, qmp)
	before := free()
	host.balloon(t, memory-used)
	if got := free(); got > before-used+16 {
		t.Errorf("%d MiB are free in the machine, %d were", got, before)
	}
	host.balloon(t, memory)
	if got := free(); got < before-16 {
		t.Errorf("%d MiB are free in the machine, %d were", got, before)
	}
	say("use")
	say("drop")
	in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// shortDir is a folder whose name leaves room for that of a socket.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "gosv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// resident is the memory of gosv's QEMU in MiB.
func resident(t *testing.T, gosv int) int {
	t.Helper()
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", gosv))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range children {
		b, _ := os.ReadFile(name) // a thread may have ended
		for _, pid := range strings.Fields(string(b)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok && strings.HasPrefix(string(status), "Name:\tqemu") {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				return n >> 10
			}
		}
	}
	t.Fatal("gosv has no QEMU")
	return 0
}

// A monitor is a connection by the QEMU Machine Protocol.
type monitor struct {
	conn net.Conn
	in   *json.Decoder
}

func openQMP(t *testing.T, path string) *monitor {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &monitor{conn, json.NewDecoder(conn)}
	m.do(t, "qmp_capabilities", nil, nil)
	return m
}

func (m *monitor) do(t *testing.T, command string, arguments map[string]any, result any) {
	t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		t.Fatal(err)
	}
	for { // past the greeting and events
		var answer struct{ Return, Error json.RawMessage }
		if err := m.in.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if answer.Error != nil {
			t.Fatalf("%s: %s", command, answer.Error)
		}
		if answer.Return != nil {
			if result != nil {
				if err := json.Unmarshal(answer.Return, result); err != nil {
					t.Fatal(err)
				}
			}
			return
		}
	}
}

// balloon asks for the machine to have so many MiB, and waits until it has.
func (m *monitor) balloon(t *testing.T, size int64) {
	t.Helper()
	m.do(t, "balloon", map[string]any{"value": size << 20}, nil)
	var has struct{ Actual int64 }
	within(t, "the machine did not follow", func() bool {
		m.do(t, "query-balloon", nil, &has)
		return has.Actual == size<<20
	})
}
