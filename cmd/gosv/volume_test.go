package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gosv/internal/fakeqemu"
	"gosv/vmm/registry"
)

func TestParseVolume(t *testing.T) {
	dir := t.TempDir()
	for s, want := range map[string]mount{
		"db:/data": {name: "db", guest: "/data"}, "db:/data/:ro": {name: "db", guest: "/data", readOnly: true},
		dir + ":/x": {host: dir, guest: "/x"}, ".:/x": {host: here(t), guest: "/x"}, "./testdata/..:/x:rw": {host: here(t), guest: "/x"},
		"": {}, "db": {}, "db:data": {}, ":/x": {}, "./no/such:/x": {}, "-x:/x": {},
	} {
		v, err := parseVolume(s)
		if v != want && err == nil || (err != nil) != (want == mount{}) {
			t.Errorf("%q: %+v, %v", s, v, err)
		}
	}
}

func here(t *testing.T) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// What an image says of ports, volumes and its signal comes true: -P, --volume, inspect and stop.
func TestImageIsService(t *testing.T) {
	t.Setenv("GOSV_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	fakeqemu.Install(t, fakeqemu.Talk)
	dir := root(t)
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "seed"), []byte("from the image"), 0o640); err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(filepath.Dir(dir), "gosv.yaml")
	if err := os.WriteFile(recipe, []byte("root: "+dir+"\nargs: [app]\nports: [80, 53/udp]\nvolumes: [/data]\nstop-signal: SIGQUIT\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "app.img")
	buildImage(t, "-o", image, recipe)
	must := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := gosv(t, "", args...)
		if status != 0 {
			t.Fatalf("gosv %q: status %d, %q", args, status, stderr)
		}
		return stdout
	}
	must("run", "-d", "--name", "svc", "--accel", "tcg", "--kernel", kernelFile(t), "-P", "-p", "53/udp", "--expose", "81", "-v", "kept:/data", image)
	var list []struct{ registry.Record }
	if err := json.Unmarshal([]byte(must("inspect", "svc")), &list); err != nil {
		t.Fatal(err)
	}
	m := list[0]
	if m.StopSignal != "SIGQUIT" || strings.Join(m.Exposed, " ") != "80/tcp 53/udp 81/tcp" || strings.Join(m.Volumes, " ") != "kept:/data" {
		t.Errorf("%+v", m)
	}
	if !regexp.MustCompile(`^0\.0\.0\.0:\d+->53/udp 0\.0\.0\.0:\d+->80/tcp 0\.0\.0\.0:\d+->81/tcp$`).MatchString(strings.Join(m.Ports, " ")) {
		t.Errorf("ports %q", m.Ports)
	}
	if got, want := must("ps"), strings.Join(m.Ports, ", "); !strings.Contains(got, want) {
		t.Errorf("ps: %q, want %q", got, want)
	}
	if status, _, stderr := gosv(t, "", "volume", "rm", "kept"); status == 0 || !strings.Contains(stderr, "uses the volume") {
		t.Errorf("rm of a volume in use: %d, %q", status, stderr)
	}
	must("stop", "svc")
	if got := must("logs", "svc"); !strings.Contains(got, "signal 3\n") {
		t.Errorf("stopped by %q", got)
	}
	var volumes []struct{ Mountpoint string }
	if err := json.Unmarshal([]byte(must("volume", "inspect", "kept")), &volumes); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(volumes[0].Mountpoint, "seed")); string(b) != "from the image" {
		t.Errorf("the volume has %q, %v", b, err)
	}
	if must("volume", "create", "other") != "other\n" || must("volume", "ls", "-q") != "kept\nother\n" || must("volume", "rm", "kept", "other") != "kept\nother\n" || must("volume", "ls", "-q") != "" {
		t.Error("volume create, ls, rm")
	}
	for _, test := range []struct{ flag, value, want string }{
		{"--stop-signal", "SIGNOT", "no signal"}, {"--hostname", "a b", "no host name"}, {"--expose", "http", "PORT"}, {"-v", "volume.go:/x", "./volume.go"},
	} {
		if status, _, stderr := gosv(t, "", "run", "--accel", "tcg", "--kernel", kernelFile(t), test.flag, test.value, image); status != 125 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s %s: %d, %q", test.flag, test.value, status, stderr)
		}
	}
}
