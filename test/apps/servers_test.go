package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A server is a line of servers.txt.
type server struct {
	name   string
	memory string // MiB
	ports  []string
}

func servers() (list []server, err error) {
	b, err := os.ReadFile("servers.txt")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) == 0 || w[0][0] == '#' {
			continue
		}
		if len(w) < 4 {
			return nil, fmt.Errorf("servers.txt: too few words in %q", line)
		}
		list = append(list, server{w[0], w[1], strings.Split(w[2], ",")})
	}
	return list, nil
}

const serverLimit = 5 * time.Minute

// Servers that are built from their own modules, pinned: name, module, path of the command in it.
var modules = [][3]string{
	{"caddy", "github.com/caddyserver/caddy/v2@v2.10.0", "/cmd/caddy"},
	{"etcd", "go.etcd.io/etcd/server/v3@v3.6.4", ""},
}

// debianSystem makes the Debian system, or skips the test without GOSV_APPS.
func debianSystem(t *testing.T) *debian {
	root := os.Getenv("GOSV_APPS")
	if root == "" {
		t.Skip("GOSV_APPS is not set: make test-apps runs the applications")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("./mkroot", root).CombinedOutput(); err != nil {
		t.Fatalf("mkroot: %v\n%s", err, out)
	}
	d, err := open(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// build builds Go programs into the Debian system's /apps.
func (d *debian) build(t *testing.T) {
	dir := filepath.Join(d.dir, "apps")
	c := exec.Command("go", "build", "-o", filepath.Join(dir, "http2"), "./http2")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building http2: %v\n%s", err, out)
	}
	for _, m := range modules {
		to := filepath.Join(dir, m[0])
		if _, err := os.Stat(to); err == nil {
			continue
		}
		path, _, _ := strings.Cut(m[1], "@")
		c := exec.Command("sh", "-ec", `go mod init x; go get "$0"; go build -o "$1" "$2"`, m[1], to, path+m[2])
		c.Dir, c.Env = t.TempDir(), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("building %s: %v\n%s", m[1], err, out)
		}
	}
}

// TestAppsServers starts servers of Debian in machines, and has their own clients ask them from this one.
func TestAppsServers(t *testing.T) {
	d := debianSystem(t)
	list, err := servers()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.place(map[string]string{"/apps/servers.sh": "servers.sh"}); err != nil {
		t.Fatal(err)
	}
	d.build(t)
	t.Setenv("GOSV_HOME", t.TempDir())
	_, keys, err := d.onLinux("ssh-keygen -q -t ed25519 -N '' -f /tmp/k && cat /tmp/k.pub /tmp/k", time.Minute)
	public, private, ok := strings.Cut(keys, "\n")
	if err != nil || !ok {
		t.Fatalf("ssh-keygen: %v, %s", err, keys)
	}
	env := []string{"PUBLIC=" + public, "PRIVATE=" + private}
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			s.onLinux(t, d, env)
			s.inVM(t, d, env)
		})
	}
}

// onLinux runs server and clients on this machine.
func (s *server) onLinux(t *testing.T, d *debian, env []string) {
	if os.Getenv("GOSV_APPS_LINUX") == "0" {
		return
	}
	for i, p := range s.ports {
		number, _, _ := strings.Cut(p, "/")
		env = append(env, fmt.Sprintf("P%d=%s", i+1, number))
	}
	line := fmt.Sprintf("bash /apps/servers.sh start %s & bash /apps/servers.sh check %[1]s 127.0.0.1", s.name)
	if status, out, err := d.onLinux(line, serverLimit, env...); status != 0 || err != nil {
		t.Errorf("on Linux: status %d, %v\n%s", status, err, out)
	}
}

// inVM runs the server in a machine and its clients here.
func (s *server) inVM(t *testing.T, d *debian, env []string) {
	if os.Getenv("GOSV_APPS_VM") == "0" {
		return
	}
	begin := time.Now()
	name := "server-" + strings.ReplaceAll(s.name, "_", "-")
	args := []string{"run", "--accel", "tcg", "-d", "--name", name, "-m", s.memory + "M", "--cpus", "2", "--root", d.dir, "-e", env[0]}
	for i, p := range s.ports {
		number, protocol, _ := strings.Cut(p, "/")
		host := freePort(t, protocol)
		env = append(env, fmt.Sprintf("P%d=%s", i+1, host))
		publish := "127.0.0.1:" + host + ":" + number
		if protocol != "" {
			publish += "/" + protocol
		}
		args = append(args, "-p", publish)
	}
	args = append(args, "bash", "/apps/servers.sh", "start", s.name)
	if out, err := gosv(t, args...); err != nil {
		t.Fatalf("gosv run: %v\n%s", err, out)
	}
	defer gosv(t, "rm", "-f", name)
	status, out, err := d.onHost("bash /apps/servers.sh check "+s.name+" 127.0.0.1", serverLimit, env...)
	if status != 0 || err != nil {
		log, _ := gosv(t, "logs", "-n", "40", name)
		t.Errorf("in the machine: status %d, %v\n%s\nthe machine's log:\n%s", status, err, out, log)
	}
	if out, err := gosv(t, "stop", name); err != nil {
		t.Errorf("gosv stop: %v\n%s", err, out)
	}
	t.Logf("%v", time.Since(begin).Round(time.Second))
}

// gosv runs the command with a limit and returns all that it put out.
func gosv(t *testing.T, args ...string) (string, error) {
	t.Helper()
	command := os.Getenv("GOSV")
	if command == "" {
		command = "../../bin/gosv"
	}
	ctx, cancel := context.WithTimeout(context.Background(), serverLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, command, args...).CombinedOutput()
	return string(out), errors.Join(err, ctx.Err())
}

// freePort returns a port of 127.0.0.1 that nobody listens on.
func freePort(t *testing.T, protocol string) string {
	t.Helper()
	var addr net.Addr
	if protocol == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		addr = c.LocalAddr()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addr = l.Addr()
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestAppsClients has curl, wget and others in a machine fetch a page from this one.
func TestAppsClients(t *testing.T) {
	d := debianSystem(t)
	if err := d.place(map[string]string{"/apps/servers.sh": "servers.sh"}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	page := bytes.Repeat([]byte("0123456789"), 100_000)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) }))
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	const gateway = "10.0.2.2" // this machine, as QEMU's user network shows it
	out, err := gosv(t, "run", "--accel", "tcg", "-m", "256M", "--root", d.dir, "-e", "P1="+port, "-e", "URL=http://"+gateway+":"+port+"/x",
		"bash", "/apps/servers.sh", "start", "clients", gateway)
	if err != nil || !strings.HasSuffix(out, "okay\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
