package iouring

import (
	"golang.org/x/sys/unix"

	"gosv/kernel/task"
)

// Restrictions are what IORING_REGISTER_RESTRICTIONS allows.
type Restrictions struct {
	Register         map[uint8]bool
	Ops              map[uint8]bool
	Allowed          uint8
	Required         uint8
	OpsUsed, RegUsed bool
}

// Restrict sets restrictions while the ring is disabled: EBADFD, EBUSY.
func (r *Ring) Restrict(l *Restrictions) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.disabled:
		return unix.EBADFD
	case r.limits != nil:
		return unix.EBUSY
	}
	r.limits = l
	return nil
}

// MayRegister applies the restrictions to io_uring_register(2): EACCES.
func (r *Ring) MayRegister(op uint8) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.disabled && r.limits != nil && !r.limits.Register[op] {
		return unix.EACCES
	}
	return nil
}

// restricted applies the restrictions to a submission: EACCES.
func (r *Ring) restricted(s *SQE) error {
	r.mu.Lock()
	l := r.limits
	r.mu.Unlock()
	if l == nil {
		return nil
	}
	if !l.Ops[s.Opcode] || s.Flags&l.Required != l.Required || s.Flags&^(l.Allowed|l.Required) != 0 {
		return unix.EACCES
	}
	return nil
}

// Enable is IORING_REGISTER_ENABLE_RINGS: EBADFD.
func (r *Ring) Enable(t *task.Task) error {
	r.Own(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.disabled {
		return unix.EBADFD
	}
	r.disabled = false
	return nil
}

// Disabled reports whether the ring waits for Enable.
func (r *Ring) Disabled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.disabled
}
