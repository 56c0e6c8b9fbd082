// Package apps runs unmodified Debian 12 applications in virtual machines and
// tells which of them do their work.
//
// run.sh holds a self-check for each application; all of them pass on Linux.
// apps.txt says for each check which packages it needs, how much memory the
// machine gets, and what of the kernel must be there. mkroot installs the
// packages into build/apps/root; a machine's root file system holds of it what the
// application's packages and those they depend on own.
//
// `make test-apps` runs them all, on Linux first, and prints a table. For one of them:
//
//	go test ./test/apps -run Apps/python3 -v
//
// These variables change what happens:
//
//	GOSV_APPS_ALL=1        run checks whose needs are not met yet as well
//	GOSV_APPS_LINUX=0      do not run them on Linux first
//	GOSV_APPS_CPUS=2       processors of a machine
//	GOSV_APPS_LIMIT=1m     how long a machine may run
//	GOSV_APPS_TRACE=DIR    write every system call to DIR/NAME.strace
//	GOSV_APPS_DISK="a b"   the checks that run from disks, EROFS and ext4; "all" for all of apps.txt
//	GOSV_APPS_COMMAND=...  run this shell command in place of the check
package apps
