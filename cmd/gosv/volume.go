package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gosv/image/erofs"
	"gosv/vmm/volume"
)

func newVolume(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Look after named volumes, `gosv run -v NAME:GUEST`",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVolumeList(std), newVolumeInspect(std), newVolumeCreate(std), newVolumeRemove(std))
	return cmd
}

func newVolumeList(std streams) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "ls", Short: "List the volumes", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := volume.Open()
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
			if !quiet {
				fmt.Fprintln(w, "NAME\tCREATED")
			}
			for _, v := range list {
				if quiet {
					fmt.Fprintln(w, v.Name)
				} else {
					fmt.Fprintf(w, "%s\t%s\n", v.Name, ago(time.Since(v.Created)))
				}
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	return cmd
}

func newVolumeInspect(std streams) *cobra.Command {
	return &cobra.Command{
		Use: "inspect NAME…", Short: "Print where volumes are, as JSON", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := volume.Open()
			if err != nil {
				return err
			}
			var list []*volume.Volume
			for _, name := range args {
				v, err := store.Find(name)
				if err != nil {
					return err
				}
				list = append(list, v)
			}
			return writeJSON(std.out, list)
		},
	}
}

func newVolumeCreate(std streams) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Make an empty volume; gosv run makes those that are missing", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := volume.Open()
			if err != nil {
				return err
			}
			v, err := store.Use(args[0], nil)
			if err != nil {
				return err
			}
			v.Close()
			_, err = fmt.Fprintln(std.out, v.Name)
			return err
		},
	}
}

func newVolumeRemove(std streams) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…", Short: "Remove volumes and what is in them", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := volume.Open()
			if err != nil {
				return err
			}
			var failed error
			for _, name := range args {
				if err := store.Remove(name); err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				fmt.Fprintln(std.out, name)
			}
			return failed
		},
	}
}

// mount is what a --volume flag names.
type mount struct {
	host, guest string
	name        string // of a volume, in place of host
	readOnly    bool
}

// parseVolume reads HOST:GUEST[:ro|:rw]. A HOST without a slash is the name of a volume, as in Docker.
func parseVolume(s string) (v mount, err error) {
	rest := s
	for _, mode := range []string{":ro", ":rw"} {
		if head, ok := strings.CutSuffix(rest, mode); ok && strings.Contains(head, ":") {
			rest, v.readOnly = head, mode == ":ro"
			break
		}
	}
	i := strings.LastIndexByte(rest, ':')
	if i <= 0 || !path.IsAbs(rest[i+1:]) {
		return v, fmt.Errorf("--volume %s: say HOST:GUEST or HOST:GUEST:ro, with GUEST an absolute path", s)
	}
	v.guest = path.Clean(rest[i+1:])
	host := rest[:i]
	if !strings.Contains(host, "/") && host != "." && host != ".." {
		if v.name = host; !volume.ValidName(host) {
			return v, fmt.Errorf("--volume %s: %w; a file or folder here is ./%s", s, volume.ErrBadName, host)
		}
		return v, nil
	}
	if v.host, err = filepath.Abs(host); err != nil {
		return v, err
	}
	if _, err := os.Stat(v.host); err != nil {
		return v, fmt.Errorf("--volume %s: %w", s, err)
	}
	return v, nil
}

// shared reports whether the host's end is a directory, which is shared; a file is copied.
func (v mount) shared() bool {
	if v.name != "" {
		return true
	}
	st, err := os.Stat(v.host)
	return err == nil && st.IsDir()
}

// use takes a named volume for the machine. A new one gets what the image has at its place.
func (v mount) use(root *rootSource) (*volume.Volume, error) {
	store, err := volume.Open()
	if err != nil {
		return nil, err
	}
	if _, err := store.Find(v.name); errors.Is(err, volume.ErrNotFound) {
		if _, err := os.Lstat(v.name); err == nil {
			return nil, fmt.Errorf("--volume %s:%s: is that the file %[1]s here, ./%[1]s, or a new volume? `gosv volume create %[1]s` makes one", v.name, v.guest)
		}
	}
	return store.Use(v.name, func(dir string) error { return root.seed(dir, v.guest) })
}

// anonymous adds a volume of its own for each of the image's that can hold data only so: the root is read-only, and the
// image has something there, so that no empty folder in memory will do.
func (o *runOptions) anonymous(root *rootSource, list folders) (folders, error) {
	if root == nil || !o.readOnly {
		return list, nil
	}
	for _, guest := range root.spec.Volumes {
		guest = path.Clean("/" + guest)
		empty := func(dir string) bool { return path.Clean(dir) == guest }
		if slices.ContainsFunc(root.spec.Scratch, empty) || slices.ContainsFunc(list, func(f *folder) bool { return f.target == guest }) {
			continue
		}
		v, err := mount{guest: guest, name: "anonymous-" + strings.ToLower(rand.Text())}.use(root)
		if err != nil {
			return list, err
		}
		list = append(list, &folder{tag: fmt.Sprintf("share%d", len(list)), dir: v.Dir, target: guest, volume: v, anonymous: true})
	}
	return list, nil
}

// seed copies what the root has below a path to an empty folder. There is no root for a program of this machine; and a
// root with a tree of hashes is checked by the kernel only, so nothing of it is taken here.
func (r *rootSource) seed(dir, below string) error {
	if r == nil || r.verity != nil {
		return nil
	}
	i, err := openImage(r.disk.Path)
	if err != nil {
		return err
	}
	defer i.Close()
	f, err := i.lookup(below)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case f.Mode&0o170000 != erofs.ModeDir:
		return nil
	}
	_, err = extractTo(dir, ".", f)
	return err
}

// scratch returns those of the directories that hold nothing in the root.
func (r *rootSource) scratch(dirs ...string) (list []string, err error) {
	i, err := openImage(r.disk.Path)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	for _, dir := range dirs {
		f, err := i.lookup(dir)
		if err != nil || f.Mode&0o170000 != erofs.ModeDir {
			continue
		}
		entries, err := f.ReadDir()
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			list = append(list, dir)
		}
	}
	return list, nil
}
