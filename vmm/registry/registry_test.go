package registry

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func open(t *testing.T) *Registry {
	t.Helper()
	t.Setenv("GOSV_HOME", filepath.Join(t.TempDir(), strings.Repeat("long", 40)))
	r, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func create(t *testing.T, r *Registry, rec Record) *Machine {
	t.Helper()
	m, err := r.Create(rec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestLife(t *testing.T) {
	r := open(t)
	if list, err := r.List(); len(list) != 0 || err != nil {
		t.Errorf("at first: %v, %v", list, err)
	}
	m := create(t, r, Record{Name: "web", Command: []string{"/usr/sbin/nginx", "-g"}})
	for _, key := range []string{"web", m.ID, m.ID[:5]} {
		found, err := r.Find(key)
		if err != nil || found.ID != m.ID || !found.Running() || found.PID != os.Getpid() {
			t.Errorf("%s: %+v, %v", key, found, err)
		}
	}
	if _, err := r.Find("no"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := r.Find(""); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	other, _ := r.Find("web")
	if err := other.Remove(); !errors.Is(err, ErrRunning) {
		t.Error(err)
	}
	ended := make(chan *Machine)
	go func() {
		now, err := r.Wait(other, nil)
		if err != nil {
			t.Error(err)
		}
		ended <- now
	}()
	m.Status, m.Finished = 3, time.Now()
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if now := <-ended; now.Status != 3 || now.Running() || now.Finished.IsZero() {
		t.Errorf("%+v", now)
	}
	if err := other.Remove(); err != nil {
		t.Error(err)
	}
	if list, _ := r.List(); len(list) != 0 {
		t.Error("it is still there")
	}
}

func TestNames(t *testing.T) {
	r := open(t)
	m := create(t, r, Record{Command: []string{"/bin/l s€"}})
	if m.Name != "l-s-"+m.ID[:4] {
		t.Errorf("name %q", m.Name)
	}
	create(t, r, Record{Name: "a"})
	if _, err := r.Create(Record{Name: "a"}); !errors.Is(err, ErrNameTaken) {
		t.Error(err)
	}
	for _, bad := range []string{"-a", "../a", "a/b", "a b", strings.Repeat("a", 101)} {
		if _, err := r.Create(Record{Name: bad}); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTransientIsForgotten(t *testing.T) {
	r := open(t)
	m := create(t, r, Record{Transient: true})
	m.Close() // as when its process is killed
	if list, _ := r.List(); len(list) != 0 {
		t.Error("it is still there")
	}
	if _, err := os.Stat(m.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// The lock goes with the process, however that ends.
func TestKilledProcess(t *testing.T) {
	r := open(t)
	m := create(t, r, Record{Name: "a"})
	m.Close()
	holder := exec.Command("flock", m.path("lock"), "sleep", "100")
	holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := holder.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		syscall.Kill(-holder.Process.Pid, syscall.SIGKILL) // its sleep, too
		holder.Wait()
	}()
	for i := 0; ; i++ {
		if found, err := r.Find("a"); err == nil && found.Running() {
			break
		}
		if i == 10000 {
			t.Fatal("the lock is not seen")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestSocketBelowALongPath(t *testing.T) {
	r := open(t)
	m := create(t, r, Record{})
	l, err := m.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	found, _ := r.Find(m.ID)
	conn, err := found.Dial()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(conn); string(b) != "hello" {
		t.Errorf("%q", b)
	}
}

func text(t *testing.T, m *Machine, follow bool) string {
	t.Helper()
	var b strings.Builder
	err := m.ReadLog(follow, nil, func(l *Line) error {
		b.WriteString(l.Stream[3:] + ":")
		b.Write(l.Content())
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

func TestLog(t *testing.T) {
	r := open(t)
	m := create(t, r, Record{})
	if s := text(t, m, false); s != "" {
		t.Errorf("%q", s)
	}
	l, err := m.OpenLog()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(l.Writer("stdout"), "a\nb")
	io.WriteString(l.Writer("stderr"), "\xff\x00\n")
	const want = "out:a\nout:berr:\xff\x00\n"
	if s := text(t, m, false); s != want {
		t.Errorf("%q", s)
	}
	followed := make(chan string)
	go func() { followed <- text(t, m, true) }()
	io.WriteString(l.Writer("stdout"), "c\n")
	l.mu.Lock()
	l.size = maxLog // the next line begins a new file
	l.mu.Unlock()
	io.WriteString(l.Writer("stdout"), "d\n")
	time.Sleep(100 * time.Millisecond)
	io.WriteString(l.Writer("stdout"), "e\n")
	l.Close()
	m.Close()
	if s := <-followed; s != want+"out:c\nout:d\nout:e\n" {
		t.Errorf("%q", s)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":"x","name":"a"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Registry{t.TempDir()}
		os.Mkdir(filepath.Join(r.dir, "x"), 0o700)
		os.WriteFile(filepath.Join(r.dir, "x", "record.json"), b, 0o600)
		list, err := r.List()
		if err != nil || len(list) > 1 || len(list) == 1 && list[0].ID != "x" {
			t.Errorf("%v, %v", list, err)
		}
	})
}
