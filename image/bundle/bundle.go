// Package bundle puts together what goes into an image, from whatever it is made
// of: a program of this machine, a folder, a container image, or a gosv.yaml.
//
// Nothing is added that was not asked for, but for the libraries of programs,
// what those need in /etc, and empty directories to mount on.
package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gosv/image/elfdeps"
	"gosv/image/oci"
	"gosv/image/recipe"
	"gosv/image/rootfs"
	"gosv/image/spec"
)

// Options say how a Bundle is made.
type Options struct {
	Tag   string       // which image of an archive; "" for the only one
	Epoch *time.Time   // no file is younger; nil: files keep their times
	Warn  func(string) // takes what the user should know
	Path  []string     // where programs that scripts name are looked for
	Limit int64        // bytes that an image's files may have; 0 for oci.DefaultLimit

	Progress func(int64) // takes how many bytes of a container image are unpacked; may be nil
}

// Bundle is what goes into an image.
type Bundle struct {
	Tree *rootfs.Tree
	Spec *spec.Image

	temp *os.File // contents of files from archives
}

// Close frees what the contents of files are read from.
func (b *Bundle) Close() {
	if b.temp != nil {
		b.temp.Close()
	}
}

// Kind is what a Bundle is made of.
type Kind int

// Kinds of sources.
const (
	Program Kind = iota
	Folder
	Archive
	Recipe
)

// KindOf says what a source is, by what is there under its name.
func KindOf(name string) Kind {
	ext := filepath.Ext(name)
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return Program
	case oci.Is(name):
		return Archive
	case st.IsDir():
		return Folder
	case ext == ".yaml" || ext == ".yml":
		return Recipe
	}
	return Program
}

// Open makes a Bundle of a program (an absolute path), a folder, an archive or a
// recipe. args are arguments for the program; for a folder the program comes
// first.
func Open(kind Kind, name string, args []string, o Options) (*Bundle, error) {
	b := &Bundle{Spec: &spec.Image{}}
	err := b.open(kind, name, args, o)
	if err == nil {
		err = b.mountPoints()
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	b.Spec.Scratch = b.Tree.Scratch(append([]string{"/tmp", "/run"}, b.Spec.Volumes...)...)
	return b, nil
}

func (b *Bundle) open(kind Kind, name string, args []string, o Options) error {
	switch kind {
	case Folder:
		return b.folder(name, args, o)
	case Archive:
		if err := b.archive(name, o); err != nil {
			return err
		}
		if len(args) > 0 {
			b.Spec.Cmd = args
		}
		return nil
	case Recipe:
		return b.recipe(name, args, o)
	}
	b.Tree = rootfs.New(rootfs.Options{Made: made(o.Epoch), Newest: o.Epoch})
	return b.program(name, args, o)
}

// made is the time of what no source gives one: always the same.
func made(epoch *time.Time) time.Time {
	if epoch != nil {
		return *epoch
	}
	return time.Unix(0, 0)
}

// program adds a program of this machine with its libraries.
func (b *Bundle) program(name string, args []string, o Options) error {
	finder := &elfdeps.Finder{SearchPath: o.Path}
	closure, err := b.Tree.Program(finder, name)
	if err != nil {
		return err
	}
	b.Spec.Entrypoint, b.Spec.Cmd = []string{name}, args
	hostname := b.Spec.Hostname
	if hostname == "" {
		hostname = "gosv"
	}
	return errors.Join(b.Tree.Base(hostname), b.Tree.LoaderCache([]*elfdeps.Closure{closure}))
}

// folder takes a folder as the root, with the owners that its files have.
func (b *Bundle) folder(name string, args []string, o Options) error {
	b.Tree = rootfs.New(rootfs.Options{Owners: true, Made: made(o.Epoch), Newest: o.Epoch})
	full, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if err := b.Tree.Copy(full, "/"); err != nil {
		return err
	}
	if _, e, err := b.Tree.Stat(spec.Name); err == nil && len(args) == 0 && e.Open != nil {
		f, err := e.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		if b.Spec, err = spec.Decode(f); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		b.Spec.Entrypoint, b.Spec.Cmd = args[:1], args[1:]
	}
	return nil
}

// archive unpacks a container image.
func (b *Bundle) archive(name string, o Options) error {
	b.Tree = rootfs.New(rootfs.Options{Made: made(o.Epoch), Newest: o.Epoch})
	image, err := oci.Open(name, o.Tag)
	if err != nil {
		return err
	}
	defer image.Close()
	b.Spec = image.Spec()
	if b.temp, err = os.CreateTemp("", "gosv-layers-"); err != nil {
		return err
	}
	if err := os.Remove(b.temp.Name()); err != nil { // it lives as long as it is open
		return err
	}
	limit := o.Limit
	if limit == 0 {
		limit = oci.DefaultLimit
	}
	if err := image.Apply(b.Tree, &oci.Store{File: b.temp, Limit: limit, Progress: o.Progress}, o.Warn); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// recipe does what a gosv.yaml says.
func (b *Bundle) recipe(name string, args []string, o Options) error {
	r, err := recipe.Read(name)
	if err != nil {
		return err
	}
	if r.Tag != "" {
		o.Tag = r.Tag
	}
	if len(args) == 0 {
		args = r.Args
	}
	b.Spec.Hostname = r.Spec.Hostname
	switch {
	case r.Program != "":
		var program string
		if program, err = FindProgram(r.Program, o.Path); err == nil {
			err = b.open(Program, program, args, o)
		}
	case r.Image != "":
		err = b.open(Archive, r.Image, args, o)
	default:
		err = b.open(Folder, r.Root, args, o)
	}
	if err != nil {
		return err
	}
	for _, f := range r.Files {
		if err := b.Tree.Copy(f.Host, f.Guest); err != nil {
			return fmt.Errorf("%s:%d: %w", name, f.Line, err)
		}
	}
	b.override(&r.Spec)
	return nil
}

// override lets what a recipe says win.
func (b *Bundle) override(s *spec.Image) {
	b.Spec.Env = MergeEnv(b.Spec.Env, s.Env)
	for _, f := range []struct{ to, from *string }{
		{&b.Spec.WorkDir, &s.WorkDir}, {&b.Spec.User, &s.User}, {&b.Spec.Hostname, &s.Hostname}, {&b.Spec.Memory, &s.Memory}, {&b.Spec.StopSignal, &s.StopSignal},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if s.CPUs != 0 {
		b.Spec.CPUs = s.CPUs
	}
	b.Spec.ReadOnly = b.Spec.ReadOnly || s.ReadOnly
	b.Spec.Ports = merge(b.Spec.Ports, s.Ports)
	b.Spec.Volumes = merge(b.Spec.Volumes, s.Volumes)
}

// merge returns both lists as one, in which nothing is twice.
func merge(lists ...[]string) (merged []string) {
	for _, s := range slices.Concat(lists...) {
		if !slices.Contains(merged, s) {
			merged = append(merged, s)
		}
	}
	return merged
}

// MergeEnv returns env with the variables of more, which win. Of a variable that is there twice, the last value counts.
func MergeEnv(env, more []string) []string {
	var list []string
	all := slices.Concat(env, more)
	for i, e := range all {
		key, _, _ := strings.Cut(e, "=")
		if !has(all[i+1:], key) {
			list = append(list, e)
		}
	}
	return list
}

func has(env []string, key string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, key+"=") {
			return true
		}
	}
	return false
}

// FindProgram returns the absolute path of a program as a shell finds it.
func FindProgram(name string, dirs []string) (string, error) {
	if strings.Contains(name, "/") {
		return filepath.Abs(name)
	}
	for _, dir := range dirs {
		full := filepath.Join(dir, name)
		if st, err := os.Stat(full); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return filepath.Abs(full)
		}
	}
	return "", fmt.Errorf("%s: no such program in PATH: %w", name, elfdeps.ErrNotFound)
}

// mountPoints makes the directories that the kernel mounts on, where there are none.
func (b *Bundle) mountPoints() error {
	for _, d := range []struct {
		name string
		perm fs.FileMode
	}{{"/dev", 0o755}, {"/proc", 0o555}, {"/sys", 0o555}, {"/tmp", fs.ModeSticky | 0o777}, {"/run", 0o755}} {
		if !b.Tree.Has(d.name) {
			if err := b.Tree.Dir(d.name, d.perm); err != nil {
				return err
			}
		}
	}
	for _, volume := range append([]string{b.Spec.WorkDir}, b.Spec.Volumes...) {
		if volume == "" {
			continue
		}
		if _, _, err := b.Tree.Stat(volume); errors.Is(err, fs.ErrNotExist) {
			if err := b.Tree.Dir(path.Clean("/"+volume), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}
