# gosv: `make run` shows it work, `make help` lists the rest.

GO       ?= go
BIN      := bin
TOOLS    := $(CURDIR)/$(BIN)/tools
FUZZTIME ?= 30s
SOAKTIME ?= 10m

# The kernel: an ordinary Go executable, linked at the top of the address space.
BOOT     := gosv/machine/bare.boot64
LINKADDR := -2145382400# 0xffffffff80201000 as the linker's signed number
KMAX     := 4000000
KENV     := GOOS=linux GOARCH=amd64 CGO_ENABLED=0 GOFLAGS=
KFLAGS   := -trimpath -buildvcs=false

# Packages whose tests run on the host, without a virtual machine.
HOSTPKGS = $(shell $(GO) list ./... | grep -v -e '^gosv/test' -e '^gosv/cmd/kernel$$')

.PHONY: all run build test test-host test-vm bench lint lint-lite fuzz soak clean help setup kernel tools

all: build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the Debian packages that are missing
	@scripts/setup

kernel: ## build bin/kernel.elf, the bootable kernel
	@mkdir -p $(BIN) cmd/gosv/kernel
	$(KENV) $(GO) build $(KFLAGS) -ldflags '-T $(LINKADDR) -E $(BOOT) -s -w -buildid=' -o $(BIN)/kernel.go.elf ./cmd/kernel
	$(GO) build -o $(BIN)/mkkernel ./cmd/mkkernel
	$(BIN)/mkkernel -max $(KMAX) $(BIN)/kernel.go.elf $(BIN)/kernel.elf
