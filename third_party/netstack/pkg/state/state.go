// Package state stands in for gVisor's checkpoints when netstack is built into the
// kernel, which makes none: nothing is registered, so that the linker leaves out all
// code that saves and loads.
package state

import "context"

// Type is a type that can be saved.
type Type interface {
	StateTypeName() string
	StateFields() []string
}

// SaverLoader is a Type that saves and loads itself.
type SaverLoader interface {
	Type
	StateSave(Sink)
	StateLoad(context.Context, Source)
}

// Sink takes what is saved.
type Sink struct{}

// Save does nothing.
func (Sink) Save(int, any) {}

// SaveValue does nothing.
func (Sink) SaveValue(int, any) {}

// Context returns the background context.
func (Sink) Context() context.Context { return context.Background() }

// Source gives what is loaded.
type Source struct{}

// Load does nothing.
func (Source) Load(int, any) {}

// LoadWait does nothing.
func (Source) LoadWait(int, any) {}

// LoadValue does nothing.
func (Source) LoadValue(int, any, func(any)) {}

// AfterLoad does nothing.
func (Source) AfterLoad(func()) {}

// Context returns the background context.
func (Source) Context() context.Context { return context.Background() }

// IsZeroValue is asked when something is saved, which does not happen.
func IsZeroValue(any) bool { return true }

// Register does nothing.
func Register(Type) {}
