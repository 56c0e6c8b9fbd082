package registry

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLog is the size, in bytes, at which a log is put aside and a new one begun; the one before goes.
const maxLog = 16 << 20

// Line is a piece of output: a JSON object and a newline in the log.
type Line struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // stdout, stderr
	Text   string    `json:"log,omitempty"`
	Bytes  []byte    `json:"bytes,omitempty"` // in place of Text when it is no UTF-8
}

// Content returns the bytes that were written.
func (l *Line) Content() []byte {
	if l.Bytes != nil {
		return l.Bytes
	}
	return []byte(l.Text)
}

// Log is the output of a machine in the background.
type Log struct {
	path string

	mu   sync.Mutex
	file *os.File // +checklocks:mu
	size int64    // +checklocks:mu
}

// OpenLog begins the machine's log.
func (m *Machine) OpenLog() (*Log, error) {
	l := &Log{path: m.path("log")}
	f, err := l.open()
	if err != nil {
		return nil, err
	}
	l.file = f
	return l, nil
}

func (l *Log) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Writer returns a writer for one stream. Each line, or what there is of one, is an entry.
func (l *Log) Writer(stream string) io.Writer { return &logWriter{l: l, stream: stream} }

type logWriter struct {
	l      *Log
	stream string
}

func (w *logWriter) Write(p []byte) (int, error) {
	now := time.Now()
	var out []byte
	for rest := p; len(rest) > 0; {
		n := len(rest)
		for i, c := range rest {
			if c == '\n' {
				n = i + 1
				break
			}
		}
		line := Line{Time: now, Stream: w.stream}
		if utf8.Valid(rest[:n]) {
			line.Text = string(rest[:n])
		} else {
			line.Bytes = rest[:n]
		}
		b, err := json.Marshal(line)
		if err != nil {
			return 0, err
		}
		out, rest = append(append(out, b...), '\n'), rest[n:]
	}
	return len(p), w.l.append(out)
}

func (l *Log) append(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(b)) > maxLog {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return err
		}
		f, err := l.open()
		if err != nil {
			return err
		}
		l.file.Close()
		l.file, l.size = f, 0
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return err
}

// ReadLog calls each for the entries of the machine's log, the oldest first. With follow it goes on until the
// machine has ended or stop is closed. It is no error when there is no log.
func (m *Machine) ReadLog(follow bool, stop <-chan struct{}, each func(*Line) error) error {
	f, err := os.Open(m.path("log.1"))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(m.path("log"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return m.readFile(f, follow, stop, each)
}

func (m *Machine) readFile(f *os.File, follow bool, stop <-chan struct{}, each func(*Line) error) error {
	in := bufio.NewReader(f)
	var part []byte
	var next *os.File // begun after f: what was written to f before is still to be read
	ended := false
	for {
		b, err := in.ReadBytes('\n')
		part = append(part, b...)
		if err == nil {
			var line Line
			if err := json.Unmarshal(part, &line); err != nil {
				return errors.New("the log is damaged: " + err.Error())
			}
			if err := each(&line); err != nil {
				return err
			}
			part = part[:0]
			continue
		}
		if err != io.EOF {
			return err
		}
		if next != nil {
			defer next.Close()
			return m.readFile(next, follow, stop, each)
		}
		if ended {
			return nil
		}
		ended = !follow || !locked(m.path("lock")) // what was written before the end is still to be read
		if next, err = m.rotated(f); err != nil {
			return err
		}
		if next != nil || ended {
			continue
		}
		select {
		case <-stop:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// rotated returns the log that was begun after f, nil when f is the newest, or there is none (yet, or any more).
func (m *Machine) rotated(f *os.File) (*os.File, error) {
	mine, err := f.Stat()
	if err != nil {
		return nil, err
	}
	next, err := os.Open(m.path("log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	newest, err := next.Stat()
	if err != nil || os.SameFile(mine, newest) {
		next.Close()
		return nil, err
	}
	return next, nil
}
