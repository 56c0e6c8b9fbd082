package vfs

// Counts returns how many mounts there are, and how many of them the first tree counts.
func (ns *Namespace) Counts() (all, first int) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return len(ns.all), ns.first.mounts
}

// MountShare is how many bytes of memory there must be for each mount.
const MountShare = mountShare
