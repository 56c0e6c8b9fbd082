package vfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// mountWords are the options of mount(8) that are MS_ flags: set, or with "no" before them (or without it) cleared.
var mountWords = map[string]struct{ set, clear uint64 }{
	"ro": {unix.MS_RDONLY, 0}, "rw": {0, unix.MS_RDONLY},
	"nosuid": {unix.MS_NOSUID, 0}, "suid": {0, unix.MS_NOSUID},
	"nodev": {unix.MS_NODEV, 0}, "dev": {0, unix.MS_NODEV},
	"noexec": {unix.MS_NOEXEC, 0}, "exec": {0, unix.MS_NOEXEC},
	"noatime": {unix.MS_NOATIME, 0}, "atime": {0, unix.MS_NOATIME},
	"nodiratime": {unix.MS_NODIRATIME, 0}, "diratime": {0, unix.MS_NODIRATIME},
	"relatime": {unix.MS_RELATIME, 0}, "norelatime": {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, unix.MS_RELATIME}, "nostrictatime": {0, unix.MS_STRICTATIME},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, 0}, "symfollow": {0, unix.MS_NOSYMFOLLOW},
	"sync": {unix.MS_SYNCHRONOUS, 0}, "async": {0, unix.MS_SYNCHRONOUS}, "dirsync": {unix.MS_DIRSYNC, 0},
	"bind": {unix.MS_BIND, 0}, "rbind": {unix.MS_BIND | unix.MS_REC, 0},
	"defaults": {0, unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_SYNCHRONOUS},
	"silent":   {}, "loud": {}, "auto": {}, "noauto": {}, "nouser": {}, "_netdev": {},
}

// ParseMountOptions splits what mount(8) takes after -o into MS_ flags and what is left for the type, as that program does.
func ParseMountOptions(o string) (flags uint64, data string) {
	var rest []string
	for word := range strings.SplitSeq(o, ",") {
		w, known := mountWords[word]
		switch {
		case word == "":
		case known:
			flags = flags&^w.clear | w.set
		default:
			rest = append(rest, word)
		}
	}
	return flags, strings.Join(rest, ",")
}

// EachOption calls known for each option of the type, with "" as the value of one without: EINVAL, with a reason, for the first
// that is not known or whose value makes no sense.
func (r *MountRequest) EachOption(known func(key, value string) bool) error {
	for word := range strings.SplitSeq(r.Options, ",") {
		if word == "" {
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		if !known(key, value) {
			return r.Fail(unix.EINVAL, "unknown option or bad value: "+word)
		}
	}
	return nil
}

// ofAny are the flags that mount(2) also takes as words among the options, whatever the type is.
const ofAny = unix.MS_RDONLY | unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC

// takeFlags turns such words into flags.
func (r *MountRequest) takeFlags() {
	var rest []string
	for word := range strings.SplitSeq(r.Options, ",") {
		w := mountWords[word]
		if both := w.set | w.clear; both != 0 && both&^ofAny == 0 {
			r.Flags = r.Flags&^w.clear | w.set
		} else {
			rest = append(rest, word)
		}
	}
	if len(rest) != strings.Count(r.Options, ",")+1 {
		r.Options = strings.Join(rest, ",")
	}
}
