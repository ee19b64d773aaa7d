// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that KVM itself doesn't access a page of a guest_memfd on behalf of the
 * guest or the VMM while the page is private, and that it does while the page is
 * shared.
 */
#include <sys/mman.h>

#include <asm/msr-index.h>

#include "kvm_test_harness.h"
#include "apic.h"
#include "gmem_util.h"
#include "hyperv.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"

/* The page that is private or shared; its neighbors are always shared. */
#define PAGE		10

/* Mapped by the guest, but no memslot is there. */
#define MMIO_GPA	GMEM_GPA2
#define MMIO_VAL	0x5eedf00d5eedf00dul

#define IPI_VECTOR	0x80

#define X86_FEATURE_DECODEASSISTS	KVM_X86_CPU_FEATURE(0x8000000A, 0, EDX, 7)

enum guest_op {
	GUEST_COPY,
	GUEST_CALL,
	GUEST_VMRUN,
	GUEST_IPI,
};

static enum guest_op guest_op;
static u64 *guest_src;
static u64 *guest_dst;

static void guest_ipi_handler(struct ex_regs *regs)
{
	/* The interrupt is in service. */
	GUEST_SYNC(0);
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_code(void)
{
	u64 *src, *dst;

	x2apic_enable();

	for (;;) {
		src = READ_ONCE(guest_src);
		dst = READ_ONCE(guest_dst);

		switch (READ_ONCE(guest_op)) {
		case GUEST_COPY:
			asm volatile("movsq" : "+S" (src), "+D" (dst) : : "memory");
			break;
		case GUEST_CALL:
			asm volatile("call *%[src]"
				     : : [src] "r" (src), "D" (dst) : "rax", "memory");
			break;
		case GUEST_VMRUN:
			wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
			wrmsr(MSR_VM_HSAVE_PA, page_gpa(PAGE + 1));
			asm volatile("vmrun %[src]\n\t"
				     "stgi"
				     : : [src] "a" (src) : "memory");
			break;
		case GUEST_IPI:
			x2apic_write_reg(APIC_SELF_IPI, IPI_VECTOR);
			asm volatile("sti; nop; cli");
			break;
		}
		GUEST_SYNC(0);
	}
}

FIXTURE(kvm) {
	struct gmem_vm gmem;
	/* Runs guest_code(), for what the library's guest can't do. */
	struct kvm_vcpu *vcpu;
};

static void setup(struct gmem_vm *gmem, struct kvm_vcpu **vcpu)
{
	gmem_vm_create(gmem, GMEM_FLAGS);
	*vcpu = vm_vcpu_add(gmem->vm, 1, guest_code);
	vm_install_exception_handler(gmem->vm, IPI_VECTOR, guest_ipi_handler);
	host_fill(gmem->mem, 0, NR_PAGES, 1);
}

FIXTURE_SETUP(kvm)
{
	setup(&self->gmem, &self->vcpu);
}

FIXTURE_TEARDOWN(kvm)
{
	gmem_vm_free(&self->gmem);
}

static void guest_do(struct kvm_vcpu *vcpu, enum guest_op op, gva_t src, gva_t dst)
{
	write_guest_global(vcpu->vm, guest_op, op);
	write_guest_global(vcpu->vm, guest_src, (u64 *)src);
	write_guest_global(vcpu->vm, guest_dst, (u64 *)dst);
	vcpu_run(vcpu);
}

static void expect_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
}

static void expect_mmio(struct kvm_vcpu *vcpu, gpa_t gpa, bool is_write, u64 val)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gpa);
	TEST_ASSERT_EQ(run->mmio.is_write, is_write);
	TEST_ASSERT_EQ(run->mmio.len, sizeof(val));
	if (is_write)
		TEST_ASSERT_EQ(*(u64 *)run->mmio.data, val);
	else
		*(u64 *)run->mmio.data = val;
}

/* Verify that KVM failed to emulate, and that the exit reveals nothing of the page. */
static void expect_emulation_error(struct kvm_vcpu *vcpu, u64 secret)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_INTERNAL_ERROR);
	TEST_ASSERT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	TEST_ASSERT(!memmem(&run->internal, sizeof(run->internal), &secret, sizeof(u32)),
		    "KVM tells what is in the private page");
}

/* C9: Have KVM's emulator read the page. */
TEST_F(kvm, emulated_read)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), MMIO_GPA);
	expect_mmio(vcpu, MMIO_GPA, true, page_val(PAGE, 1));
	vcpu_run(vcpu);
	expect_sync(vcpu);

	/* If the page is private, the emulator takes it for MMIO. */
	to_private(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), MMIO_GPA);
	expect_mmio(vcpu, page_gpa(PAGE), false, MMIO_VAL);
	vcpu_run(vcpu);
	expect_mmio(vcpu, MMIO_GPA, true, MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), MMIO_GPA);
	expect_mmio(vcpu, MMIO_GPA, true, page_val(PAGE, 1));
}

/* C9: Have KVM's emulator write the page. */
TEST_F(kvm, emulated_write)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	to_private(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_COPY, MMIO_GPA, page_gpa(PAGE));
	expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
	vcpu_run(vcpu);
	expect_mmio(vcpu, page_gpa(PAGE), true, MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	host_check(self->gmem.mem, 0, NR_PAGES, 1);
	guest_do(vcpu, GUEST_COPY, MMIO_GPA, page_gpa(PAGE));
	expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(MMIO_VAL, host_read(self->gmem.mem, PAGE));
}

/* C9: Have KVM's emulator fetch instructions from the page. */
TEST_F(kvm, emulated_fetch)
{
	/* mov (%rdi), %rax; ret */
	static const u8 code[] = { 0x48, 0x8b, 0x07, 0xc3 };
	struct kvm_vcpu *vcpu = self->vcpu;
	u64 *page = (u64 *)page_hva(self->gmem.mem, PAGE);
	u64 word;

	if (this_cpu_has(X86_FEATURE_DECODEASSISTS))
		SKIP(return, "The CPU hands KVM the instructions to emulate");

	/* Have emulation errors exit to userspace instead of injecting #UD. */
	vm_enable_cap(vcpu->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);

	memcpy(page, code, sizeof(code));
	word = *page;
	guest_do(vcpu, GUEST_CALL, page_gpa(PAGE), MMIO_GPA);
	expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);

	/* The guest can execute what is in the page, KVM can't emulate it. */
	to_private(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_CALL, page_gpa(PAGE), page_gpa(PAGE + 1));
	expect_sync(vcpu);
	guest_do(vcpu, GUEST_CALL, page_gpa(PAGE), MMIO_GPA);
	expect_emulation_error(vcpu, word);
	ASSERT_EQ(word, guest_read(self->gmem.vcpu, page_gpa(PAGE)));

	to_shared(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(word, *page);
	vcpu_run(vcpu);
	expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);
}

static bool translate(struct kvm_vcpu *vcpu, gva_t gva, gpa_t *gpa)
{
	struct kvm_translation tr = {
		.linear_address = gva,
	};

	vcpu_ioctl(vcpu, KVM_TRANSLATE, &tr);
	*gpa = tr.physical_address;
	return tr.valid;
}

/* C9: Have KVM translate addresses with page tables that are in the page. */
TEST_F(kvm, page_tables)
{
	struct kvm_mmu *mmu = &self->gmem.vm->mmu;
	const u64 flags = PTE_PRESENT_MASK(mmu) | PTE_WRITABLE_MASK(mmu);
	const u64 entries[] = {
		page_gpa(PAGE + 1) | flags,
		page_gpa(PAGE + 2) | flags,
		GMEM_GPA | flags | PTE_HUGE_MASK(mmu),
	};
	struct kvm_sregs sregs;
	gpa_t gpa;
	int i, j;

	/* The guest never runs on these, they are for KVM to translate. */
	vcpu_sregs_get(self->vcpu, &sregs);
	sregs.cr3 = page_gpa(PAGE);
	vcpu_sregs_set(self->vcpu, &sregs);

	for (i = 0; i < ARRAY_SIZE(entries); i++) {
		for (j = 0; j < ARRAY_SIZE(entries); j++)
			*(u64 *)page_hva(self->gmem.mem, PAGE + j) = entries[j];

		to_private(self->gmem.fd, PAGE + i, 1);
		ASSERT_FALSE(translate(self->vcpu, 0x1234, &gpa));
		ASSERT_EQ(entries[i], guest_read(self->gmem.vcpu, page_gpa(PAGE + i)));

		to_shared(self->gmem.fd, PAGE + i, 1);
		ASSERT_EQ(entries[i], host_read(self->gmem.mem, PAGE + i));
		ASSERT_TRUE(translate(self->vcpu, 0x1234, &gpa));
		ASSERT_EQ(GMEM_GPA + 0x1234, gpa);
		ASSERT_EQ(entries[i] | PTE_ACCESSED_MASK(mmu),
			  host_read(self->gmem.mem, PAGE + i));
	}
}

/* C9: Have KVM run a nested guest whose VMCB is the page. */
TEST_F(kvm, vmcb)
{
	struct vmcb *vmcb = (void *)page_hva(self->gmem.mem, PAGE);
	struct kvm_vcpu *vcpu = self->vcpu;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "Needs nested SVM");

	guest_do(vcpu, GUEST_VMRUN, page_gpa(PAGE), 0);
	expect_sync(vcpu);
	ASSERT_EQ(SVM_EXIT_ERR, (int)vmcb->control.exit_code);

	host_fill(self->gmem.mem, PAGE, 1, 1);
	to_private(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_VMRUN, page_gpa(PAGE), 0);
	expect_emulation_error(vcpu, page_val(PAGE, 1));
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	host_check(self->gmem.mem, 0, NR_PAGES, 1);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(SVM_EXIT_ERR, (int)vmcb->control.exit_code);
}

/* C9: Have KVM set its flag for interrupts in service (PV EOI) in the page. */
TEST_F(kvm, pv_eoi)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	vcpu_set_msr(vcpu, MSR_KVM_PV_EOI_EN, page_gpa(PAGE) | KVM_MSR_ENABLED);
	guest_do(vcpu, GUEST_IPI, 0, 0);
	expect_sync(vcpu);
	if (host_read(self->gmem.mem, PAGE) == page_val(PAGE, 1))
		SKIP(return, "Needs an APIC without hardware acceleration");
	vcpu_run(vcpu);
	expect_sync(vcpu);

	/* With the address that KVM has cached, and after setting it again. */
	host_fill(self->gmem.mem, PAGE, 1, 1);
	to_private(self->gmem.fd, PAGE, 1);
	guest_do(vcpu, GUEST_IPI, 0, 0);
	expect_sync(vcpu);
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	vcpu_set_msr(vcpu, MSR_KVM_PV_EOI_EN, page_gpa(PAGE) | KVM_MSR_ENABLED);
	guest_do(vcpu, GUEST_IPI, 0, 0);
	expect_sync(vcpu);
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);
	vcpu_run(vcpu);
	expect_sync(vcpu);

	to_shared(self->gmem.fd, PAGE, 1);
	host_check(self->gmem.mem, 0, NR_PAGES, 1);
	guest_do(vcpu, GUEST_IPI, 0, 0);
	expect_sync(vcpu);
	ASSERT_NE(page_val(PAGE, 1), host_read(self->gmem.mem, PAGE));
}

static u64 *other_mem = (u64 *)GMEM_GPA;
static u64 other_val;

static void other_guest_code(void)
{
	for (;;) {
		other_val = READ_ONCE(*other_mem);
		GUEST_SYNC(0);
		WRITE_ONCE(*other_mem, MMIO_VAL);
		GUEST_SYNC(0);
	}
}

/* C9: Have another VM, whose memory is the VMM's mapping, access the page. */
TEST_F(kvm, other_vm)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, other_guest_code);
	vm_set_user_memory_region(vm, GMEM_SLOT, 0, GMEM_GPA, PAGE_SIZE,
				  page_hva(self->gmem.mem, PAGE));
	virt_map(vm, GMEM_GPA, GMEM_GPA, 1);

	/* The other VM has it mapped. */
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(page_val(PAGE, 1), SYNC_FROM_GUEST_AND_READ(vm, other_val));
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(MMIO_VAL, host_read(self->gmem.mem, PAGE));

	host_fill(self->gmem.mem, PAGE, 1, 1);
	write_guest_global(vm, other_val, 0);
	to_private(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(-1, _vcpu_run(vcpu));
	ASSERT_EQ(EFAULT, errno);
	ASSERT_EQ(0, SYNC_FROM_GUEST_AND_READ(vm, other_val));
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(page_val(PAGE, 1), SYNC_FROM_GUEST_AND_READ(vm, other_val));

	to_private(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(-1, _vcpu_run(vcpu));
	ASSERT_EQ(EFAULT, errno);
	guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	host_check(self->gmem.mem, 0, NR_PAGES, 1);
	vcpu_run(vcpu);
	expect_sync(vcpu);
	ASSERT_EQ(MMIO_VAL, host_read(self->gmem.mem, PAGE));

	kvm_vm_free(vm);
}

/* Have MMIO be of @len bytes, of which @val are the lower ones. */
static void expect_part_mmio(struct kvm_vcpu *vcpu, gpa_t gpa, bool is_write, int len, u64 val)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gpa);
	TEST_ASSERT_EQ(run->mmio.is_write, is_write);
	TEST_ASSERT_EQ(run->mmio.len, len);
	if (is_write)
		TEST_ASSERT(!memcmp(run->mmio.data, &val, len), "Wrong data is written");
	else
		memcpy(run->mmio.data, &val, len);
}

/*
 * C9: Access the page and plain memory next to it at once: the guest gets both, and
 * KVM, if it's KVM that does it for the guest, gets plain memory only.
 */
TEST_F(kvm, straddle)
{
	const gpa_t gpa = GMEM_GPA2 + SZ_2M, low = gpa + PAGE_SIZE - 4, high = low + PAGE_SIZE;
	struct gmem_vm *gmem = &self->gmem;
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vm *vm = gmem->vm;
	const u32 half_val = MMIO_VAL >> 32;
	u64 low_val, high_val, val;
	u8 *plain, *mem;
	int fd, i;

	/* A page of plain memory, the page, and a page of plain memory. */
	plain = kvm_mmap(3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fd = vm_create_guest_memfd(vm, PAGE_SIZE, GMEM_FLAGS);
	mem = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	vm_set_user_memory_region(vm, GMEM_SLOT2, 0, gpa, PAGE_SIZE, plain);
	vm_set_user_memory_region2(vm, GMEM_SLOT2 + 1, KVM_MEM_GUEST_MEMFD, gpa + PAGE_SIZE,
				   PAGE_SIZE, mem, fd, 0);
	vm_set_user_memory_region(vm, GMEM_SLOT2 + 2, 0, gpa + 2 * PAGE_SIZE, PAGE_SIZE,
				  plain + 2 * PAGE_SIZE);
	virt_map(vm, gpa, gpa, 3);

	for (i = 0; i < 2; i++) {
		gmem_set_shared(fd, 0, PAGE_SIZE);
		host_fill(plain, 0, 3, 1);
		host_fill(mem, 0, 1, 2);
		low_val = page_val(0, 1) >> 32 | page_val(0, 2) << 32;
		high_val = page_val(0, 2) >> 32 | page_val(2, 1) << 32;

		/* Emulated, while it's shared. */
		guest_do(vcpu, GUEST_COPY, low, MMIO_GPA);
		expect_mmio(vcpu, MMIO_GPA, true, low_val);
		vcpu_run(vcpu);
		expect_sync(vcpu);
		guest_do(vcpu, GUEST_COPY, high, MMIO_GPA);
		expect_mmio(vcpu, MMIO_GPA, true, high_val);
		vcpu_run(vcpu);
		expect_sync(vcpu);

		/* By the guest itself, the first time with nothing of it mapped. */
		gmem_set_private(fd, 0, PAGE_SIZE);
		TEST_ASSERT_EQ(guest_read(gmem->vcpu, low), low_val);
		TEST_ASSERT_EQ(guest_read(gmem->vcpu, high), high_val);

		/* Emulated, with half of the memory missing. */
		guest_do(vcpu, GUEST_COPY, low, MMIO_GPA);
		expect_part_mmio(vcpu, low + 4, false, 4, half_val);
		vcpu_run(vcpu);
		expect_mmio(vcpu, MMIO_GPA, true, (low_val & ~0u) | (u64)half_val << 32);
		vcpu_run(vcpu);
		expect_sync(vcpu);
		guest_do(vcpu, GUEST_COPY, high, MMIO_GPA);
		expect_part_mmio(vcpu, high, false, 4, half_val);
		vcpu_run(vcpu);
		expect_mmio(vcpu, MMIO_GPA, true, half_val | (high_val >> 32) << 32);
		vcpu_run(vcpu);
		expect_sync(vcpu);

		/* Writes, too. */
		guest_do(vcpu, GUEST_COPY, MMIO_GPA, low);
		expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
		vcpu_run(vcpu);
		expect_part_mmio(vcpu, low + 4, true, 4, MMIO_VAL >> 32);
		vcpu_run(vcpu);
		expect_sync(vcpu);
		memcpy(&val, plain + PAGE_SIZE - 8, sizeof(val));
		TEST_ASSERT_EQ(val, (page_val(0, 1) & ~0u) | MMIO_VAL << 32);

		guest_do(vcpu, GUEST_COPY, MMIO_GPA, high);
		expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
		vcpu_run(vcpu);
		expect_part_mmio(vcpu, high, true, 4, MMIO_VAL);
		vcpu_run(vcpu);
		expect_sync(vcpu);
		memcpy(&val, plain + 2 * PAGE_SIZE, sizeof(val));
		TEST_ASSERT_EQ(val, (page_val(2, 1) & ~(u64)~0u) | MMIO_VAL >> 32);

		/* And what KVM writes for the guest: 12 bytes. */
		host_fill(plain, 0, 3, 1);
		vcpu_set_msr(vcpu, MSR_KVM_WALL_CLOCK_NEW, low);
		vcpu_set_msr(vcpu, MSR_KVM_WALL_CLOCK_NEW, high - 4);
		__guest_check(gmem->vcpu, gpa + PAGE_SIZE, 0, 1, 2);
		host_check(plain, 2, 1, 1);

		/* The guest's own are whole. */
		host_fill(gmem->mem, PAGE, 1, 3);
		guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), high);
		expect_sync(vcpu);
		guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), low);
		expect_sync(vcpu);
		gmem_set_shared(fd, 0, PAGE_SIZE);
		memcpy(&val, mem, sizeof(val));
		TEST_ASSERT_EQ(val, (page_val(0, 2) & ~(u64)~0u) | page_val(PAGE, 3) >> 32);
		memcpy(&val, mem + PAGE_SIZE - 8, sizeof(val));
		TEST_ASSERT_EQ(val, (page_val(0, 2) & ~0u) | page_val(PAGE, 3) << 32);
	}

	for (i = 0; i < 3; i++)
		gmem_delete_slot(vm, GMEM_SLOT2 + i);
	kvm_munmap(mem, PAGE_SIZE);
	kvm_munmap(plain, 3 * PAGE_SIZE);
	kvm_close(fd);
}

/* Structures that a guest has KVM fill, and that it finds by an MSR. */
FIXTURE(msr) {
	struct gmem_vm gmem;
};

FIXTURE_VARIANT(msr) {
	u32 msr;
	u64 flags;
	/* Must be set before, by a Hyper-V guest. */
	u64 os_id;
	/* KVM writes at once, and says so if it can't. */
	bool fails;
};

FIXTURE_VARIANT_ADD(msr, wall_clock) {
	.msr = MSR_KVM_WALL_CLOCK_NEW,
};

FIXTURE_VARIANT_ADD(msr, system_time) {
	.msr = MSR_KVM_SYSTEM_TIME_NEW,
	.flags = KVM_MSR_ENABLED,
};

FIXTURE_VARIANT_ADD(msr, steal_time) {
	.msr = MSR_KVM_STEAL_TIME,
	.flags = KVM_MSR_ENABLED,
};

FIXTURE_VARIANT_ADD(msr, hyperv_hypercall) {
	.msr = HV_X64_MSR_HYPERCALL,
	.flags = 1,
	.os_id = HYPERV_LINUX_OS_ID,
	.fails = true,
};

FIXTURE_VARIANT_ADD(msr, hyperv_vp_assist) {
	.msr = HV_X64_MSR_VP_ASSIST_PAGE,
	.flags = 1,
	.os_id = HYPERV_LINUX_OS_ID,
	.fails = true,
};

FIXTURE_SETUP(msr)
{
	gmem_vm_create(&self->gmem, GMEM_FLAGS);
	host_fill(self->gmem.mem, 0, NR_PAGES, 1);
}

FIXTURE_TEARDOWN(msr)
{
	gmem_vm_free(&self->gmem);
}

/* Have KVM update what it updates for a guest that runs. */
static void update(struct gmem_vm *gmem)
{
	struct kvm_clock_data clock = {};

	vm_ioctl(gmem->vm, KVM_GET_CLOCK, &clock);
	clock.flags = 0;
	vm_ioctl(gmem->vm, KVM_SET_CLOCK, &clock);
	guest_read(gmem->vcpu, page_gpa(PAGE + 1));
}

static bool page_changed(struct gmem_vm *gmem, int generation)
{
	u64 *page = (u64 *)page_hva(gmem->mem, PAGE);
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		if (READ_ONCE(page[i]) != page_val(PAGE, generation))
			return true;

	return false;
}

/* C9: Have KVM write its structures to the page. */
TEST_F(msr, write)
{
	const u64 val = page_gpa(PAGE) | variant->flags;
	struct gmem_vm *gmem = &self->gmem;

	if (variant->os_id) {
		if (!kvm_check_cap(KVM_CAP_HYPERV))
			SKIP(return, "Needs CONFIG_KVM_HYPERV");
		vcpu_set_msr(gmem->vcpu, HV_X64_MSR_GUEST_OS_ID, variant->os_id);
	}

	vcpu_set_msr(gmem->vcpu, variant->msr, val);
	update(gmem);
	ASSERT_TRUE(page_changed(gmem, 1));

	/* KVM has cached where the page is, and may have mapped it. */
	to_private(gmem->fd, PAGE, 1);
	guest_fill(gmem->vcpu, PAGE, 1, 2);
	update(gmem);
	guest_check(gmem->vcpu, PAGE, 1, 2);

	/* Set the MSR again, so that KVM looks the page up. */
	ASSERT_EQ(!variant->fails, _vcpu_set_msr(gmem->vcpu, variant->msr, val));
	update(gmem);
	guest_check(gmem->vcpu, PAGE, 1, 2);

	to_shared(gmem->fd, PAGE, 1);
	host_check(gmem->mem, PAGE, 1, 2);
	vcpu_set_msr(gmem->vcpu, variant->msr, val);
	update(gmem);
	ASSERT_TRUE(page_changed(gmem, 2));
	host_check(gmem->mem, PAGE + 1, NR_PAGES - PAGE - 1, 1);
}

/* Where the memslot that the tests below are about has the file. */
#define HVA_GPA		(GMEM_GPA2 + SZ_2M)

/*
 * A memslot whose userspace_addr isn't the mapping of its file: the guest has the
 * file, and KVM has what the VMM has mapped there, if anything.
 */
FIXTURE(hva) {
	struct gmem_vm gmem;
	struct kvm_vcpu *vcpu;
	u8 *mem;
	int fd;

	/* What the memslot says, and what the VMM has there in the end. */
	u8 *hva;
	u8 *there;
};

FIXTURE_VARIANT(hva) {
	void (*map)(FIXTURE_DATA(hva) * self);
	void (*remap)(FIXTURE_DATA(hva) * self);
};

static u8 *map_anonymous(void *hva)
{
	u8 *mem = mmap(hva, GMEM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | (hva ? MAP_FIXED : 0), -1, 0);

	TEST_ASSERT(mem != MAP_FAILED, __KVM_SYSCALL_ERROR("mmap()", -1));
	host_fill(mem, 0, NR_PAGES, 3);
	return mem;
}

static void hva_null(FIXTURE_DATA(hva) * self)
{
}

static void hva_inaccessible(FIXTURE_DATA(hva) * self)
{
	self->hva = kvm_mmap(GMEM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static void hva_anonymous(FIXTURE_DATA(hva) * self)
{
	self->hva = map_anonymous(NULL);
	self->there = self->hva;
}

/* The mapping of another file. */
static void hva_other(FIXTURE_DATA(hva) * self)
{
	self->hva = self->gmem.mem;
	self->there = self->gmem.mem;
}

/* A mapping of the file, and each page is where the one before it should be. */
static void hva_shifted(FIXTURE_DATA(hva) * self)
{
	self->hva = __kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, PAGE_SIZE);
	self->there = self->mem + PAGE_SIZE;
}

static void hva_file(FIXTURE_DATA(hva) * self)
{
	self->hva = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd);
}

/* Take the file's mapping away, and have KVM find something else, or nothing. */
static void remap_anonymous(FIXTURE_DATA(hva) * self)
{
	self->there = map_anonymous(self->hva);
}

static void remap_elsewhere(FIXTURE_DATA(hva) * self)
{
	u8 *mem = mremap(self->hva, GMEM_SIZE, GMEM_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 kvm_mmap(GMEM_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	TEST_ASSERT(mem != MAP_FAILED, __KVM_SYSCALL_ERROR("mremap()", -1));
	host_check(mem, 0, NR_PAGES, 1);
}

FIXTURE_VARIANT_ADD(hva, null) {
	.map = hva_null,
};

FIXTURE_VARIANT_ADD(hva, inaccessible) {
	.map = hva_inaccessible,
};

FIXTURE_VARIANT_ADD(hva, anonymous) {
	.map = hva_anonymous,
};

FIXTURE_VARIANT_ADD(hva, other) {
	.map = hva_other,
};

FIXTURE_VARIANT_ADD(hva, shifted) {
	.map = hva_shifted,
};

FIXTURE_VARIANT_ADD(hva, replaced) {
	.map = hva_file,
	.remap = remap_anonymous,
};

FIXTURE_VARIANT_ADD(hva, moved) {
	.map = hva_file,
	.remap = remap_elsewhere,
};

FIXTURE_SETUP(hva)
{
	struct kvm_vm *vm;

	setup(&self->gmem, &self->vcpu);
	host_fill(self->gmem.mem, 0, NR_PAGES, 2);

	vm = self->gmem.vm;
	self->fd = vm_create_guest_memfd(vm, GMEM_SIZE, GMEM_FLAGS);
	self->mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd);
	host_fill(self->mem, 0, NR_PAGES, 1);

	variant->map(self);
	vm_set_user_memory_region2(vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD, HVA_GPA, GMEM_SIZE,
				   self->hva, self->fd, 0);
	virt_map(vm, HVA_GPA, HVA_GPA, NR_PAGES);
	if (variant->remap)
		variant->remap(self);
}

FIXTURE_TEARDOWN(hva)
{
	kvm_munmap(self->mem, GMEM_SIZE);
	kvm_close(self->fd);
	gmem_vm_free(&self->gmem);
}

/* Have KVM read and write a page on behalf of the guest, in each way that it has. */
static void check_kvm_access(FIXTURE_DATA(hva) * self, bool reachable)
{
	static const u32 msrs[][2] = {
		{ MSR_KVM_WALL_CLOCK_NEW, 0 },
		{ MSR_KVM_SYSTEM_TIME_NEW, KVM_MSR_ENABLED },
		{ MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED },
	};
	const gpa_t gpa = HVA_GPA + PAGE * PAGE_SIZE;
	struct kvm_vcpu *vcpu = self->vcpu;
	u8 before[PAGE_SIZE], *there = NULL;
	int i;

	if (reachable) {
		there = page_hva(self->there, PAGE);
		memcpy(before, there, PAGE_SIZE);
	}

	/* The emulator reads it, or there is nothing for it to read. */
	guest_do(vcpu, GUEST_COPY, gpa, MMIO_GPA);
	if (!reachable) {
		expect_mmio(vcpu, gpa, false, MMIO_VAL);
		vcpu_run(vcpu);
	}
	expect_mmio(vcpu, MMIO_GPA, true, reachable ? *(u64 *)before : MMIO_VAL);
	vcpu_run(vcpu);
	expect_sync(vcpu);

	guest_do(vcpu, GUEST_COPY, MMIO_GPA, gpa);
	expect_mmio(vcpu, MMIO_GPA, false, MMIO_VAL);
	vcpu_run(vcpu);
	if (!reachable) {
		expect_mmio(vcpu, gpa, true, MMIO_VAL);
		vcpu_run(vcpu);
	}
	expect_sync(vcpu);
	if (reachable) {
		TEST_ASSERT_EQ(*(u64 *)there, MMIO_VAL);
		memcpy(there, before, PAGE_SIZE);
	}

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		vcpu_set_msr(self->gmem.vcpu, msrs[i][0], gpa | msrs[i][1]);
		update(&self->gmem);
		vcpu_set_msr(self->gmem.vcpu, msrs[i][0], 0);
		if (reachable) {
			TEST_ASSERT(memcmp(there, before, PAGE_SIZE),
				    "MSR 0x%x: KVM hasn't written anything", msrs[i][0]);
			memcpy(there, before, PAGE_SIZE);
		}
	}
}

/*
 * C9, C21: Have KVM access memory for the guest: it gets what the VMM has mapped at
 * userspace_addr, if the VMM could access that itself.  The guest gets the file.
 */
TEST_F(hva, access)
{
	const bool is_file = self->there == self->gmem.mem || self->there == self->mem + PAGE_SIZE;
	struct kvm_vcpu *vcpu = self->gmem.vcpu;

	__guest_check(vcpu, HVA_GPA, 0, NR_PAGES, 1);
	check_kvm_access(self, self->there);
	__guest_check(vcpu, HVA_GPA, 0, NR_PAGES, 1);
	host_check(self->mem, 0, NR_PAGES, 1);

	/* Not a matter of the page's state, but of that of the page that is there. */
	to_private(self->fd, PAGE, 1);
	check_kvm_access(self, self->there);
	__guest_check(vcpu, HVA_GPA, 0, NR_PAGES, 1);

	to_private(self->fd, 0, NR_PAGES);
	to_private(self->gmem.fd, PAGE, 1);
	check_kvm_access(self, self->there && !is_file);
	__guest_check(vcpu, HVA_GPA, 0, NR_PAGES, 1);
	guest_check(vcpu, 0, NR_PAGES, 2);

	to_shared(self->gmem.fd, PAGE, 1);
	to_shared(self->fd, 0, NR_PAGES);
	check_kvm_access(self, self->there);
	host_check(self->mem, 0, NR_PAGES, 1);
	host_check(self->gmem.mem, 0, NR_PAGES, 2);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
