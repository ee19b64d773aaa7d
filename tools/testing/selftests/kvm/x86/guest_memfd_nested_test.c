// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test nested guests of software-protected VMs.  L2 has L1's pages at addresses
 * of its own; whether a page is private or shared is a matter of L1's address, no
 * matter what is at the same address in L1, or that nothing is.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <linux/falloc.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"
#include "ucall_common.h"
#include "vmx.h"

/*
 * Where L2 has L1's pages: where L1 has nothing, and where L1 has their neighbors,
 * i.e. page i at the address of page i ^ 1.  If L1 uses TDP for L2, these are L2's
 * guest physical addresses, and KVM has to look for L1's.  If not, they are guest
 * virtual addresses: L2's and L1's guest physical addresses are the same.
 */
#define L2_APART	GMEM_GPA2
#define L2_SWAPPED	GMEM_GPA

/* Variables of the guest: what L2 has to find in each page, and to leave there. */
static u64 l2_old[NR_PAGES];
static u64 l2_new[NR_PAGES];
static u64 *l2_mem;
static bool l2_exits_to_l1;

static bool l2_spins;
static bool l2_keeps_data;
static u64 l2_laps;

enum sync {
	SYNC_FROM_L1,
	SYNC_FROM_L2,
};

static void l2_access_pages(void)
{
	u64 *mem = READ_ONCE(l2_mem);
	int i;

	for (i = 0; i < NR_PAGES; i++) {
		GUEST_ASSERT_EQ(READ_ONCE(mem[i * WORDS_PER_PAGE]), READ_ONCE(l2_old[i]));
		WRITE_ONCE(mem[i * WORDS_PER_PAGE], READ_ONCE(l2_new[i]));
	}
}

static void l2_count_laps(void)
{
	u64 *mem = READ_ONCE(l2_mem);
	int i;

	while (READ_ONCE(l2_spins)) {
		for (i = 0; i < NR_PAGES; i++) {
			GUEST_ASSERT(READ_ONCE(mem[i * WORDS_PER_PAGE]) == l2_laps ||
				     !l2_keeps_data);
			WRITE_ONCE(mem[i * WORDS_PER_PAGE], l2_laps + 1);
		}
		WRITE_ONCE(l2_laps, l2_laps + 1);
	}
}

static void l2_guest_code(void)
{
	const bool is_vmx = this_cpu_has(X86_FEATURE_VMX);

	for (;;) {
		if (READ_ONCE(l2_spins))
			l2_count_laps();
		else
			l2_access_pages();

		if (!READ_ONCE(l2_exits_to_l1))
			GUEST_SYNC(SYNC_FROM_L2);
		else if (is_vmx)
			vmcall();
		else
			vmmcall();
	}
}

static void l1_vmx_code(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_guest_code);
	GUEST_ASSERT(!vmlaunch());

	for (;;) {
		GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + vmreadz(VM_EXIT_INSTRUCTION_LEN));
		GUEST_SYNC(SYNC_FROM_L1);
		GUEST_ASSERT(!vmresume());
	}
}

static void l1_svm_code(struct svm_test_data *svm)
{
	generic_svm_setup(svm, l2_guest_code);

	for (;;) {
		run_guest(svm->vmcb, svm->vmcb_gpa);
		GUEST_ASSERT_EQ(svm->vmcb->control.exit_code, SVM_EXIT_VMMCALL);
		/* Skip VMMCALL. */
		svm->vmcb->save.rip += 3;
		GUEST_SYNC(SYNC_FROM_L1);
	}
}

static void l1_guest_code(void *data)
{
	if (this_cpu_has(X86_FEATURE_VMX))
		l1_vmx_code(data);
	else
		l1_svm_code(data);
}

FIXTURE(nested) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	bool in_place;
	u8 *mem;
	int fd;

	/* What is private, and what L2 has left in shared and in private memory. */
	u64 state;
	u64 vals[2][NR_PAGES];
	u64 last_val;
};

FIXTURE_VARIANT(nested) {
	const struct vm_shape *shape;
	bool has_tdp;
};

FIXTURE_VARIANT_ADD(nested, in_place_tdp) {
	.shape = &in_place_shape,
	.has_tdp = true,
};

FIXTURE_VARIANT_ADD(nested, in_place_no_tdp) {
	.shape = &in_place_shape,
};

FIXTURE_VARIANT_ADD(nested, default_mode_tdp) {
	.shape = &default_mode_shape,
	.has_tdp = true,
};

FIXTURE_VARIANT_ADD(nested, default_mode_no_tdp) {
	.shape = &default_mode_shape,
};

static void map(struct kvm_vm *vm, bool has_tdp, gpa_t l2_addr, gpa_t l1_gpa)
{
	if (has_tdp) {
		virt_map(vm, l2_addr, l2_addr, 1);
		tdp_map(vm, l2_addr, l1_gpa, PAGE_SIZE);
	} else {
		virt_map(vm, l2_addr, l1_gpa, 1);
	}
}

FIXTURE_SETUP(nested)
{
	const bool has_tdp = variant->has_tdp;
	struct kvm_vm *vm;
	gva_t nested_gva;
	int i;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));
	if (!kvm_cpu_has(X86_FEATURE_VMX) && !kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "Needs nested virtualization");
	if (has_tdp && !kvm_cpu_has_tdp())
		SKIP(return, "Needs nested paging for nested guests");

	vm = __vm_create_shape_with_one_vcpu(*variant->shape, &self->vcpu, NR_PAGES * 2,
					     l1_guest_code);
	if (has_tdp)
		vm_enable_tdp(vm);
	if (kvm_cpu_has(X86_FEATURE_VMX))
		vcpu_alloc_vmx(vm, &nested_gva);
	else
		vcpu_alloc_svm(vm, &nested_gva);
	vcpu_args_set(self->vcpu, 1, nested_gva);

	self->vm = vm;
	self->in_place = vm_has_gmem_attributes(vm);
	self->fd = vm_create_guest_memfd(vm, GMEM_SIZE, self->in_place ? GMEM_FLAGS : 0);
	vm_mem_add(vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, self->fd, 0);
	self->mem = addr_gpa2hva(vm, GMEM_GPA);

	for (i = 0; i < NR_PAGES; i++) {
		map(vm, has_tdp, L2_APART + i * PAGE_SIZE, page_gpa(i));
		map(vm, has_tdp, L2_SWAPPED + i * PAGE_SIZE, page_gpa(i ^ 1));
	}

	/* L2 has everything else where L1 has it, its page tables included. */
	if (has_tdp)
		tdp_identity_map_default_memslots(vm);
}

FIXTURE_TEARDOWN(nested)
{
	if (!self->vm)
		return;

	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

/* Private memory of a VM in VM mode isn't where its shared memory is. */
static u64 *val_of(FIXTURE_DATA(nested) * self, int page)
{
	return &self->vals[!self->in_place && self->state & BIT_ULL(page)][page];
}

static void convert(FIXTURE_DATA(nested) * self, int page, bool private)
{
	if (private) {
		vm_mem_set_private(self->vm, page_gpa(page), PAGE_SIZE);
		self->state |= BIT_ULL(page);
	} else {
		vm_mem_set_shared(self->vm, page_gpa(page), PAGE_SIZE);
		self->state &= ~BIT_ULL(page);
	}
}

static void convert_all(FIXTURE_DATA(nested) * self, u64 state)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		if ((self->state ^ state) & BIT_ULL(i))
			convert(self, i, state & BIT_ULL(i));
}

/* Run L2, until it or L1 says that it's done. */
static void run_l2(FIXTURE_DATA(nested) * self, enum sync sync)
{
	struct kvm_run *run = self->vcpu->run;
	struct ucall uc;
	int r;

	write_guest_global(self->vm, l2_exits_to_l1, sync == SYNC_FROM_L1);

	r = vcpu_run_limited(self->vcpu);
	TEST_ASSERT(r != EINTR, "L2 doesn't get on");
	TEST_ASSERT(!r, "KVM_RUN failed, errno %d, exit %s, GPA 0x%llx, flags 0x%llx",
		    r, exit_reason_str(run->exit_reason), run->memory_fault.gpa,
		    run->memory_fault.flags);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_IO);

	if (get_ucall(self->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], sync);
}

/* Have L2 find in all pages what is there, and leave something else. */
static void access_pages(FIXTURE_DATA(nested) * self, gva_t l2_mem_gva, enum sync sync)
{
	int i, page;

	for (i = 0; i < NR_PAGES; i++) {
		page = l2_mem_gva == L2_SWAPPED ? i ^ 1 : i;
		l2_old[i] = *val_of(self, page);
		l2_new[i] = ++self->last_val;
		*val_of(self, page) = l2_new[i];
	}
	sync_global_to_guest(self->vm, l2_old);
	sync_global_to_guest(self->vm, l2_new);
	write_guest_global(self->vm, l2_mem, (u64 *)l2_mem_gva);

	run_l2(self, sync);

	/* It was L1's memory that L2 had. */
	for (i = 0; i < NR_PAGES; i++) {
		if (self->in_place && self->state & BIT_ULL(i))
			TEST_ASSERT(read_raises_sigbus(page_hva(self->mem, i)),
				    "Page %d should be private", i);
		else
			TEST_ASSERT_EQ(host_read(self->mem, i), self->vals[0][i]);
	}
}

/* Each differs from the one before it in many places. */
#define NR_STATES	7

static u64 get_state(int i)
{
	const u64 states[NR_STATES] = {
		0, ALL_PAGES, MIXED, ~MIXED, 0x5555555555555555ul, 0xaaaaaaaaaaaaaaaaul, 0,
	};

	return states[i];
}

/* C10, C15: Have L2 access pages of either state, and the VMM convert them. */
TEST_F(nested, access)
{
	int i;

	for (i = 0; i < NR_STATES; i++) {
		convert_all(self, get_state(i));
		access_pages(self, L2_APART, SYNC_FROM_L2);
		access_pages(self, L2_SWAPPED, SYNC_FROM_L2);

		/* Its page tables are there now, for both addresses of a page. */
		convert_all(self, get_state(i) ^ pages(i, 30));
		access_pages(self, L2_SWAPPED, SYNC_FROM_L2);
		access_pages(self, L2_APART, SYNC_FROM_L2);
	}
}

/* C10, C15: Have L2 go back to L1, which has the VMM convert pages before L2 goes on. */
TEST_F(nested, l1_converts)
{
	int i;

	for (i = 0; i < NR_STATES; i++) {
		access_pages(self, i & 1 ? L2_SWAPPED : L2_APART, SYNC_FROM_L1);
		convert_all(self, get_state(i));
	}
	access_pages(self, L2_APART, SYNC_FROM_L1);
}

/* C12: Punch a hole in what L2 has mapped: it finds zeroes there, in either state. */
TEST_F(nested, punch_hole)
{
	int i, page;

	convert_all(self, MIXED);
	for (i = 0; i < 2; i++) {
		access_pages(self, L2_APART, SYNC_FROM_L2);
		access_pages(self, L2_SWAPPED, SYNC_FROM_L2);
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      10 * PAGE_SIZE, 40 * PAGE_SIZE);
		for (page = 10; page < 50; page++)
			self->vals[!self->in_place][page] = 0;
		convert_all(self, i ? MIXED : ~MIXED);
	}
	access_pages(self, L2_APART, SYNC_FROM_L2);
}

/* C16: Have L2 access a closed guest_memfd: KVM_RUN fails, and names L1's address. */
TEST_F(nested, closed)
{
	const gpa_t gpa = GMEM_GPA2 + SZ_2M;
	struct kvm_run *run = self->vcpu->run;
	int fd, r;

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, 0);
	TEST_ASSERT_EQ(gmem_add_slot(self->vm, GMEM_SLOT2, gpa, NR_PAGES, fd, 0), 0);
	if (!self->in_place)
		vm_set_memory_attributes(self->vm, gpa, GMEM_SIZE, PRIVATE);

	/* L2's page 0 is at another page of L1's. */
	if (variant->has_tdp)
		*tdp_get_pte(self->vm, L2_APART) += gpa + PAGE_SIZE - page_gpa(0);
	else
		*vm_get_pte(self->vm, L2_APART) += gpa + PAGE_SIZE - page_gpa(0);
	write_guest_global(self->vm, l2_mem, (u64 *)L2_APART);
	run_l2(self, SYNC_FROM_L2);

	kvm_close(fd);
	r = vcpu_run_limited(self->vcpu);
	TEST_ASSERT(r != EINTR, "L2 is still busy with a closed guest_memfd");
	ASSERT_EQ(EFAULT, r);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_MEMORY_FAULT);
	ASSERT_EQ(gpa + PAGE_SIZE, run->memory_fault.gpa);
	ASSERT_EQ(PAGE_SIZE, run->memory_fault.size);

	/* L2 goes on once there's a new one. */
	gmem_delete_slot(self->vm, GMEM_SLOT2);
	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, 0);
	TEST_ASSERT_EQ(gmem_add_slot(self->vm, GMEM_SLOT2, gpa, NR_PAGES, fd, 0), 0);
	run_l2(self, SYNC_FROM_L2);
	gmem_delete_slot(self->vm, GMEM_SLOT2);
	kvm_close(fd);
}

/*
 * C9, C21: Have other memory at the memslot's userspace_addr: L2 must not get it, not
 * even when KVM maps more pages than the one that L2 has accessed.
 */
TEST_F(nested, second_backing)
{
	const gpa_t gpa = GMEM_GPA2 + SZ_2M;
	u64 *pte;
	int i, fd;
	u8 *mem;

	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	host_fill(mem, 0, NR_PAGES, 3);

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, self->in_place ? GMEM_FLAGS : 0);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   gpa, GMEM_SIZE, mem, fd, 0);
	if (!self->in_place)
		vm_set_memory_attributes(self->vm, gpa, GMEM_SIZE, PRIVATE);

	/* The pages are new, and L2 leaves zeroes. */
	for (i = 0; i < NR_PAGES; i++) {
		pte = variant->has_tdp ? tdp_get_pte(self->vm, L2_APART + i * PAGE_SIZE) :
					 vm_get_pte(self->vm, L2_APART + i * PAGE_SIZE);
		*pte += gpa - GMEM_GPA;
	}
	write_guest_global(self->vm, l2_mem, (u64 *)L2_APART);
	run_l2(self, SYNC_FROM_L2);
	if (self->in_place) {
		gmem_set_private(fd, 0, GMEM_SIZE);
		run_l2(self, SYNC_FROM_L2);
	}
	host_check(mem, 0, NR_PAGES, 3);

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	kvm_close(fd);
	kvm_munmap(mem, GMEM_SIZE);
}

/*
 * Run L2 until it's told to stop.  In VM mode, a fault that races with a conversion
 * is one that the VMM has to look at, i.e. try again.
 */
static void *vcpu_worker(void *data)
{
	FIXTURE_DATA(nested) * self = data;
	struct ucall uc;
	int r;

	do {
		r = _vcpu_run(self->vcpu) ? errno : 0;
	} while (r == EFAULT && !self->in_place &&
		 self->vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT);

	TEST_ASSERT_EQ(r, 0);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_IO);
	if (get_ucall(self->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);

	return NULL;
}

static u64 laps(struct kvm_vm *vm)
{
	return READ_ONCE(*(u64 *)addr_gva2hva(vm, (gva_t)&l2_laps));
}

/*
 * C10, C25: Convert pages that L2 is busy with.  It gets on, and in in-place mode,
 * what it finds is what it left.
 */
TEST_F(nested, race)
{
	struct timespec start;
	unsigned int seed = 1;
	pthread_t thread;
	int i, first, nr;
	u64 before;

	write_guest_global(self->vm, l2_mem, (u64 *)L2_SWAPPED);
	write_guest_global(self->vm, l2_keeps_data, self->in_place);
	write_guest_global(self->vm, l2_spins, true);
	kvm_pthread_create(&thread, NULL, vcpu_worker, self);

	for (i = 0; i < 10; i++) {
		before = laps(self->vm);
		clock_gettime(CLOCK_MONOTONIC, &start);
		do {
			first = rand_r(&seed) % NR_PAGES;
			nr = 1 + rand_r(&seed) % (NR_PAGES - first);
			vm_set_memory_attributes(self->vm, page_gpa(first), nr * PAGE_SIZE,
						 rand_r(&seed) & 1 ? PRIVATE : 0);
			TEST_ASSERT(timespec_elapsed(start).tv_sec < RUN_SECONDS,
				    "L2 doesn't get on");
		} while (laps(self->vm) == before);
	}

	write_guest_global(self->vm, l2_spins, false);
	kvm_pthread_join(thread, NULL);
	if (!self->in_place)
		return;

	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(laps(self->vm), host_read(self->mem, i));
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
