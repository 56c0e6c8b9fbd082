package vmm

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// maxLine is the longest line taken from a guest, in bytes.
const maxLine = 4096

type eventKind int

const (
	eventReady   eventKind = iota // the program is about to start
	eventExit                     // it ended, with status
	eventError                    // it could not be started: status and text are for the user
	eventPanic                    // the kernel failed: text
	eventMissing                  // a file was not found: text is its name
	eventBad                      // the line is none of the protocol's: text
)

// event is one line from the guest.
type event struct {
	kind   eventKind
	status int
	text   string
}

// readControl sends the guest's lines to events until the port ends, and closes
// events then. A line that is too long or unknown is the last.
func readControl(port io.Reader, events chan<- event) {
	defer close(events)
	lines := bufio.NewReaderSize(port, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			events <- event{kind: eventBad, text: printable(string(line[:80])) + "…"}
			return
		}
		if err != nil {
			return
		}
		e := parseEvent(string(line[:len(line)-1]))
		events <- e
		if e.kind == eventBad {
			return
		}
	}
}

func parseEvent(line string) event {
	bad := event{kind: eventBad, text: printable(line)}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "ready":
		if rest == "" {
			return event{kind: eventReady}
		}
	case "exit":
		if n, err := strconv.ParseUint(rest, 10, 8); err == nil {
			return event{kind: eventExit, status: int(n)}
		}
	case "error":
		number, text, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if err == nil && (n == StatusFailed || n == StatusNotExec || n == StatusNoFile) {
			return event{kind: eventError, status: n, text: printable(text)}
		}
	case "missing":
		if rest != "" {
			return event{kind: eventMissing, text: printable(rest)}
		}
	case "panic":
		return event{kind: eventPanic, text: printable(rest)}
	}
	return bad
}
