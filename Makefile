# Locktide. `make` alone lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

# A bare CI shell may lack these.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
export GOWORK := off
ifeq ($(strip $(HOME)),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD     := go build -buildvcs=false -trimpath -ldflags '-X main.version=$(VERSION)'
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

# Packages whose tests start real servers; one at a time, they share two cores and the loopback.
REAL := ^locktide\.dev/(drivers/(nomad|consul|nginx|devstack)|e2e)(/|$$)
# Packages with goroutines. The race detector finds nothing in the pure core and makes its property tests ten times slower.
RACE := ^locktide\.dev/(reconciler(/(journal|gitsource|gate).*)?|drivers/memory)$$

# Tests that play whole fleets for minutes; the race detector sees the same loop in all the others.
FLEETS := ^(TestHistories|TestScenariosOf|TestEveryGuardIsNeeded|Test.*OfAThousand)

FUZZTIME ?= 30s
CHECKS   ?= 100000
HISTORIES ?= 100000
SEED     ?= $(shell date +%s)
RUN      ?= .

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: deps servers build ## A commit becomes a served route, on real Nomad, Consul and nginx
	bin/locktide dev --demo

.PHONY: test
test: deps engine tools build test-core test-fuzz test-real ## Everything that CI checks

.PHONY: test-core
test-core: tools ## Vet, and the tests that need no server
	@set -e; all=$$(go list ./...); [ -n "$$all" ] || exit 0; \
	core=$$(echo "$$all" | grep -vE '$(REAL)' || true); \
	race=$$(echo "$$core" | grep -E '$(RACE)' || true); \
	plain=$$(echo "$$core" | grep -vE '$(RACE)' || true); \
	echo '== go vet'; go vet $$all; \
	if [ -n "$$plain" ]; then echo '== tests without servers'; go test -timeout 10m $$plain; fi; \
	echo '== whole fleets: random histories, scenarios that die at every step, a thousand groups'; \
	go test -count=1 -timeout 25m -run '$(FLEETS)' ./reconciler -histories 10000; \
	if [ -n "$$race" ]; then echo '== tests without servers, race detector (a failed test is run again and shown)'; \
		bin/gotestsum --format pkgname --rerun-fails=2 --rerun-fails-max-failures=6 --packages="$$(echo $$race)" -- -race -timeout 15m -skip '$(FLEETS)'; fi

.PHONY: test-fuzz
test-fuzz: # Every decoder meets some inputs that nobody thought of.
	@.ci/fuzz 2s

.PHONY: test-real
test-real: tools ## The tests on real servers (RUN=pattern, a failed test is run again and shown)
	@set -e; all=$$(go list ./...); real=$$(echo "$$all" | grep -E '$(REAL)' || true); [ -n "$$real" ] || exit 0; \
	echo '== tests on real servers'; \
	bin/gotestsum --format testname --rerun-fails=2 --rerun-fails-max-failures=6 \
		--packages="$$(echo $$real)" -- -p 1 -count=1 -timeout 25m -run '$(RUN)'

.PHONY: e2e
e2e: deps tools build ## The black-box tests only (RUN=pattern)
	@set -e; all=$$(go list ./...); pkgs=$$(echo "$$all" | grep -E '^locktide\.dev/e2e(/|$$)' || true); [ -n "$$pkgs" ] || exit 0; \
	bin/gotestsum --format standard-verbose --packages="$$(echo $$pkgs)" -- -p 1 -count=1 -timeout 25m -run '$(RUN)'

.PHONY: check
check: fmt-check vet lint ## Format, vet and lint

.PHONY: fmt-check
fmt-check:
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not formatted, run gofmt -w on:"; echo "$$bad"; exit 1; }

.PHONY: vet
vet:
	@all=$$(go list ./...) && { [ -z "$$all" ] || go vet $$all; }

.PHONY: lint
lint: ## golangci-lint, as .golangci.yml says
	@.ci/tool golangci-lint
	bin/golangci-lint run ./...

.PHONY: prop
prop: histories ## Property tests at length (CHECKS=100000 HISTORIES=100000 SEED=now)
	@set -e; pkgs=$$(go list -f '{{range .TestImports}}{{.}} {{end}}{{range .XTestImports}}{{.}} {{end}}{{"\t"}}{{.ImportPath}}' ./... \
		| awk -F '\t' '$$1 ~ /pgregory\.net\/rapid/ {print $$2}'); \
	[ -n "$$pkgs" ] || exit 0; \
	echo "== $(CHECKS) cases each, seed $(SEED)"; \
	go test -count=1 -timeout 2h $$pkgs -rapid.checks=$(CHECKS) -rapid.seed=$(SEED)

.PHONY: histories
histories: ## Random histories of whole fleets; those that fail are kept (HISTORIES=100000 SEED=now)
	@echo "== $(HISTORIES) histories, seed $(SEED)"; \
	go test ./reconciler -count=1 -timeout 2h -run '^TestHistories$$' -histories $(HISTORIES) -histories.seed $(SEED) -histories.keep

.PHONY: mutate
mutate: ## Take each guard of the engine away and show which property misses it
	@set -e; out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	go test -count=1 -timeout 1h -v -run '^(TestGuards|TestGuardsOfSingleProperties|TestGuardsBite|TestEveryGuardIsNeeded)$$' \
		./reconciler ./reconciler/planner ./reconciler/rollout ./reconciler/ledger >"$$out" || { grep -vE '^=== ' "$$out"; exit 1; }; \
	grep -hE 'without the guard|^ok' "$$out" | sed 's/^ *[a-z_]*test.go:[0-9]*: //' | cut -c1-200

.PHONY: fuzz
fuzz: ## Every fuzz target for a while (FUZZTIME=30s)
	@.ci/fuzz $(FUZZTIME)

.PHONY: bench
bench: deps servers build ## Benchmarks as a table, on a real Nomad
	go run ./e2e/bench

.PHONY: cross
cross: ## Build for linux and darwin, amd64 and arm64; for darwin also vet and compile the tests
	@set -e; for p in $(PLATFORMS); do \
		export CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/}; echo "== $$p"; \
		go build -buildvcs=false ./...; \
		[ ! -d cmd/locktide ] || $(BUILD) -o bin/locktide-$$GOOS-$$GOARCH ./cmd/locktide; \
		[ $$GOOS != darwin ] || { go vet ./...; go test -c -o /dev/null ./...; }; \
	done

.PHONY: build
build: ## bin/locktide
	@[ ! -d cmd/locktide ] || $(BUILD) -o bin/locktide ./cmd/locktide

.PHONY: servers
servers: ## bin/nomad and bin/consul at the pinned versions
	@.ci/tool nomad
	@.ci/tool consul

.PHONY: tools
tools: servers ## The servers and the test runner
	@.ci/tool gotestsum

.PHONY: deps
deps: ## Install missing Debian packages (nginx, curl, jq, git, ...)
	@.ci/deps nginx=nginx-light curl=curl jq=jq git=git gpg=gnupg ssh-keygen=openssh-client pkill=procps gcc=gcc,libc6-dev

# A Docker engine for the test of the task drivers. Without one the test checks what the server says of the job.
.PHONY: engine
engine:
	@timeout 300 .ci/deps dockerd=docker.io || echo 'no Docker engine could be installed: docker tasks are not run'
