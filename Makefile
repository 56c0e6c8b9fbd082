# gosv: `make run` shows it work, `make help` lists the rest.

GO       ?= go
BIN      := bin
GOTEST    = $(GO) run ./internal/gotest
TOOLS    := $(CURDIR)/$(BIN)/tools
FUZZTIME ?= 30s
SOAKTIME ?= 10m

# The kernel is an ordinary Go executable, linked at the top of the address
# space and entered at a symbol of its own. 0xffffffff80201000 is −2145382400 as
# the linker wants it.
BOOT     := gosv/machine/floor.boot64
LINK     := -T -2145382400 -E $(BOOT) -buildid= -funcalign=4
KMAX     := 8000000
# build/kernel.mod is go.mod with gVisor's network stack cut down to what a kernel needs.
KBUILD    = GOOS=linux GOARCH=amd64 CGO_ENABLED=0 GOFLAGS= $(GO) build -modfile=build/kernel.mod -trimpath -buildvcs=false

# Packages whose tests run on the host, without a virtual machine.
HOSTPKGS  = $(shell $(GO) list ./... | grep -v '^gosv/test/')

.PHONY: all build kernel loaders run test test-host test-vm test-apps test-conformance fuzz-syscalls test-stress soak bench bench-net profile-net lint lint-lite fuzz clean setup help
.DEFAULT_GOAL := build

run: setup build ## run three programs, nginx among them, each in its own virtual machine
	@scripts/demo

build: kernel loaders ## build bin/gosv and the bootable bin/kernel.elf
	@mkdir -p cmd/gosv/kernel
	@cmp -s $(BIN)/kernel.elf cmd/gosv/kernel/kernel.elf || cp $(BIN)/kernel.elf cmd/gosv/kernel/kernel.elf
	$(GO) build -trimpath -o $(BIN)/gosv ./cmd/gosv
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/sysinfo ./examples/sysinfo

kernel:
	@mkdir -p $(BIN)
	@scripts/netstack build
	$(KBUILD) -ldflags '$(LINK) -s -w' -o $(BIN)/kernel.go.elf ./cmd/kernel
	$(GO) build -o $(BIN)/mkkernel ./cmd/mkkernel
	$(BIN)/mkkernel -max $(KMAX) $(BIN)/kernel.go.elf $(BIN)/kernel.elf

# The programs that start the kernel from a disk, see machine/boot.
loaders:
	@$(MAKE) -s -C machine/boot

# The same kernel with its symbols, for debuggers and for internal/archtest.
$(BIN)/kernel.sym.elf: kernel
	$(KBUILD) -ldflags '$(LINK)' -o $@ ./cmd/kernel

test: setup build lint-lite test-host test-vm ## everything that must pass: checks, host tests, virtual machine tests

test-host: $(BIN)/kernel.sym.elf ## test what runs without a virtual machine, with the race detector
	GOSV_KERNEL_SYM=$(CURDIR)/$(BIN)/kernel.sym.elf $(GOTEST) -race -timeout 10m $(HOSTPKGS)
	GOSV_NETSTACK=kernel $(GO) test -modfile=build/kernel.mod -race -run 'TestLoss|TestDelayed|TestQuick|TestTimeouts|TestLinger2|TestDisconnect|TestUSO|TestUnresolved' ./kernel/net
	$(GO) -C third_party/netstack test ./...

test-vm: build ## run real programs in virtual machines
	GOSV=$(CURDIR)/$(BIN)/gosv $(GOTEST) -v -count=1 -timeout 20m ./test/...

soak: build ## run garbage collection, faults, threads and signals for SOAKTIME (10m), and kill 50 machines that write to a disk
	GOSV=$(CURDIR)/$(BIN)/gosv GOSV_SOAK=$(SOAKTIME) $(GO) test -count=1 -v -timeout 0 -run 'Soak|Killed' ./test/...

fuzz-syscalls: build ## make random system calls in a machine for TIME (5m), from SEED or one by chance, which is printed
	GOSV=$(CURDIR)/$(BIN)/gosv GOSV_FUZZ_TIME=$(or $(TIME),5m) GOSV_FUZZ_SEED=$(SEED) $(GO) test -count=1 -v -timeout 0 -run FuzzSyscalls ./test/vm

test-apps: setup build ## run real applications of Debian, on Linux and in virtual machines, and print a table
	GOSV_APPS=$(CURDIR)/build/apps/root $(GO) test -count=1 -v -timeout 0 -run Apps ./test/apps

test-conformance: setup build ## run Linux's own selftests and the tests of Go's standard library, on Linux and in virtual machines, and print a table
	test/conformance/build build/conformance
	GOSV=$(CURDIR)/$(BIN)/gosv GOSV_CONFORMANCE=$(CURDIR)/build/conformance $(GO) test -count=1 -v -timeout 0 ./test/conformance/...

test-stress: setup build ## run every stressor of stress-ng in virtual machines, and print a table
	GOSV=$(CURDIR)/$(BIN)/gosv GOSV_STRESS=1 $(GO) test -count=1 -v -timeout 0 ./test/stress

bench: setup build ## measure, beside Linux, and write docs/benchmarks.md
	GOSV=$(CURDIR)/$(BIN)/gosv $(GO) run ./bench -o docs/benchmarks.md

bench-net: setup build ## measure servers on the network, beside Linux, and write docs/benchmarks-net.md (as root: debootstrap, a network namespace)
	test/apps/mkroot build/apps/root
	$(GO) build -o $(BIN)/bench ./bench
	$(BIN)/bench -net build/apps/root -o docs/benchmarks-net.md

profile-net: setup $(BIN)/kernel.sym.elf ## count the instructions that the loads LOADS of bench-net need, by function, beside Linux (as root)
	test/apps/mkroot build/apps/root
	$(GO) build -o $(BIN)/bench ./bench
	$(BIN)/bench -net build/apps/root -loads '$(or $(LOADS),redis:get1$$)' -profile 60

lint-lite: $(TOOLS)/staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...

lint: lint-lite $(TOOLS)/checklocks $(TOOLS)/govulncheck ## gofmt, vet, staticcheck, checklocks, govulncheck
	@scripts/checklocks $(TOOLS)/checklocks
	@scripts/vulncheck $(TOOLS)/govulncheck

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@scripts/fuzz $(FUZZTIME)

# The tools' versions are pinned in a module of their own.
$(TOOLS)/%: tools/go.mod tools/go.sum
	GOBIN=$(TOOLS) $(GO) -C tools install tool
	@touch $(TOOLS)/*

setup:
	@scripts/setup

clean: ## remove what was built
	rm -rf $(BIN) build cmd/gosv/kernel/kernel.elf image/disk/loader/*.bin image/disk/loader/*.elf

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
