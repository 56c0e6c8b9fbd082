package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build makes an image and returns its file.
func build(t *testing.T, name string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if b, err := exec.Command(gosv, append([]string{"build", "-o", out}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("gosv build %q: %v\n%s", args, err, b)
	}
	return out
}

// runImage runs an image by gosv run.
func runImage(t *testing.T, image string, flags []string, args ...string) outcome {
	t.Helper()
	return run(t, job{program: image, args: args, flags: flags}, small)
}

// bootAlone boots an image with nothing but QEMU and its firmware; what the program
// writes comes by the serial port.
func bootAlone(t *testing.T, image string, machine ...string) string {
	t.Helper()
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args := append([]string{"-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"}, machine...)
	format := "raw"
	if strings.HasSuffix(image, ".qcow2") {
		format = "qcow2"
	}
	args = append(args, "-drive", "snapshot=on,if=virtio,format="+format+",file="+image)
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%q", machine, err, out)
	}
	return strings.ReplaceAll(string(out), "\r", "")
}

// An image of hello does what hello does: by gosv run, and alone on BIOS and UEFI.
func TestImageBoots(t *testing.T) {
	hello := filepath.Join(guestDir, "hello.dyn")
	want, err := onLinux(job{program: hello})
	if err != nil {
		t.Fatal(err)
	}
	raw, qcow2, small := build(t, "hello.img", hello), build(t, "hello.qcow2", hello), build(t, "lz4.img", "--compress", "--read-only", hello)
	for _, image := range []string{raw, qcow2, small} {
		if o := runImage(t, image, nil); o.status != want.status || o.stdout != want.stdout {
			t.Errorf("%s: %v, on Linux %v", filepath.Base(image), o, want)
		}
	}
	ovmf := "/usr/share/ovmf/OVMF.fd"
	for _, test := range []struct {
		name, image string
		machine     []string
	}{{"BIOS, q35", qcow2, []string{"-M", "q35"}}, {"BIOS, pc", raw, []string{"-M", "pc"}}, {"UEFI", small, []string{"-M", "q35", "-bios", ovmf}}} {
		t.Run(test.name, func(t *testing.T) {
			if got := bootAlone(t, test.image, test.machine...); !strings.HasSuffix(got, want.stdout) {
				t.Errorf("%q, on Linux %q", got, want.stdout)
			}
		})
	}
	a, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(build(t, "again.img", hello)); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the same program gave two images, %v", err)
	}
}

// tarOf makes a tar archive of a folder, or of files made up here: "d" is a folder.
func tarOf(t *testing.T, dir string, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if dir != "" {
		if err := w.AddFS(os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		h := &tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1])), Typeflag: tar.TypeReg}
		if f[1] == "d" {
			h.Typeflag, h.Size, h.Mode = tar.TypeDir, 0, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, f[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dockerArchive writes layers and a configuration as `docker save` does.
func dockerArchive(t *testing.T, config map[string]any, layers ...[]byte) string {
	t.Helper()
	var ids, names []string
	var files [][2]string
	for i, l := range layers {
		ids = append(ids, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		names = append(names, fmt.Sprintf("layer%d.tar", i))
		files = append(files, [2]string{names[i], string(l)})
	}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	files = append(files, [2]string{"config.json", encode(map[string]any{"os": "linux", "architecture": "amd64", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}})},
		[2]string{"manifest.json", encode([]map[string]any{{"Config": "config.json", "RepoTags": []string{"app:1"}, "Layers": names}})})
	name := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(name, tarOf(t, "", files...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A container image of three layers runs as its configuration says, straight from the
// archive and built into an image.
func TestContainerImage(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if out, err := exec.Command(gosv, "image", "extract", build(t, "bash.img", "/bin/bash"), base).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	script := `echo "$GREETING $0 $*"; pwd; echo $UID $HOME; echo /etc/h* /data/*; read x </data/file; echo $x; echo new >written && echo kept $(<written)`
	archive := dockerArchive(t, map[string]any{"Entrypoint": []string{"bash", "-c", script, "name"}, "Cmd": []string{"a", "b c"}, "Env": []string{"GREETING=hello", "PATH=/bin:/usr/bin"},
		"User": "web", "WorkingDir": "/data/sub"},
		tarOf(t, base),
		tarOf(t, "", [2]string{"etc/passwd", "root:x:0:0::/root:\nweb:x:33:34::/srv:\n"}, [2]string{"data/", "d"}, [2]string{"data/file", "old"}, [2]string{"data/gone", "x"}),
		tarOf(t, "", [2]string{"data/file", "new"}, [2]string{"data/.wh.gone", ""}, [2]string{"data/sub/", "d"}, [2]string{"etc/.wh.hosts", ""}))
	const want = "hello name a b c\n/data/sub\n33 /srv\n/etc/hostname /data/file /data/sub\nnew\nkept new\n"
	image := build(t, "app.img", archive)
	for _, what := range []string{archive, image} {
		if o := runImage(t, what, nil); o.status != 0 || o.stdout != want {
			t.Errorf("%s: %v", filepath.Base(what), o)
		}
	}
	if o := runImage(t, image, []string{"-e", "GREETING=bye", "-u", "0", "-w", "/", "--read-only"}, "x"); !strings.HasPrefix(o.stdout, "bye name x\n/\n0 ") || !strings.Contains(o.stderr, "Read-only") {
		t.Errorf("with flags: %v", o)
	}
	if got := bootAlone(t, image, "-M", "q35"); !strings.HasSuffix(got, want) {
		t.Errorf("alone: %q", got)
	}
	shared := t.TempDir()
	if err := os.WriteFile(filepath.Join(shared, "file"), []byte("shared\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := runImage(t, image, []string{"-v", shared + ":/data", "-v", filepath.Join(shared, "file") + ":/srv/one:ro", "-w", "/"}); !strings.Contains(o.stdout, "\nshared\n") {
		t.Errorf("with volumes: %v", o)
	}
	if o := runImage(t, base, nil, "/bin/bash", "-c", "echo /e*c"); o.stdout != "/etc\n" {
		t.Errorf("folder: %v", o)
	}
}

// python3 with its standard library, from a gosv.yaml.
func TestPythonImage(t *testing.T) {
	lib, err := exec.Command("/usr/bin/python3", "-I", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'), end='')").Output()
	if err != nil {
		t.Skip("this machine has no Python:", err)
	}
	recipe := filepath.Join(t.TempDir(), "gosv.yaml")
	text := fmt.Sprintf("program: /usr/bin/python3\nargs: [-I, -c, 'import json, decimal, unicodedata, datetime; print(json.dumps([str(decimal.Decimal(1)/7), 2**100]))']\nmemory: 192M\nfiles:\n  %s: %[1]s\n", lib)
	if err := os.WriteFile(recipe, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	image := build(t, "python.img", "-f", recipe)
	if o := runImage(t, image, nil); o.status != 0 || o.stdout != "[\"0.1428571428571428571428571429\", 1267650600228229401496703205376]\n" {
		t.Error(o)
	}
}

// A program's files that are large lie on a disk, and take no memory of the machine's.
func TestLargeRoot(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, append(bytes.Repeat([]byte("0123456789abcdef"), 5<<20), "end"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		o := run(t, job{program: "/usr/bin/tail", args: []string{"-c", "5", "/big"}, flags: []string{"-m", "48M", "-v", big + ":/big"}}, small)
		if o.status != 0 || o.stdout != "efend" {
			t.Error(o)
		}
	}
}

// A verified image runs, and not any more when a byte of it is changed.
func TestVerifiedImage(t *testing.T) {
	hello := filepath.Join(guestDir, "hello.static")
	image := filepath.Join(t.TempDir(), "hello.img")
	out, err := exec.Command(gosv, "build", "--verity", "-o", image, hello).CombinedOutput()
	_, rest, ok := strings.Cut(string(out), "root hash: ")
	if err != nil || !ok {
		t.Fatalf("%v\n%s", err, out)
	}
	hash, _, _ := strings.Cut(rest, "\n")
	if o := runImage(t, image, []string{"--verity", hash}); o.status != 0 || !strings.HasPrefix(o.stdout, "hello") {
		t.Error(o)
	}
	if o := runImage(t, image, []string{"--verity", strings.Repeat("0", 64)}); o.status != 125 || !strings.Contains(o.stderr, "has not the root hash") {
		t.Error(o)
	}
	if got := bootAlone(t, image, "-M", "q35"); !strings.Contains(got, "hello") {
		t.Errorf("alone: %q", got)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("hello from user space"))
	if at < 0 {
		t.Fatal("the image does not hold the program as it is")
	}
	b[at] ^= 1
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := runImage(t, image, nil); o.status == 0 || strings.Contains(o.stdout, "from user space") {
		t.Errorf("a changed image runs: %v", o)
	}
}

// nginx of a whole Debian root, built into an image, serves a page to this machine.
func TestNginxImage(t *testing.T) {
	root := os.Getenv("GOSV_APPS")
	page, err := os.ReadFile(filepath.Join(root, "var/www/html/index.nginx-debian.html"))
	if err != nil || root == "" {
		t.Skip("GOSV_APPS names no Debian root with nginx in it:", err)
	}
	image := build(t, "nginx.img", "-m", "256M", root, "/usr/sbin/nginx", "-g", "daemon off;")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	slots <- struct{}{}
	defer func() { <-slots }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, gosv, "run", "--accel", "tcg", "-p", address+":80", image)
	c.Stdout, c.Stderr = &out, &out
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second}
	var got []byte
	for ctx.Err() == nil && len(got) == 0 {
		time.Sleep(200 * time.Millisecond)
		if r, err := client.Get("http://" + address + "/index.nginx-debian.html"); err == nil {
			got, _ = io.ReadAll(r.Body)
			r.Body.Close()
		}
	}
	cancel()
	_ = c.Wait() // it was interrupted
	if !bytes.Equal(got, page) {
		t.Errorf("%d bytes of %d\n%s", len(got), len(page), out.String())
	}
}

// A named volume begins with what the image has at its place, and keeps what machines write; with a read-only root each of the
// image's volumes can be written all the same.
func TestVolumes(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	base := filepath.Join(t.TempDir(), "base")
	if out, err := exec.Command(gosv, "image", "extract", build(t, "bash.img", "/bin/bash"), base).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	script := `echo /data/* /empty/*; read x </data/file; echo $x; echo "$x+" >/data/file; echo >/data/new; echo >/empty/new; echo $?`
	archive := dockerArchive(t, map[string]any{"Entrypoint": []string{"bash", "-c", script}, "Env": []string{"PATH=/bin:/usr/bin"}, "Volumes": map[string]any{"/data": struct{}{}, "/empty": struct{}{}}},
		tarOf(t, base), tarOf(t, "", [2]string{"data/file", "image"}))
	for _, test := range []struct {
		flags []string
		want  string
	}{
		{[]string{"-v", "kept:/data"}, "/data/file /empty/*\nimage\n0\n"}, {[]string{"--read-only", "-v", "kept:/data"}, "/data/file /data/new /empty/*\nimage+\n0\n"},
		{[]string{"--read-only"}, "/data/file /empty/*\nimage\n0\n"}, {nil, "/data/file /empty/*\nimage\n0\n"},
	} {
		if o := runImage(t, archive, test.flags); o.status != 0 || o.stdout != test.want {
			t.Errorf("%v: %v", test.flags, o)
		}
	}
	if out, err := exec.Command(gosv, "volume", "ls", "-q").CombinedOutput(); err != nil || string(out) != "kept\n" {
		t.Errorf("volumes afterwards: %v, %q", err, out)
	}
}
