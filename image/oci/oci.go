// Package oci reads container images: OCI image layouts, as folders or tar
// archives, and the archives of `docker save`.
//
// All of it is foreign: checksums of layers are compared, names that leave the
// archive are refused, sizes and counts are bounded, and nothing is run.
package oci

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	imagename "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gosv/image/rootfs"
	"gosv/image/spec"
)

// DefaultLimit is how many bytes the files of an image may have together.
const DefaultLimit = 64 << 30

// Image is a container image that was opened.
type Image struct {
	image  v1.Image
	config *v1.ConfigFile
	temp   string // folder to remove
}

// Is says whether path is something that Open reads.
func Is(name string) bool {
	st, err := os.Stat(name)
	if err != nil {
		return false
	}
	if st.IsDir() {
		_, err := os.Stat(filepath.Join(name, "oci-layout"))
		return err == nil
	}
	if !st.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	in, _, err := decompressed(f)
	if err != nil {
		return false
	}
	defer in.Close()
	head := make([]byte, 512)
	if _, err := io.ReadFull(in, head); err != nil {
		return false
	}
	return string(head[257:262]) == "ustar" || strings.HasSuffix(name, ".tar")
}

// Open opens the image at a path. ref chooses one of several by its tag; "" takes
// the only one.
func Open(name, ref string) (*Image, error) {
	i := &Image{}
	if err := i.open(name, ref); err != nil {
		i.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return i, nil
}

func (i *Image) open(name, ref string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if st.IsDir() {
		i.image, err = openLayout(name, ref)
	} else {
		err = i.openArchive(name, ref)
	}
	if err != nil {
		return err
	}
	if i.config, err = i.image.ConfigFile(); err != nil {
		return fmt.Errorf("the image's configuration: %w", truncated(err))
	}
	if p := i.config.Platform(); p != nil && (p.OS != "" && p.OS != "linux" || p.Architecture != "" && p.Architecture != "amd64") {
		return fmt.Errorf("the image is for %s/%s, not linux/amd64", p.OS, p.Architecture)
	}
	return nil
}

// Close removes what was unpacked.
func (i *Image) Close() {
	if i.temp != "" {
		_ = os.RemoveAll(i.temp) // a leftover in the folder for temporary files is no error
	}
}

// openArchive opens a tar archive of either kind.
func (i *Image) openArchive(name, ref string) error {
	name, err := i.decompress(name)
	if err != nil {
		return err
	}
	kind, err := archiveKind(name)
	if err != nil {
		return err
	}
	if kind == "manifest.json" {
		i.image, err = openDocker(name, ref)
		return err
	}
	temp, err := i.tempDir()
	if err != nil {
		return err
	}
	if err := unpackLayout(name, temp); err != nil {
		return err
	}
	i.image, err = openLayout(temp, ref)
	return err
}

// archiveKind returns the file that says what an archive is.
func archiveKind(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, kind := tar.NewReader(f), ""
	for count := 0; count < maxEntries; count++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", truncated(err)
		}
		switch n := path.Clean(h.Name); n {
		case "manifest.json":
			return n, nil // newer Docker writes both: this one names tags
		case "oci-layout":
			kind = n
		}
	}
	if kind == "" {
		return "", errors.New("neither an OCI archive nor one of `docker save`: it has no oci-layout and no manifest.json")
	}
	return kind, nil
}

// openDocker opens an archive of `docker save`.
func openDocker(name, ref string) (v1.Image, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(name) })
	if err != nil {
		return nil, truncated(err)
	}
	at := -1
	var tags []string
	for k, d := range manifest {
		tags = append(tags, d.RepoTags...)
		if ref == "" || slices.Contains(d.RepoTags, ref) {
			at = k
		}
	}
	switch {
	case len(manifest) == 0 || at < 0:
		return nil, fmt.Errorf("no image %q; there are: %s", ref, strings.Join(tags, ", "))
	case ref == "" && len(manifest) > 1:
		return nil, fmt.Errorf("several images, choose one with --tag: %s", strings.Join(tags, ", "))
	}
	if len(manifest) == 1 {
		return tarball.ImageFromPath(name, nil)
	}
	tag, err := imagename.NewTag(ref)
	if err != nil {
		return nil, err
	}
	return tarball.ImageFromPath(name, &tag)
}

var blobName = regexp.MustCompile(`^blobs/sha256/[0-9a-f]{64}$`)

// unpackLayout unpacks an archive that holds an OCI layout: the files that a
// layout has, and no others.
func unpackLayout(name, dir string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return truncated(err)
		}
		n := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || n != "oci-layout" && n != "index.json" && !blobName.MatchString(n) {
			continue
		}
		out, err := os.OpenFile(filepath.Join(dir, n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("%w: %s is there twice", ErrHostile, n)
		}
		_, err = io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			return truncated(err)
		}
	}
}

// openLayout opens an OCI image layout.
func openLayout(dir, ref string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	return choose(index, ref, 0)
}

// choose finds the image for this platform in an index.
func choose(index v1.ImageIndex, ref string, depth int) (v1.Image, error) {
	if depth > 4 {
		return nil, fmt.Errorf("%w: indexes in indexes", ErrHostile)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	var others []string
	for _, d := range manifest.Manifests {
		name := d.Annotations["org.opencontainers.image.ref.name"]
		full := d.Annotations["io.containerd.image.name"]
		p := d.Platform
		switch {
		case !d.MediaType.IsImage() && !d.MediaType.IsIndex(), p != nil && p.OS == "unknown": // attestations
		case ref != "" && depth == 0 && ref != name && ref != full:
			others = append(others, cmp.Or(name, full, "one without a tag"))
		case p != nil && (p.OS != "linux" || p.Architecture != "amd64"):
			others = append(others, p.String())
		default:
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		what := "no image for linux/amd64"
		if ref != "" && depth == 0 {
			what += " with the tag " + ref
		}
		return nil, fmt.Errorf("%s; there are: %s", what, strings.Join(others, ", "))
	case len(found) > 1:
		var names []string
		for _, d := range found {
			names = append(names, d.Annotations["org.opencontainers.image.ref.name"])
		}
		return nil, fmt.Errorf("several images, choose one with --tag: %s", strings.Join(names, ", "))
	}
	if found[0].MediaType.IsIndex() {
		next, err := index.ImageIndex(found[0].Digest)
		if err != nil {
			return nil, err
		}
		return choose(next, ref, depth+1)
	}
	return index.Image(found[0].Digest)
}

// ID returns the checksum of the image's configuration, which covers all of it.
func (i *Image) ID() (string, error) {
	h, err := i.image.ConfigName()
	return h.String(), err
}

// Spec returns what the image's configuration says.
func (i *Image) Spec() *spec.Image {
	c := i.config.Config
	s := &spec.Image{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal}
	for port := range c.ExposedPorts {
		s.Ports = append(s.Ports, port)
	}
	for volume := range c.Volumes {
		s.Volumes = append(s.Volumes, volume)
	}
	slices.Sort(s.Ports)
	slices.Sort(s.Volumes)
	return s
}

// Apply puts the image's layers on the tree, one after the other, and compares
// the checksum of each with the configuration's.
func (i *Image) Apply(tree *rootfs.Tree, store *Store, warn func(string)) error {
	layers, err := i.image.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(i.config.RootFS.DiffIDs) {
		return fmt.Errorf("%w: %d layers, but checksums of %d", ErrHostile, len(layers), len(i.config.RootFS.DiffIDs))
	}
	for n, l := range layers {
		if err := apply(tree, store, l, i.config.RootFS.DiffIDs[n], warn); err != nil {
			return fmt.Errorf("layer %d of %d: %w", n+1, len(layers), err)
		}
	}
	return nil
}

func apply(tree *rootfs.Tree, store *Store, l v1.Layer, want v1.Hash, warn func(string)) error {
	in, err := l.Uncompressed()
	if err != nil {
		return truncated(err)
	}
	defer in.Close()
	sum := sha256.New()
	all := io.TeeReader(in, sum)
	if err := Apply(tree, store, all, warn); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // what lies behind the archive's end counts
		return truncated(err)
	}
	if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); got != want.String() {
		return fmt.Errorf("its checksum is %s, not %s: the image is damaged", got, want)
	}
	return nil
}
