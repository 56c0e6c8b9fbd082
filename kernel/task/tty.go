package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

// Terminal is the controlling terminal of a session. The operations of an open file that is a terminal
// have a method Terminal that returns it.
type Terminal = interface {
	// Hangup is called when the session loses the terminal because its leader
	// ended. It may block.
	Hangup()
}

type terminalFile interface{ Terminal() Terminal }

// TerminalOf returns the terminal that f is, nil when it is none.
func TerminalOf(f *vfs.File) Terminal {
	if tf, ok := f.Ops().(terminalFile); ok {
		return tf.Terminal()
	}
	return nil
}

// OpenedTerminal is called when t has opened f without O_NOCTTY: the leader of a session without a
// terminal gets it (tty_ioctl(4), credentials(7)).
func (t *Task) OpenedTerminal(f *vfs.File) {
	if tty := TerminalOf(f); tty != nil {
		t.proc.SetTerminal(tty, false)
	}
}

// Terminal returns the session's controlling terminal and the ID of its
// foreground group, nil and 0 without.
func (p *Process) Terminal() (tty Terminal, fg int32) {
	p.k.mu.RLock()
	defer p.k.mu.RUnlock()
	s := p.group.session
	if s.fg != nil {
		fg = s.fg.ID
	}
	return s.tty, fg
}

// SetTerminal is TIOCSCTTY: tty becomes the controlling terminal of p's session,
// p's group its foreground group. EPERM unless p leads a session that has no other terminal, and, unless steal is
// set, when tty belongs to another session.
func (p *Process) SetTerminal(tty Terminal, steal bool) error {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	s := p.group.session
	if s.tty == tty {
		return nil
	}
	if s.leader != p || s.tty != nil {
		return unix.EPERM
	}
	if o := k.sessionOf(tty); o != nil {
		if !steal {
			return unix.EPERM
		}
		o.tty, o.fg = nil, nil
	}
	s.tty, s.fg = tty, p.group
	return nil
}

// sessionOf returns the session that tty controls, nil when there is none. k.mu is held.
func (k *Kernel) sessionOf(tty Terminal) *Session {
	for _, e := range k.ids {
		if s := e.session; s != nil && s.tty == tty {
			return s
		}
	}
	return nil
}

// DropTerminal is TIOCNOTTY: the session loses its terminal when p leads it.
func (p *Process) DropTerminal() {
	p.k.mu.Lock()
	s := p.group.session
	if s.leader == p {
		p.k.hangup(s)
	}
	p.k.mu.Unlock()
}

// hangup takes the terminal away from s: its foreground group gets SIGHUP and SIGCONT. k.mu is held.
func (k *Kernel) hangup(s *Session) {
	if s.tty == nil {
		return
	}
	fg, tty := s.fg, s.tty
	s.tty, s.fg = nil, nil
	if fg != nil {
		hup, cont := kernelInfo(unix.SIGHUP), kernelInfo(unix.SIGCONT)
		for _, p := range fg.members {
			p.send(&hup)
			p.send(&cont)
		}
	}
	go tty.Hangup()
}

// SetForeground is TIOCSPGRP: ENOTTY when tty is not the session's, EPERM when the group is not
// in the session. Stopping a background caller (SIGTTOU) is the terminal's business, by TTYStop.
func (p *Process) SetForeground(tty Terminal, pgid int32) error {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	s := p.group.session
	if s.tty == nil || s.tty != tty {
		return unix.ENOTTY
	}
	e := k.ids[pgid]
	if e == nil || e.group == nil {
		return unix.ESRCH
	}
	if e.group.session != s {
		return unix.EPERM
	}
	s.fg = e.group
	return nil
}

// InForeground reports whether p may use tty now: it is not its controlling terminal, or its group is the
// foreground group.
func (p *Process) InForeground(tty Terminal) bool {
	p.k.mu.RLock()
	defer p.k.mu.RUnlock()
	g := p.group
	return g == nil || g.session.tty != tty || g.session.fg == g
}

// TTYStop is called for a background task that reads from (SIGTTIN) or changes (SIGTTOU) its terminal.
// It returns nil when the task ignores or blocks the signal and may go on, EIO when its group is
// orphaned or it cannot be stopped, else it sends the signal to the group
// and returns ERESTARTSYS (tty_ioctl(4), the function __tty_check_change of Linux).
func (t *Task) TTYStop(sig unix.Signal) error {
	p := t.proc
	if t.blocked.Has(sig) || p.Handlers().Handler(sig) == signal.IGN {
		if sig == unix.SIGTTIN {
			return unix.EIO
		}
		return nil
	}
	if p.orphanedGroup() {
		return unix.EIO
	}
	info := kernelInfo(sig)
	p.k.SignalGroup(p.PGID(), &info)
	t.flags.Or(workSignal)
	return abi.ERESTARTSYS
}

// SignalForeground sends sig from the terminal tty to the foreground group of the session that it controls (^C, window size).
func (k *Kernel) SignalForeground(tty Terminal, sig unix.Signal) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if s := k.sessionOf(tty); s != nil && s.fg != nil {
		info := kernelInfo(sig)
		for _, p := range s.fg.members {
			p.send(&info)
		}
	}
}
