# kmagent: `make demo` shows it at work, `make test` runs everything that CI runs. See README.md.

prefix = /usr/local
sysconfdir = /etc
DESTDIR =

bindir = $(prefix)/bin
libdir = $(prefix)/lib/kmagent
datadir = $(prefix)/share
mandir = $(datadir)/man
confdir = $(sysconfdir)/kmagent

CARGO = cargo
INSTALL = install
export CARGO_TARGET_DIR ?= $(CURDIR)/target
arch := $(shell uname -m)
agent = $(CARGO_TARGET_DIR)/$(shell dist/arch triple $(arch))/release/kmagent
# The collector to install, when there is one: yours, or what `make collector` has built, and not what was built for
# releases.
collector = $(or $(KM_COLLECTOR),$(shell dist/collector/build --find))

# The agent that ships: one static binary.
build:
	tests/prepare build
	dist/cross $(arch) build --release --bin kmagent

# The tarballs, in target/dist; dist/release tells of them. Takes Go as well.
dist:
	tests/prepare dist
	dist/release $(RELEASE)

# The collector that goes with it; it takes Go and, the first time, minutes.
collector:
	@dist/collector/build

# The debug build will do, since it is there sooner.
demo:
	tests/prepare demo
	@echo 'demo: building agent and collector; the first time takes about three minutes on two cores'
	@$(MAKE) --no-print-directory -j2 demo-agent collector
	@tests/demo/run $(CARGO_TARGET_DIR)/debug/kmagent $(CARGO_TARGET_DIR)/debug/examples/demo-api "$$(dist/collector/build)"

demo-agent:
	$(CARGO) build --locked --bin kmagent --example demo-api

test:
	tests/prepare test
	tests/run all

# The part of it that takes seconds.
check:
	tests/prepare check
	tests/run quick

# Needs no Rust, so that it can run as root where Rust is not root's.
install:
	@test -x $(agent) || { echo "nothing to install yet: run make first" >&2; exit 69; }
	$(INSTALL) -d $(DESTDIR)$(bindir) $(DESTDIR)$(libdir) $(DESTDIR)$(confdir)
	$(INSTALL) -m 755 $(agent) $(DESTDIR)$(bindir)/kmagent
	$(if $(collector),$(INSTALL) -m 755 $(collector) $(DESTDIR)$(libdir)/kmagent-collector)
	$(INSTALL) -d $(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man7 $(DESTDIR)$(mandir)/man8
	$(INSTALL) -m 644 man/kmagent.yaml.5 $(DESTDIR)$(mandir)/man5/kmagent.yaml.5
	$(INSTALL) -m 644 man/kmagent-check.7 $(DESTDIR)$(mandir)/man7/kmagent-check.7
	$(INSTALL) -m 644 man/kmagent-cluster.8 $(DESTDIR)$(mandir)/man8/kmagent-cluster.8
	$(INSTALL) -m 644 man/kmagent.8 $(DESTDIR)$(mandir)/man8/kmagent.8
	$(INSTALL) -d $(DESTDIR)$(datadir)/bash-completion/completions $(DESTDIR)$(datadir)/zsh/site-functions \
	    $(DESTDIR)$(datadir)/fish/vendor_completions.d
	$(INSTALL) -m 644 dist/completions/kmagent.bash $(DESTDIR)$(datadir)/bash-completion/completions/kmagent
	$(INSTALL) -m 644 dist/completions/_kmagent $(DESTDIR)$(datadir)/zsh/site-functions/_kmagent
	$(INSTALL) -m 644 dist/completions/kmagent.fish $(DESTDIR)$(datadir)/fish/vendor_completions.d/kmagent.fish
	test -e $(DESTDIR)$(confdir)/config.yaml || $(INSTALL) -m 600 dist/config.yaml $(DESTDIR)$(confdir)/config.yaml
	test -e $(DESTDIR)$(confdir)/agent.yaml || $(INSTALL) -m 600 dist/agent.yaml $(DESTDIR)$(confdir)/agent.yaml

clean:
	$(CARGO) clean
	rm -rf .cache

.PHONY: build dist collector demo demo-agent test check install clean
