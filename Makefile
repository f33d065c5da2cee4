# The two commands of a newcomer are `make demo` and `make test`; both do all set-up themselves.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export MAKE_TARGET := $(firstword $(MAKECMDGOALS))

.PHONY: help setup demo test check bench chaos lab lab-shell lock clean

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

setup: ## Install packages, the locked dependencies and the worker's user; a second run does nothing
	@scripts/setup

demo: setup ## Create a VM through both queues, run a command in it, delete it
	@scripts/demo

test: ## Everything: images, linters, all tests; the last line is pytest's count
	@scripts/setup --tests
	@scripts/test

check: ## Linters, types, import contracts, root's budget
	@scripts/setup --tests
	@scripts/check

bench: setup ## The numbers that we promise, measured on this machine
	@scripts/bench

chaos: ## Kill the services at every point and N times at random (make chaos N=1000 SEED=42)
	@scripts/setup --tests
	@scripts/chaos $(if $(N),--kills $(N)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

lab: ## Prove the farm on a Debian host with systemd, device-mapper and KVM, which is made and booted here
	@scripts/setup --tests
	@scripts/lab

lab-shell: ## A Debian VM as the farm's host, with a farm installed, and a shell in it
	@scripts/setup --tests
	@scripts/lab --shell

lock: ## Resolve the dependencies anew (make lock UPGRADE=1 takes newer versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

clean: ## Remove what builds, tests and linters left in this clone; not the farm's state
	@rm -rf .venv build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
