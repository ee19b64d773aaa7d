// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that KVM itself, which is the host, too, doesn't get at a page of a
 * guest_memfd while the page is private, whatever it is that the guest or the VMM
 * has it look for there; and that it does while the page is shared.
 */
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
	/* Does what the library's vCPU can't do. */
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

/* KVM gives up on an instruction, and says nothing of what is in the page. */
static void expect_emulation_error(struct kvm_vcpu *vcpu, u64 secret)
{
	struct kvm_run *run = vcpu->run;

	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_INTERNAL_ERROR);
	TEST_ASSERT_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
	TEST_ASSERT(!memmem(&run->internal, sizeof(run->internal), &secret, sizeof(u32)),
		    "KVM tells what is in the private page");
}

/* C9: KVM's emulator doesn't read the page. */
TEST_F(kvm, emulated_read)
{
	struct kvm_vcpu *vcpu = self->vcpu;

	guest_do(vcpu, GUEST_COPY, page_gpa(PAGE), MMIO_GPA);
	expect_mmio(vcpu, MMIO_GPA, true, page_val(PAGE, 1));
	vcpu_run(vcpu);
	expect_sync(vcpu);

	/* As far as the emulator is concerned, there's no memory. */
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

/* C9: KVM's emulator doesn't write the page. */
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

/* C9: KVM's emulator doesn't fetch instructions from the page. */
TEST_F(kvm, emulated_fetch)
{
	/* mov (%rdi), %rax; ret */
	static const u8 code[] = { 0x48, 0x8b, 0x07, 0xc3 };
	struct kvm_vcpu *vcpu = self->vcpu;
	u64 *page = (u64 *)page_hva(self->gmem.mem, PAGE);
	u64 word;

	if (this_cpu_has(X86_FEATURE_DECODEASSISTS))
		SKIP(return, "The CPU hands KVM the instructions to emulate");

	/* Otherwise the guest gets #UD on top of it. */
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

/* C9: KVM doesn't walk page tables that are in the page, nor mark them accessed. */
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

/* C9: KVM doesn't look into the page for a nested guest, nor write what became of it. */
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

/* C9: A flag that KVM sets while an interrupt is in service isn't set in the page. */
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

	/* With the address that KVM knows, and with the same as a new one. */
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

/* C9: A VM that has the VMM's mapping for its own memory is the host. */
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

/* Have KVM bring up to date whatever it keeps up to date for a guest that runs. */
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

/* C9: KVM doesn't write the page on behalf of the guest. */
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

	/* KVM knows where the page is, and may have it mapped for itself. */
	to_private(gmem->fd, PAGE, 1);
	guest_fill(gmem->vcpu, PAGE, 1, 2);
	update(gmem);
	guest_check(gmem->vcpu, PAGE, 1, 2);

	/* KVM has to look for it. */
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

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
