package task

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Group is a process group (setpgid(2)). Guarded by Kernel.mu.
type Group struct {
	ID      int32
	session *Session
	members []*Process
}

// Session is a session (setsid(2)), a set of process groups. Guarded by Kernel.mu but for its ID.
type Session struct {
	ID     int32
	leader *Process // nil after its end
	groups int
	tty    Terminal
	fg     *Group // the foreground group of tty; it may have no members any more
	lost   *Group // that of a terminal that hung up
}

func (k *Kernel) newGroup(n int32, s *Session) *Group {
	g := &Group{ID: n, session: s}
	s.groups++
	k.ids[n].group = g
	return g
}

func (g *Group) add(p *Process) {
	p.group = g
	g.members = append(g.members, p)
}

// leave takes p out of its group; empty groups and sessions end. k.mu is held.
func (k *Kernel) leave(p *Process) {
	g := p.group
	p.group = nil
	if i := slices.Index(g.members, p); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
	}
	if len(g.members) > 0 {
		return
	}
	s := g.session
	k.ids[g.ID].group = nil
	k.dropID(g.ID)
	if s.groups--; s.groups == 0 {
		k.ids[s.ID].session = nil
		k.dropID(s.ID)
	}
}

// PGID returns the process group's ID, and SID that of the session. Zombies keep theirs until reaped.
func (p *Process) PGID() int32 {
	p.k.mu.RLock()
	defer p.k.mu.RUnlock()
	if p.group == nil {
		return 0
	}
	return p.group.ID
}

// SID returns the session's ID.
func (p *Process) SID() int32 {
	p.k.mu.RLock()
	defer p.k.mu.RUnlock()
	if p.group == nil {
		return 0
	}
	return p.group.session.ID
}

// Setpgid is setpgid(2): ESRCH, EPERM, EACCES, EINVAL.
func (t *Task) Setpgid(pid, pgid int32) error {
	k, me := t.k, t.proc
	if pgid < 0 {
		return unix.EINVAL
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := me
	if pid != 0 && pid != me.PID {
		if p = k.process(pid); p == nil || p.parent != me || p.group == nil {
			return unix.ESRCH
		}
		if p.group.session != me.group.session {
			return unix.EPERM
		}
		if p.execed {
			return unix.EACCES
		}
	}
	if p.group.session.leader == p {
		return unix.EPERM
	}
	if pgid == 0 {
		pgid = p.PID
	}
	if pgid == p.group.ID {
		return nil
	}
	var g *Group
	if e := k.ids[pgid]; e != nil {
		g = e.group
	}
	if g == nil && pgid != p.PID || g != nil && g.session != me.group.session {
		return unix.EPERM
	}
	if g == nil {
		g = k.newGroup(pgid, p.group.session)
	}
	k.leave(p)
	g.add(p)
	return nil
}

// Setsid is setsid(2): it returns the new session's ID; EPERM.
func (t *Task) Setsid() (int32, error) {
	k, p := t.k, t.proc
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.ids[p.PID]
	if e.group != nil || e.session != nil {
		return 0, unix.EPERM
	}
	s := &Session{ID: p.PID, leader: p}
	e.session = s
	g := k.newGroup(p.PID, s)
	k.leave(p)
	g.add(p)
	p.noTTY = false
	return p.PID, nil
}

// orphaned reports whether no member of g has a parent in another group of the session, p not counted
// (setpgid(2), "Notes"). k.mu is held.
func (g *Group) orphaned(without *Process) bool {
	for _, p := range g.members {
		if p == without || p.zombie || p.parent == nil {
			continue
		}
		if pg := p.parent.group; pg != nil && pg != g && pg.session == g.session {
			return false
		}
	}
	return true
}

// orphanedGroup reports whether p's group is orphaned: job-control stops from the terminal do not work there.
func (p *Process) orphanedGroup() bool {
	p.k.mu.RLock()
	v := p.group == nil || p.group.orphaned(nil)
	p.k.mu.RUnlock()
	return v
}

// groupOrphaned is told that a member of g, which was not orphaned, ends or loses its parent: if that makes g orphaned, and a
// member is stopped, all get SIGHUP and SIGCONT (exit(3)). k.mu is held.
func (k *Kernel) groupOrphaned(g *Group, without *Process) {
	if !g.orphaned(without) || !slices.ContainsFunc(g.members, (*Process).isStopped) {
		return
	}
	hup, cont := kernelInfo(unix.SIGHUP), kernelInfo(unix.SIGCONT)
	for _, p := range g.members {
		p.send(&hup)
		p.send(&cont)
	}
}
