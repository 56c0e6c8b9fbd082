package syscall

import "golang.org/x/sys/unix"

// fill makes the table. Every number has a row.
func (s *Calls) fill() {
	r := &s.rows
	for _, f := range []func(*table){
		ioRows, fdRows, pathRows, changeRows, fileHandleRows, pollRows, epollRows, memRows, procRows, execRows, credRows, sigRows, timeRows, futexRows, handleRows, spliceRows, ptraceRows, seccompRows, s.sysvRows, s.systemRows,
		s.msgRows, s.mqRows, numaRows, ioprioRows, s.timexRows,
		mountFDRows, aioRows, s.uringRows,
		s.socketRows,
	} {
		f(r)
	}
	for _, m := range absent {
		for _, c := range m.calls {
			r[c.nr] = missing(c.name, m.errno, m.note)
		}
	}
	for _, h := range hot {
		r[h.nr].call = h.call
	}
	for nr := range r {
		if r[nr] == nil {
			r[nr] = missing("", unix.ENOSYS, "no such call")
		}
	}
}

type number struct {
	nr   int
	name string
}

// absent are the calls that are not implemented, by the reason. The errno is what a Linux gives that was built without them.
var absent = []struct {
	errno unix.Errno
	note  string
	calls []number
}{
	{unix.ENOSYS, "fanotify, secret memory: no program asked for them", []number{
		{unix.SYS_FANOTIFY_INIT, "fanotify_init"}, {unix.SYS_FANOTIFY_MARK, "fanotify_mark"},
		{unix.SYS_MEMFD_SECRET, "memfd_secret"},
	}},
	{unix.ENOSYS, "NUMA: one node", []number{{unix.SYS_SET_MEMPOLICY_HOME_NODE, "set_mempolicy_home_node"}}},
	{unix.ENOSYS, "Landlock, keys, BPF, profiling: not part of this kernel", []number{
		{unix.SYS_LANDLOCK_CREATE_RULESET, "landlock_create_ruleset"},
		{unix.SYS_LANDLOCK_ADD_RULE, "landlock_add_rule"}, {unix.SYS_LANDLOCK_RESTRICT_SELF, "landlock_restrict_self"},
		{unix.SYS_ADD_KEY, "add_key"}, {unix.SYS_REQUEST_KEY, "request_key"}, {unix.SYS_KEYCTL, "keyctl"}, {unix.SYS_BPF, "bpf"},
		{unix.SYS_PERF_EVENT_OPEN, "perf_event_open"}, {unix.SYS_USERFAULTFD, "userfaultfd"}, {unix.SYS_LOOKUP_DCOOKIE, "lookup_dcookie"},
		{unix.SYS_LSM_GET_SELF_ATTR, "lsm_get_self_attr"}, {unix.SYS_LSM_SET_SELF_ATTR, "lsm_set_self_attr"}, {unix.SYS_LSM_LIST_MODULES, "lsm_list_modules"},
	}},
	{unix.ENOSYS, "newer than Linux 6.1: /proc/self/mountinfo tells it", []number{{unix.SYS_LISTMOUNT, "listmount"}, {unix.SYS_STATMOUNT, "statmount"}}},
	{unix.EPERM, "the host's business", []number{
		{unix.SYS_SWAPON, "swapon"}, {unix.SYS_SWAPOFF, "swapoff"}, {unix.SYS_ACCT, "acct"},
		{unix.SYS_IOPL, "iopl"}, {unix.SYS_IOPERM, "ioperm"},
		{unix.SYS_INIT_MODULE, "init_module"}, {unix.SYS_FINIT_MODULE, "finit_module"}, {unix.SYS_DELETE_MODULE, "delete_module"},
		{unix.SYS_KEXEC_LOAD, "kexec_load"}, {unix.SYS_KEXEC_FILE_LOAD, "kexec_file_load"},
		{unix.SYS_QUOTACTL, "quotactl"}, {unix.SYS_QUOTACTL_FD, "quotactl_fd"}, {unix.SYS_VHANGUP, "vhangup"},
	}},
	{unix.ENOSYS, "no program asked for them", []number{
		{unix.SYS_PROCESS_MRELEASE, "process_mrelease"}, {unix.SYS_CACHESTAT, "cachestat"},
		{unix.SYS_MAP_SHADOW_STACK, "map_shadow_stack"}, {unix.SYS_FUTEX_WAKE, "futex_wake"}, {unix.SYS_FUTEX_WAIT, "futex_wait"},
		{unix.SYS_FUTEX_REQUEUE, "futex_requeue"}, {unix.SYS_MSEAL, "mseal"}, {unix.SYS_MODIFY_LDT, "modify_ldt"},
		{unix.SYS_SYSFS, "sysfs"}, {unix.SYS_USTAT, "ustat"}, {unix.SYS_EPOLL_CTL_OLD, "epoll_ctl_old"}, {unix.SYS_EPOLL_WAIT_OLD, "epoll_wait_old"},
	}},
	{unix.ENOSYS, "gone from Linux too", []number{
		{unix.SYS_USELIB, "uselib"}, {unix.SYS__SYSCTL, "_sysctl"}, {unix.SYS_CREATE_MODULE, "create_module"},
		{unix.SYS_GET_KERNEL_SYMS, "get_kernel_syms"}, {unix.SYS_QUERY_MODULE, "query_module"}, {unix.SYS_NFSSERVCTL, "nfsservctl"},
		{unix.SYS_GETPMSG, "getpmsg"}, {unix.SYS_PUTPMSG, "putpmsg"}, {unix.SYS_AFS_SYSCALL, "afs_syscall"}, {unix.SYS_TUXCALL, "tuxcall"},
		{unix.SYS_SECURITY, "security"}, {unix.SYS_SET_THREAD_AREA, "set_thread_area"}, {unix.SYS_GET_THREAD_AREA, "get_thread_area"},
		{unix.SYS_VSERVER, "vserver"},
	}},
	{unix.ENOSYS, "probes: the kernel's own trampolines on Linux", []number{
		{unix.SYS_URETPROBE, "uretprobe"}, {unix.SYS_UPROBE, "uprobe"},
	}},
}
