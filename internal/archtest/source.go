package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

const module = "gosv"

// bare is the one folder for what the compiler cannot check.
const bare = module + "/machine"

// CheckSource inspects the module in directory root and returns what it finds,
// one line for each fault.
func CheckSource(root string) ([]string, error) {
	in := inspection{root: root, documented: map[string]bool{}}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return in.dir(name, d.Name())
		}
		return in.file(name)
	})
	for pkg, ok := range in.documented {
		if !ok {
			in.fault("%s: no package comment", pkg)
		}
	}
	return in.faults, err
}

type inspection struct {
	root       string
	faults     []string
	documented map[string]bool // packages, and whether one has a package comment
}

func (in *inspection) fault(format string, args ...any) {
	in.faults = append(in.faults, fmt.Sprintf(format, args...))
}

// dir skips what is not part of the module.
func (in *inspection) dir(full, name string) error {
	if full == in.root {
		return nil
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin" || name == "build" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(full, "go.mod")); err == nil {
		return fs.SkipDir // a module of its own
	}
	return nil
}

// packageOf returns the import path of the package a file belongs to.
func (in *inspection) packageOf(full string) string {
	rel, err := filepath.Rel(in.root, filepath.Dir(full))
	if err != nil {
		return module
	}
	return path.Join(module, filepath.ToSlash(rel))
}

func (in *inspection) file(full string) error {
	pkg := in.packageOf(full)
	switch filepath.Ext(full) {
	case ".s", ".S":
		if !matches(pkg, bare+"/...") && in.isGoPackage(full) {
			in.fault("%s: assembly outside machine/", full)
		}
	case ".go":
		return in.goFile(full, pkg)
	}
	return nil
}

// isGoPackage says whether Go files lie beside the file: assembly elsewhere is
// a program under test.
func (in *inspection) isGoPackage(full string) bool {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(full), "*.go"))
	return err == nil && len(found) > 0
}

func (in *inspection) goFile(full, pkg string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, full, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ignored(file) {
		return nil
	}
	test := strings.HasSuffix(full, "_test.go")
	if !test {
		in.documented[pkg] = in.documented[pkg] || file.Doc.Text() != ""
	}
	r := roomOf(pkg)
	if r == nil {
		in.fault("%s: internal/archtest has no room for %s", full, pkg)
		r = &room{}
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		where := fset.Position(spec.Pos())
		switch {
		case imported == "C":
			in.fault("%v: cgo: everything is built with CGO_ENABLED=0", where)
		case imported == "unsafe" && !matches(pkg, bare+"/...") && !(test && matchesAny(pkg, unsafeTests)):
			in.fault("%v: unsafe outside machine/", where)
		case matches(imported, module+"/...") && !r.mayImport(pkg, imported, test):
			in.fault("%v: %s may not import %s", where, pkg, imported)
		case r.guest && !test && !guestMayUse(pkg, imported):
			in.fault("%v: %s may not import %s of another module", where, pkg, imported)
		case r.guest && !test && matchesAny(imported, guestBans):
			in.fault("%v: %s is too large for the guest", where, imported)
		}
	}
	if !matches(pkg, bare+"/...") {
		in.linknames(fset, file)
	}
	in.annotations(fset, file)
	return nil
}

// annotations finds those of checklocks that the tool would pass over, or take for another field's: it knows them at the beginning of
// a comment only, and counts the lines of a structure as its fields.
func (in *inspection) annotations(fset *token.FileSet, file *ast.File) {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if i := strings.Index(c.Text, "+checklocks:"); i > 0 && !strings.HasPrefix(c.Text, "// +checklocks:") {
				in.fault("%v: +checklocks does not begin its comment", fset.Position(c.Pos()))
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.StructType); ok {
			in.oneFieldALine(fset, s.Fields.List)
		}
		return true
	})
}

func (in *inspection) oneFieldALine(fset *token.FileSet, fields []*ast.Field) {
	several := false
	for _, f := range fields {
		several = several || len(f.Names) > 1
		for _, group := range []*ast.CommentGroup{f.Doc, f.Comment} {
			if several && group != nil && strings.Contains("\n"+group.Text(), "\n+checklocks") {
				in.fault("%v: a field with +checklocks has a line of several fields before it, or with it", fset.Position(f.Pos()))
			}
		}
	}
}

func (in *inspection) linknames(fset *token.FileSet, file *ast.File) {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") {
				in.fault("%v: go:linkname outside machine/", fset.Position(c.Pos()))
			}
		}
	}
}

// ignored says whether a file is kept out of every build.
func ignored(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() < file.Package && strings.TrimSpace(c.Text) == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}
