# SPDX-License-Identifier: Apache-2.0
# Zumastor: `make bench` runs the main job, `make test` the tests, `make` this help.

GO       ?= go
SUITE    ?= quick
FUZZTIME ?= 10s
SOAK     ?= 5m
export GOFLAGS := $(filter-out -mod=%,$(GOFLAGS)) -mod=readonly

# What `make bench` hands to zbench; each is empty unless given.
BENCH_FLAGS = $(if $(DEVICE),--device $(DEVICE)) $(if $(filter yes,$(FORCE)),--force) $(if $(CHUNKS),--chunks $(CHUNKS)) \
	$(if $(PLACEMENTS),--placements $(PLACEMENTS)) $(if $(SNAPSHOTS),--snapshots $(SNAPSHOTS)) $(if $(DIR),--dir $(DIR)) \
	$(if $(EXPERIMENTS),--experiments $(EXPERIMENTS)) $(if $(RESUME),--resume $(RESUME))

# The revision in programs that Go puts none into: in linked work trees of git, and with -buildvcs=false.
STAMP = -X zumastor.org/zumastor/results.stamp=$(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null)

# Peers and clients that make the figures and tests complete. Nothing fails without them.
TOOLS    = fio xdelta3 bzip2 zstd rsync sqlite3 qemu-nbd qemu-img nbdinfo nbdcopy spin gcc
PACKAGES = fio xdelta3 bzip2 zstd rsync sqlite3 qemu-utils libnbd-bin spin gcc libc6-dev

# What tests alone need: a browser for the scripts of pages.
TEST_TOOLS    = chromium
TEST_PACKAGES = chromium

# What the lab needs, called by its targets only.
LAB_TOOLS    = qemu-system-x86_64 mmdebstrap mkfs.ext4 depmod xz make gcc pahole sparse
LAB_PACKAGES = qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs kmod xz-utils make gcc pahole sparse
LAB_DEBUG_TOOLS    = bc flex bison /usr/include/libelf.h /usr/include/openssl/ssl.h
LAB_DEBUG_PACKAGES = bc flex bison libelf-dev libssl-dev

.DEFAULT_GOAL := help
.PHONY: help deps deps-test deps-lab build deb test test-root test-fleet race crash fuzz-smoke lint generate bench goals report paper paper-check compare baseline trend record lab lab-debug-kernel test-lab ci clean

help: ## show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make bench takes SUITE=smoke|quick|full|delta DEVICE= FORCE=yes CHUNKS= PLACEMENTS= SNAPSHOTS= EXPERIMENTS= DIR= RESUME="

deps: ## install what is missing: as root the optional tools too, else say which
	@.ci/deps "$(PACKAGES)" $(TOOLS)

deps-test: deps ## install what tests alone need: a headless Chromium
	@.ci/deps "$(TEST_PACKAGES)" $(TEST_TOOLS)

deps-lab: deps ## install what the lab needs: QEMU, mmdebstrap and more
	@.ci/deps "$(LAB_PACKAGES)" $(LAB_TOOLS)

build: deps ## build bin/ddsnap and bin/zbench
	@$(GO) build -ldflags '$(STAMP)' -o bin/ ./cmd/...

test: deps-test ## all tests that need no root and no network
	GOGC=400 $(GO) test -timeout 10m ./...

test-root: deps ## tests that attach block devices and mount file systems: as root
	ZUMASTOR_TEST_ROOT=1 $(GO) test -count=1 -timeout 10m ./engine/attach/... ./cmd/ddsnap/cli

test-fleet: deps ## jobs on a real Nomad and Slurm on loopback, and Kubernetes' validation: as root, with munge slurmctld slurmd slurm-client
	ZUMASTOR_TEST_FLEET=1 $(GO) test -count=1 -timeout 30m -v -run 'Nomad|Slurm|Kubernetes' ./harness/fleet

race: deps-test ## the tests under the race detector
	GOGC=400 $(GO) test -race -timeout 60m ./...

crash: deps ## crash and metamorphic tests for SOAK (default 5m)
	ZUMASTOR_SOAK=$(SOAK) $(GO) test -timeout 24h -run 'Soak|Crash|Metamorphic' -v ./engine/metamorphic ./engine/store ./engine/volume

fuzz-smoke: deps ## every fuzz target for FUZZTIME (default 10s)
	@.ci/fuzz $(FUZZTIME)

deb: build ## build the Debian packages ddsnap and ddsnap-dkms into bin/deb
	packaging/deb

generate: deps ## make manual pages, shell completions, eBPF objects and other generated files again
	@.ci/deps "clang-14 llvm-14 libbpf-dev" clang-14 llvm-strip-14 /usr/include/bpf/bpf_helpers.h
	$(GO) generate ./...

lint: deps ## gofmt, go mod tidy, vet, staticcheck, the rules of harness/lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run gofmt -w on these"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./harness/lint

bench: build $(if $(LAB),deps-lab) ## run the benchmark suite: SUITE=smoke (45 s), quick (8 min), full, delta; LAB=1: the kernel's target, too
	bin/zbench run --suite $(SUITE) $(BENCH_FLAGS)
	$(if $(LAB),bin/zbench lab bench --into latest $(LAB_FLAGS))

goals: build ## the goals' table of the newest run
	@bin/zbench goals

report: build ## make the newest run's report again
	@bin/zbench report

paper: build ## fill PAPER.md from the newest run, if there is one, and from what is recorded of others: RUN= names a run
	bin/zbench paper $(if $(RUN),--from $(RUN),$(if $(wildcard results/runs/latest),--from latest))

paper-check: build ## fail if a number or figure of PAPER.md is not what its run gives
	bin/zbench paper --check

compare: build ## compare two runs: A= B=; or the speed of the working tree with a revision: REF=
	@$(if $(REF),bin/zbench against $(REF),bin/zbench compare $(A) $(B))

baseline: build ## compare exact counters with those in git (zbench baseline record accepts what moved), and check the history
	@bin/zbench baseline check
	@bin/zbench history check

trend: build ## make the page of what is recorded over time: results/trend/trend.html
	@bin/zbench trend

record: build ## record a trace again (root): NAME=untar-go
	bin/zbench record $(NAME)

test-lab: build deps-lab ## the kernel tests in virtual machines, on both of Debian's kernels
	bin/zbench lab test --kernel debian --again

lab: build deps-lab ## build the virtual machines' kernels and root image
	bin/zbench lab build

lab-debug-kernel: build deps-lab ## compile a kernel with KASAN and lockdep for the lab: ten minutes or some
	@.ci/deps "$(LAB_DEBUG_PACKAGES)" $(LAB_DEBUG_TOOLS)
	bin/zbench lab build --debug

ci: ## what continuous integration runs
	.ci/run

clean: ## remove what was built; runs stay
	rm -rf bin
