package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const full = `# everything
program: ./server
args: [--port, 80, ""]
env:
  A: b
  N: 1
files:
  /etc/server.conf: ./server.conf
  /srv: /var/www
workdir: /srv
user: www-data
hostname: web
memory: 256M
cpus: 2
ports: [80, 53/udp]
volumes: [/var/lib/server/]
read-only: true
stop-signal: SIGQUIT
`

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "gosv.yaml")
	if err := os.WriteFile(name, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(name)
	got := strings.ReplaceAll(fmt.Sprintf("%v", *r), dir, "DIR")
	const want = "{DIR/server    [--port 80 ] [{/etc/server.conf DIR/server.conf 8} {/srv /var/www 9}] " +
		"{[] [] [A=b N=1] /srv www-data web 256M 2 [80/tcp 53/udp] [/var/lib/server] true [] SIGQUIT}}"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "1: the file is empty",
		"program: a\nprot: 1":                   `2: unknown key "prot"`,
		"program: a\n\nprogram: b":              `3: "program" is there twice`,
		"args: [x]":                             "1: say one of program, image and root",
		"program: a\nroot: b\nargs: [x]":        "1: say one of",
		"root: b":                               "1: with root, args say what runs",
		"- a":                                   "1: want lines of the form",
		"program: [a]":                          "1: want a text",
		"program:":                              "1: want a text",
		"program: a\ncpus: many":                "2: want a number from 1 to 255",
		"program: a\ncpus: 0":                   "2: want a number from 1 to 255",
		"program: a\nmemory: 12":                `2: "12" is not a size like 256M`,
		"program: a\nread-only: yes":            "2: want true or false",
		"program: a\nports: [99999]":            "2: want a port",
		"program: a\nports: [80/sctp]":          "2: want a port",
		"program: a\nfiles:\n  x: y":            `3: "x" is no absolute path`,
		"program: a\nenv: [x]":                  `2: "x" is not KEY=VALUE`,
		"program: a\nenv: {a b: c}":             `2: "a b" is no name`,
		"program: a\nworkdir: x":                `2: "x" is no absolute path`,
		"program: a\nstop-signal: SIGNOT":       `2: "SIGNOT" is no signal`,
		"program: a\nhostname: a b":             `2: "a b" is no host name`,
		"program: a\n---\nmemory: 1G":           "2: a second document",
		"program: a\n---\n- [":                  "3: ",
		"program: a\nenv: [A=1, B=2, A=3]":      `2: "A" is there twice`,
		"program: a\nvolumes: [/a/..]":          "2: the root cannot be a volume",
		"program: a\nargs: x":                   "2: want a list",
		"program: a\n  args: x":                 "2: ",
		"program: &a x\nhostname: *a":           "2: want a text",
		"program: \"a\\0b\"":                    "1: want a text",
		"program: a\nargs: [" + "[[[[[[[[[[]]]": "1: ",
		strings.Repeat("#", maxSize+1):          "1: more than",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse reads foreign recipes: what is taken is complete.
func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("image: a.tar\ntag: x\nenv: [A=b]")
	f.Add("program: &a x\nargs: [*a, {b: c}]")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(strings.NewReader(text))
		if err != nil {
			if number, _, ok := strings.Cut(err.Error(), ":"); !ok || strings.Trim(number, "0123456789") != "" {
				t.Errorf("no line in %q", err)
			}
			return
		}
		if r.Program == "" && r.Image == "" && r.Root == "" {
			t.Error("nothing to run")
		}
		for _, file := range r.Files {
			if !filepath.IsAbs(file.Guest) || file.Host == "" {
				t.Errorf("%+v", file)
			}
		}
	})
}
