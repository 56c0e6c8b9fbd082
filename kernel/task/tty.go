package task

import (
	"gosv/kernel/abi"
	"gosv/kernel/signal"
	"gosv/kernel/uio"
	"gosv/kernel/vfs"

	"golang.org/x/sys/unix"
)

// Terminal is what may be the controlling terminal of a session.
type Terminal = interface {
	// LeaderEnded is called, on a goroutine of its own, when the leader of the session that the
	// terminal controlled has ended.
	LeaderEnded()
}

// A TerminalFile is the operations of an open file that vfs.File.SetTerminal marks.
type TerminalFile interface {
	vfs.FileOps
	// Terminal returns the terminal that an open without O_NOCTTY makes the controlling
	// one; nil: this does not.
	Terminal() Terminal
	// ReadBy is read(2) by t, which may block: ERESTARTSYS too.
	ReadBy(t *Task, f *vfs.File, dst uio.Sink) (int64, error)
	// MayWrite is asked before each write(2) by t: EIO, ERESTARTSYS.
	MayWrite(t *Task) error
}

// OpenedTerminal is called when t has opened f without O_NOCTTY: the leader of a session without a
// terminal gets it (tty_ioctl(4), credentials(7)).
func (t *Task) OpenedTerminal(f *vfs.File) {
	if !f.Terminal() || !f.Readable() {
		return // who can only write is not to take the terminal over
	}
	if tty := f.Ops().(TerminalFile).Terminal(); tty != nil {
		t.proc.SetTerminal(tty, false)
	}
}

// Terminal returns the session's controlling terminal and the ID of its
// foreground group, nil and 0 without.
func (p *Process) Terminal() (tty Terminal, fg int32) {
	p.k.mu.RLock()
	defer p.k.mu.RUnlock()
	s := p.session()
	if s.fg != nil {
		fg = s.fg.ID
	}
	return s.tty, fg
}

// noSession stands for the session of a process that has no terminal.
var noSession Session

// session returns the session whose terminal is p's, noSession when p is a zombie or gave the terminal up. k.mu is held.
func (p *Process) session() *Session {
	if p.group == nil || p.noTTY {
		return &noSession
	}
	return p.group.session
}

// SessionOf returns the IDs of the session that tty controls and of its foreground group, 0 without.
func (k *Kernel) SessionOf(tty Terminal) (sid, fg int32) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s := k.sessionOf(tty)
	if s == nil {
		return 0, 0
	}
	if s.fg != nil {
		fg = s.fg.ID
	}
	return s.ID, fg
}

// SetTerminal is TIOCSCTTY: tty becomes the controlling terminal of p's session,
// p's group its foreground group. EPERM unless p leads a session that has no other terminal, and, unless steal is
// set, when tty belongs to another session.
func (p *Process) SetTerminal(tty Terminal, steal bool) error {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	s := p.group.session
	if s.leader != p || s.tty != nil && s.tty != tty {
		return unix.EPERM
	}
	if s.tty == tty {
		return nil
	}
	if o := k.sessionOf(tty); o != nil {
		if !steal {
			return unix.EPERM
		}
		o.tty, o.fg = nil, nil
	}
	s.tty, s.fg, s.lost = tty, p.group, nil
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

// DropTerminal is TIOCNOTTY: ENOTTY when tty is not p's controlling terminal. If p leads the session, all of it loses
// the terminal, and the foreground group gets SIGHUP and SIGCONT.
func (p *Process) DropTerminal(tty Terminal) error {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	s := p.session()
	switch {
	case s.tty == nil || s.tty != tty:
		return unix.ENOTTY
	case s.leader != p:
		p.noTTY = true
		return nil
	}
	s.fg.signal(unix.SIGHUP, unix.SIGCONT)
	s.tty, s.fg = nil, nil
	return nil
}

// leaderEnded takes the terminal away from a session whose leader ended: its foreground group gets SIGHUP, also when the
// terminal hung up before. k.mu is held.
func (k *Kernel) leaderEnded(s *Session) {
	if s.tty == nil {
		s.lost.signal(unix.SIGHUP, unix.SIGCONT)
		s.lost = nil
		return
	}
	s.fg.signal(unix.SIGHUP)
	go s.tty.LeaderEnded()
	s.tty, s.fg = nil, nil
}

// HangUp is told by a terminal that its line is gone: the session that it controls loses
// it, and the leader gets SIGHUP and SIGCONT.
func (k *Kernel) HangUp(tty Terminal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessionOf(tty)
	if s == nil {
		return
	}
	s.tty, s.fg, s.lost = nil, nil, s.fg
	if s.leader != nil {
		hup, cont := kernelInfo(unix.SIGHUP), kernelInfo(unix.SIGCONT)
		s.leader.send(&hup)
		s.leader.send(&cont)
	}
}

// signal sends signals to each member of the group. k.mu is held.
func (g *Group) signal(sigs ...unix.Signal) {
	if g == nil {
		return
	}
	for _, sig := range sigs {
		info := kernelInfo(sig)
		for _, p := range g.members {
			p.send(&info)
		}
	}
}

// SetForeground is TIOCSPGRP: ENOTTY when tty is not the session's, EPERM when the group is not
// in the session. Stopping a background caller (SIGTTOU) is the terminal's business, by TTYStop.
func (p *Process) SetForeground(tty Terminal, pgid int32) error {
	k := p.k
	k.mu.Lock()
	defer k.mu.Unlock()
	s := p.session()
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
	s := p.session()
	return s.tty != tty || s.fg == p.group
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
	if s := k.sessionOf(tty); s != nil {
		s.fg.signal(sig)
	}
}
