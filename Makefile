# SPDX-License-Identifier: GPL-2.0
#
# The front door: each target is a line into lab/, where a script says what it does and what it takes. What stands behind a target on the
# command line (make run INPUT=file) reaches the script.

.PHONY: help run guest guest-test test shell matrix unit model judge module mutants fuzz soak regress bench bench-quick profile kernel builds bisect tree series series-check export applies debian-patches qemu-tree qemu-series qemu-series-check qemu-bisect qemu-export emulator-tree emulator-series emulator-series-check emulator-export docs check clean
.NOTPARALLEL:

# Every step says how long ago this began.
export LAB_START := $(or $(LAB_START),$(shell date +%s))
FLAVOUR ?= $(if $(filter arm64,$(ARCH)),arm64,debug)

help: ## what there is (this)
	@echo 'Private and shared memory of a confidential VM, converted in place: a patch series for Linux, and its lab.'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo
	@sed -n 's/^#: //p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: ## boot the kernel and let the sample VMM convert a file's pages; ends in its table
	@lab/run

test: ## everything that shows that it works; ends in "N passed, N failed, N skipped"
	@lab/test

shell: ## a shell in the emulated machine, with tests, tracepoints and fdinfo at hand (BOOT=in-place; GDB=1: wait for a debugger)
	@lab/test shell

matrix: ## the tests in every mode: default, KVM_ENABLE_CAP, CONFIG_KVM_VM_MEMORY_ATTRIBUTES, nested paging; ends in a table
	@LAB_TESTS=lab/matrix.tests lab/test

unit: ## the tests that need no kernel: gmem_attributes in userspace, with ASan and UBSan
	@lab/unit

judge: ## the tests of what says passed or failed, on recorded logs (BOOTS=1: and on a boot whose tests are hard to kill)
	@lab/judge $(if $(BOOTS),--boot)

module: ## load, use and unload KVM, a hundred times, in each of make test's boots
	@LAB_TESTS=lab/module.tests lab/test

model: ## what a model of the protocol says, and what breaks without each of its steps; ends in "N passed, N failed, N skipped"
	@lab/model $(STEP)

mutants: ## put deliberate bugs into KVM, one at a time; ends in "N killed, N survived"
	@lab/mutants

soak: ## the stress test for MINUTES, with its running counts; ends in "N passed, N failed, N skipped"
	@FLAVOUR=$(FLAVOUR) lab/soak

guest: ## a real VMM and a whole Linux as its guest: Debian's kernel in QEMU, in place and with two backings; ends in a table
	@lab/guest

guest-test: ## the same under stress, with hotplug, a balloon, reboots, kexec, SIGKILL; on the debug kernel, too
	@lab/guest test

fuzz: ## hostile input made up by machines: libFuzzer on the tree, programs of all calls guided by kcov; ends in a table (MINUTES=n: for each)
	@lab/fuzz

regress: ## Linux's own KVM selftests on the base and on the series, all modes, with and without nested paging; prints what differs
	@lab/regress

bench: ## how fast it is, in place, in VM mode and on the base; writes lab/docs/bench.md and ends in a table
	@lab/bench

bench-quick: ## the same of small rows, in minutes; goes to out/bench-quick
	@lab/bench quick

profile: ## where the time of a ROW of the benchmark goes: instructions by function (MODE=vm or base: of the old way)
	@lab/profile '$(ROW)' $(MODE)

kernel: tree ## build the kernel of a FLAVOUR
	@lab/kernel $(FLAVOUR)

builds: tree ## compile KVM in every configuration that matters, with W=1; ends in "N built, N failed, N skipped"
	@lab/builds $(BUILDS)

bisect: ## does every patch of the series build? (PATCHES="FIRST LAST": only these)
	@lab/bisect $(PATCHES)

tree: ## lay out linux/: the base, and the series on top as commits
	@lab/tree

series: ## take the commits in linux/ back into patches/ and the new files
	@lab/series

series-check: ## do the repository and linux/ agree? (silent if so)
	@lab/series-check

export: ## write the series to out/, ready for git am and for the list (PART=name: only that part)
	@lab/export

applies: ## does the series apply to another Linux, and how well? (TO=tree, tarball or linux-source-7.2; BUILD=1: and build it)
	@lab/applies '$(TO)' $(if $(BUILD),build)

debian-patches: ## write the series as a quilt queue for Debian's source package linux, to out/debian-patches
	@lab/debian-patches

qemu-tree: ## lay out qemu/: QEMU, and the series in vmm/qemu on top as commits
	@PROJECT=qemu lab/tree

qemu-series: ## take the commits in qemu/ back into vmm/qemu
	@PROJECT=qemu lab/series

qemu-series-check: ## do vmm/qemu and qemu/ agree? (silent if so)
	@PROJECT=qemu lab/series-check

qemu-bisect: ## build QEMU's patches one by one, each on top of those before it
	@lab/vmm each

qemu-export: ## write QEMU's series to out/, ready for git am and for the list
	@PROJECT=qemu lab/export

emulator-tree: ## lay out emulator/: QEMU as what emulates the machine, and the series in vmm/emulator on top as commits
	@PROJECT=emulator lab/tree

emulator-series: ## take the commits in emulator/ back into vmm/emulator
	@PROJECT=emulator lab/series

emulator-series-check: ## do vmm/emulator and emulator/ agree? (silent if so)
	@PROJECT=emulator lab/series-check

emulator-export: ## write the emulator's series to out/, ready for git am and for the list
	@PROJECT=emulator lab/export

docs: ## make lab/docs/clauses.md, and build Linux's documents on KVM as HTML
	@lab/documents

check: ## all that can be checked without a boot; silent if all is well
	@lab/check

clean: ## remove what was built (out/), but not linux/, which may hold work
	@lab/clean

#: ARCH=arm64	make test: VMs without private memory, on the EL2 that QEMU emulates
#: PART=name	make export: a part of the series; patches/7.3/cover-letter has a section for each: mm, kvm-fixes, feature, ...
#: INPUT=file	what make run hands to the guest
#: TESTS="..."	make test: only tests whose names have one of these words in them, in the boots that have them
#: BOOT=name	make shell: one of make test's boots (in-place); FLAVOUR=gdb has debug information
#: FLAVOUR=kasan	make test: its boots on a kernel with KASAN, kmemleak, UBSAN and DEBUG_OBJECTS; kcsan: one that looks for data races
#: BOOTS="..."	make test, make regress, make guest-test: only these boots (check, unit and model are some of make test's)
#: STEP=name	make model: print what happens without that step
#: FLAVOUR=name	what make kernel builds, and make soak boots: a line of lab/configs/flavours (debug; arm64 with ARCH=arm64)
#: MINUTES=n SEED=n	make soak: for how long (10), and what chooses what is done; a failure names its seed
#: FUZZ="part ..."	make fuzz: only these of tree and boot
#: ROWS="pattern ..."	make bench: only these rows (convert.*.4k), and the result goes to out/bench-rows
#: ROW=name	what make profile looks at: a row of lab/docs/bench.csv
#: BUILDS="name ..."	what make builds compiles: lines of lab/configs/builds (all of them)
#: LINUX_TARBALL=file	for make tree without Debian or offline: a tarball of the Linux that lab/base names
#: LINUX_TREE=dir	the same, unpacked
#: QEMU_TARBALL=file	for make qemu-tree: a tarball of the QEMU that lab/base-qemu names
#: ACCEPT_NEWER=1	take a later stable release than that; the patches must apply without fuzz
#: QEMU=program	what emulates the machine, instead of the version that lab/base names
#: DISK=image	make guest: a distribution's disk, with a file system or partitions; its /sbin/init is what the guest boots
#: VMM=program	make guest: a QEMU with the series, instead of building one
#: TO=tree	make applies: a tree of Linux, a tarball of one, or Debian's package of one
#: FORCE=1	make series: linux/ wins over what was edited here
#: VERBOSE=1	make check: say what it is doing
