// Package spec says what an image runs, and how: the part of it that is no file.
//
// It is kept as JSON in the image (Name), where `gosv image inspect` and `gosv
// run` read it; what the kernel needs of it is in the run file beside it. The
// words are those of the OCI image configuration.
package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Name is the path of the description in the image.
const Name = "/.gosv/image.json"

// Image describes what an image runs.
type Image struct {
	Entrypoint []string `json:"entrypoint,omitempty"` // the program and arguments that always come
	Cmd        []string `json:"cmd,omitempty"`        // arguments, or the program, that the command line replaces
	Env        []string `json:"env,omitempty"`        // KEY=VALUE
	WorkDir    string   `json:"workdir,omitempty"`
	User       string   `json:"user,omitempty"` // NAME or UID, then :GROUP or :GID
	Hostname   string   `json:"hostname,omitempty"`
	Memory     string   `json:"memory,omitempty"` // as for --memory
	CPUs       int      `json:"cpus,omitempty"`
	Ports      []string `json:"ports,omitempty"`   // 80/tcp, 53/udp
	Volumes    []string `json:"volumes,omitempty"` // directories that hold data to keep
	ReadOnly   bool     `json:"readOnly,omitempty"`
	Scratch    []string `json:"scratch,omitempty"` // empty directories, in memory when the root is read-only
	StopSignal string   `json:"stopSignal,omitempty"`
}

// maxSize bounds the description, in bytes.
const maxSize = 4 << 20

// Encode returns the description as it is kept.
func (i *Image) Encode() []byte {
	b, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		panic(err) // strings and numbers only
	}
	return append(b, '\n')
}

// Decode reads a description.
func Decode(in io.Reader) (*Image, error) {
	b, err := io.ReadAll(io.LimitReader(in, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSize {
		return nil, errors.New(Name + " is too large")
	}
	var i Image
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	return &i, nil
}

// Args returns the arguments of the program, argv[0] included: the entry point,
// then args, or Cmd when there are none (Docker's rules).
func (i *Image) Args(args []string) []string {
	if len(args) == 0 {
		args = i.Cmd
	}
	return append(append([]string{}, i.Entrypoint...), args...)
}
