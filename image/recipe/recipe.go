// Package recipe reads gosv.yaml, which says what goes into an image and how it
// runs.
//
// It is strict: a key that is unknown or there twice, a value of the wrong kind
// or an alias is an error, with its line.
package recipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"gosv/image/spec"
)

// Recipe is what a file says. Names of host files are relative to its folder.
type Recipe struct {
	Program string // one of these three is there
	Image   string
	Root    string

	Tag   string   // of Image
	Args  []string // of the program
	Files []File
	Spec  spec.Image // the rest; Cmd is not set
}

// File is a file or folder to add.
type File struct {
	Guest string
	Host  string
	Line  int
}

// maxSize bounds a recipe, in bytes.
const maxSize = 1 << 20

// Read reads the recipe in a file.
func Read(name string) (*Recipe, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	dir := filepath.Dir(name)
	for _, p := range []*string{&r.Program, &r.Image, &r.Root} {
		// A program without a slash is looked for in PATH.
		if *p != "" && !filepath.IsAbs(*p) && (p != &r.Program || strings.Contains(*p, "/")) {
			*p = filepath.Join(dir, *p)
		}
	}
	for i := range r.Files {
		if !filepath.IsAbs(r.Files[i].Host) {
			r.Files[i].Host = filepath.Join(dir, r.Files[i].Host)
		}
	}
	return r, nil
}

// Parse reads a recipe. Its errors begin with the line.
func Parse(in io.Reader) (*Recipe, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("1: more than %d bytes", maxSize)
	}
	var doc, more yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(b))
	if err := documents.Decode(&doc); err != nil && err != io.EOF {
		return nil, yamlError(err)
	}
	if err := documents.Decode(&more); err == nil {
		return nil, fmt.Errorf("%d: a second document", more.Line)
	} else if err != io.EOF {
		return nil, yamlError(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("1: the file is empty")
	}
	top := doc.Content[0]
	r := &Recipe{}
	p := &parser{}
	p.mapping(top, func(key string, k, v *yaml.Node) {
		set := keys[key]
		if set == nil {
			p.fail(k, "unknown key %q; there are: %s", key, strings.Join(known(), ", "))
			return
		}
		set(p, r, v)
	})
	if p.err != nil {
		return nil, p.err
	}
	count := 0
	for _, s := range []string{r.Program, r.Image, r.Root} {
		if s != "" {
			count++
		}
	}
	if count != 1 {
		return nil, fmt.Errorf("%d: say one of program, image and root", top.Line)
	}
	if r.Root != "" && len(r.Args) == 0 {
		return nil, fmt.Errorf("%d: with root, args say what runs: the program in it, and its arguments", top.Line)
	}
	return r, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\n  )?line (\d+): (.*)`)

// yamlError gives a syntax error the form of the others.
func yamlError(err error) error {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s: %s", m[1], m[2])
	}
	return fmt.Errorf("1: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

func known() []string {
	var list []string
	for key := range keys {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

var keys = map[string]func(*parser, *Recipe, *yaml.Node){
	"program":  func(p *parser, r *Recipe, v *yaml.Node) { r.Program = p.text(v) },
	"image":    func(p *parser, r *Recipe, v *yaml.Node) { r.Image = p.text(v) },
	"root":     func(p *parser, r *Recipe, v *yaml.Node) { r.Root = p.text(v) },
	"tag":      func(p *parser, r *Recipe, v *yaml.Node) { r.Tag = p.text(v) },
	"args":     func(p *parser, r *Recipe, v *yaml.Node) { r.Args = p.list(v) },
	"workdir":  func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.WorkDir = p.absolute(v) },
	"user":     func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.User = p.text(v) },
	"hostname": func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.Hostname = p.valid(v, spec.Hostname) },
	"memory":   func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.Memory = p.match(v, sizes, "a size like 256M") },
	"cpus":     func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.CPUs = p.number(v, 1, 255) },
	"read-only": func(p *parser, r *Recipe, v *yaml.Node) {
		r.Spec.ReadOnly = p.truth(v)
	},
	"stop-signal": func(p *parser, r *Recipe, v *yaml.Node) {
		r.Spec.StopSignal = p.valid(v, func(s string) error { _, err := spec.Signal(s); return err })
	},
	"env": func(p *parser, r *Recipe, v *yaml.Node) { r.Spec.Env = p.env(v) },
	"ports": func(p *parser, r *Recipe, v *yaml.Node) {
		p.each(v, func(v *yaml.Node) { r.Spec.Ports = append(r.Spec.Ports, p.port(v)) })
	},
	"volumes": func(p *parser, r *Recipe, v *yaml.Node) {
		p.each(v, func(v *yaml.Node) { r.Spec.Volumes = append(r.Spec.Volumes, p.volume(v)) })
	},
	"files": func(p *parser, r *Recipe, v *yaml.Node) {
		p.mapping(v, func(guest string, k, v *yaml.Node) {
			r.Files = append(r.Files, File{Guest: p.absolute(k), Host: p.text(v), Line: k.Line})
		})
	},
}

var (
	sizes = regexp.MustCompile(`^[1-9][0-9]{0,12}[KMGkmg]$`)
	names = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%d: %s", n.Line, fmt.Sprintf(format, args...))
	}
}

func (p *parser) mapping(n *yaml.Node, each func(key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.fail(n, "want lines of the form key: value")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content) && p.err == nil; i += 2 {
		key := p.text(n.Content[i])
		if seen[key] {
			p.fail(n.Content[i], "%q is there twice", key)
			return
		}
		seen[key] = true
		each(key, n.Content[i], n.Content[i+1])
	}
}

func (p *parser) each(n *yaml.Node, each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		p.fail(n, "want a list")
		return
	}
	for _, v := range n.Content {
		each(v)
	}
}

func (p *parser) list(n *yaml.Node) (list []string) {
	p.each(n, func(v *yaml.Node) { list = append(list, p.scalar(v)) })
	return list
}

// scalar is any plain value, as it is written.
func (p *parser) scalar(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.IndexByte(n.Value, 0) >= 0 {
		p.fail(n, "want a text")
		return ""
	}
	return n.Value
}

func (p *parser) text(n *yaml.Node) string {
	s := p.scalar(n)
	if s == "" {
		p.fail(n, "want a text")
	}
	return s
}

func (p *parser) match(n *yaml.Node, re *regexp.Regexp, what string) string {
	s := p.scalar(n)
	if !re.MatchString(s) {
		p.fail(n, "%q is not %s", s, what)
	}
	return s
}

func (p *parser) valid(n *yaml.Node, check func(string) error) string {
	s := p.text(n)
	if err := check(s); err != nil {
		p.fail(n, "%v", err)
	}
	return s
}

func (p *parser) absolute(n *yaml.Node) string {
	s := p.scalar(n)
	if !path.IsAbs(s) {
		p.fail(n, "%q is no absolute path", s)
	}
	return path.Clean(s)
}

func (p *parser) volume(n *yaml.Node) string {
	s := p.absolute(n)
	if s == "/" {
		p.fail(n, "the root cannot be a volume")
	}
	return s
}

func (p *parser) number(n *yaml.Node, least, most int) int {
	v, err := strconv.Atoi(p.scalar(n))
	if err != nil || v < least || v > most {
		p.fail(n, "want a number from %d to %d", least, most)
	}
	return v
}

func (p *parser) truth(n *yaml.Node) bool {
	s := p.scalar(n)
	if s != "true" && s != "false" {
		p.fail(n, "want true or false")
	}
	return s == "true"
}

// port is NUMBER, NUMBER/tcp or NUMBER/udp.
func (p *parser) port(n *yaml.Node) string {
	number, protocol, ok := strings.Cut(p.scalar(n), "/")
	if !ok {
		protocol = "tcp"
	}
	v, err := strconv.Atoi(number)
	if err != nil || v < 1 || v > 65535 || protocol != "tcp" && protocol != "udp" {
		p.fail(n, "want a port from 1 to 65535, with /tcp or /udp")
	}
	return strconv.Itoa(v) + "/" + protocol
}

// env is a list of KEY=VALUE, or lines KEY: VALUE.
func (p *parser) env(n *yaml.Node) (list []string) {
	if n.Kind == yaml.SequenceNode {
		seen := map[string]bool{}
		p.each(n, func(v *yaml.Node) {
			s := p.scalar(v)
			key, _, ok := strings.Cut(s, "=")
			if !ok || !names.MatchString(key) {
				p.fail(v, "%q is not KEY=VALUE", s)
			}
			if seen[key] {
				p.fail(v, "%q is there twice", key)
			}
			seen[key] = true
			list = append(list, s)
		})
		return list
	}
	p.mapping(n, func(key string, k, v *yaml.Node) {
		if !names.MatchString(key) {
			p.fail(k, "%q is no name for a variable", key)
		}
		list = append(list, key+"="+p.scalar(v))
	})
	return list
}
