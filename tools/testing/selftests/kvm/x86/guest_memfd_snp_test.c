// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test in-place conversion with an SNP guest, which, unlike a software-protected
 * one, asks for conversions by itself: by the MSR protocol, a page at a time, and
 * by a list of page state changes in its GHCB.
 *
 * The GHCB is a page that the guest shares with KVM.  Verify that KVM doesn't
 * stand in the way of its conversion while the vCPU isn't running, and that what
 * KVM has to say to the guest gets there all the same if the page is shared
 * again, and does no harm if it isn't.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "sev.h"
#include "sparsebit.h"
#include "test_util.h"

/* Where the guest has the pages at GMEM_GPA twice: as shared and as private. */
#define SHARED_GVA	(2ul * SZ_4G)
#define PRIVATE_GVA	(3ul * SZ_4G)

#define SNP_PAGES	16
#define GHCB_PAGE	0
/* Always shared, for the guest to tell what it has got. */
#define REPORT_PAGE	1

/* An address without memory, and a port without a device. */
#define MMIO_GPA	0xd0000000ul
#define IO_PORT		0xe0

#define GHCB_MSR_PSC_REQ(gfn, op)	((u64)(op) << 52 | (u64)(gfn) << 12 | 0x14)
#define GHCB_MSR_PSC_RESP		0x15
#define GHCB_MSR_REG_GPA_REQ		0x12
#define GHCB_MSR_REG_GPA_RESP		0x13
#define PSC_OP_PRIVATE			1
#define PSC_OP_SHARED			2

#define SVM_IOIO_TYPE_IN		BIT(0)
#define SVM_IOIO_SIZE_32		BIT(6)
#define VMGEXIT_MMIO_READ		0x80000001
#define VMGEXIT_AP_HLT_LOOP		0x80000004
#define VMGEXIT_PSC			0x80000010
#define VMGEXIT_PSC_ERROR_GENERIC	(0x100ul << 32)

struct psc_list {
	u16 cur_entry;
	u16 end_entry;
	u32 reserved;
	u64 entries[253];
} __packed;

#define PSC_ENTRY(gfn, op)	((u64)(op) << 52 | (u64)(gfn) << 12)

struct ghcb {
	u8 reserved_0[0x1f8];
	u64 rax;
	u8 reserved_200[0x308 - 0x200];
	u64 rcx;
	u64 rdx;
	u64 rbx;
	u8 reserved_320[0x390 - 0x320];
	u64 exit_code;
	u64 exit_info_1;
	u64 exit_info_2;
	u64 scratch;
	u8 reserved_3b0[0x3f0 - 0x3b0];
	u8 valid_bitmap[16];
	u8 reserved_400[0x800 - 0x400];
	union {
		u8 buffer[2032];
		struct psc_list psc;
	};
	u8 reserved_ff0[10];
	u16 protocol_version;
	u32 usage;
} __packed;

kvm_static_assert(sizeof(struct ghcb) == PAGE_SIZE);

#define GHCB_GPA	(GMEM_GPA + GHCB_PAGE * PAGE_SIZE)

static struct ghcb *const ghcb = (void *)SHARED_GVA + GHCB_PAGE * PAGE_SIZE;
static u64 *const report = (void *)SHARED_GVA + REPORT_PAGE * PAGE_SIZE;

static u64 page_gfn(int page)
{
	return page_gpa(page) >> PAGE_SHIFT;
}

/* End the guest: 0, or the line that has gone wrong, is all that it can say. */
static void guest_end(int line)
{
	u64 set = line >> 8, code = line & 0xff;

	for (;;) {
		wrmsr(MSR_AMD64_SEV_ES_GHCB, GHCB_MSR_TERM_REQ | set << 12 | code << 16);
		vmgexit();
	}
}

#define SNP_GUEST_ASSERT(cond)		\
do {					\
	if (!(cond))			\
		guest_end(__LINE__);	\
} while (0)

static u64 guest_msr(u64 request)
{
	wrmsr(MSR_AMD64_SEV_ES_GHCB, request);
	vmgexit();
	return rdmsr(MSR_AMD64_SEV_ES_GHCB);
}

/* Validate, or rescind, a page, which has to change it. */
static void guest_pvalidate(int page, bool validate)
{
	bool unchanged;
	int ret;

	asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff"
		     : "=a"(ret), "=@ccc"(unchanged)
		     : "a"(PRIVATE_GVA + page * PAGE_SIZE), "c"(0), "d"(validate)
		     : "memory");

	SNP_GUEST_ASSERT(!ret && !unchanged);
}

/* A page that was made private is the guest's to use. */
static void guest_use_private(int page)
{
	u64 *mem = (void *)PRIVATE_GVA + page * PAGE_SIZE;

	guest_pvalidate(page, true);
	WRITE_ONCE(*mem, page_val(page, 1));
	SNP_GUEST_ASSERT(READ_ONCE(*mem) == page_val(page, 1));
}

static void ghcb_set_valid(void *field)
{
	int bit = (field - (void *)ghcb) / sizeof(u64);

	ghcb->valid_bitmap[bit / 8] |= BIT(bit % 8);
}

static bool ghcb_is_valid(void *field)
{
	int bit = (field - (void *)ghcb) / sizeof(u64);

	return ghcb->valid_bitmap[bit / 8] & BIT(bit % 8);
}

static void ghcb_init(void)
{
	SNP_GUEST_ASSERT(guest_msr(GHCB_GPA | GHCB_MSR_REG_GPA_REQ) ==
			 (GHCB_GPA | GHCB_MSR_REG_GPA_RESP));
	ghcb->protocol_version = 2;
}

static void ghcb_exit(u64 exit_code, u64 exit_info_1, u64 exit_info_2)
{
	ghcb->exit_code = exit_code;
	ghcb->exit_info_1 = exit_info_1;
	ghcb->exit_info_2 = exit_info_2;
	ghcb->scratch = GHCB_GPA + offsetof(struct ghcb, buffer);

	ghcb_set_valid(&ghcb->exit_code);
	ghcb_set_valid(&ghcb->exit_info_1);
	ghcb_set_valid(&ghcb->exit_info_2);
	ghcb_set_valid(&ghcb->scratch);

	wrmsr(MSR_AMD64_SEV_ES_GHCB, GHCB_GPA);
	vmgexit();
}

static void ghcb_check_success(void)
{
	SNP_GUEST_ASSERT(ghcb_is_valid(&ghcb->exit_info_1));
	SNP_GUEST_ASSERT(ghcb_is_valid(&ghcb->exit_info_2));
	SNP_GUEST_ASSERT(!ghcb->exit_info_1);
}

struct snp_vm {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
};

static void snp_vm_create(struct snp_vm *snp, void *guest_code)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SNP_VM,
		.gmem_in_place = true,
	};
	struct userspace_mem_region *region;
	struct kvm_vm *vm;
	int i;

	vm = __vm_create_with_vcpus(shape, 1, 0, guest_code, &snp->vcpu);
	snp->vm = vm;
	snp->fd = vm_create_guest_memfd(vm, SNP_PAGES * PAGE_SIZE, GMEM_FLAGS);
	vm_mem_add(vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, SNP_PAGES,
		   KVM_MEM_GUEST_MEMFD, snp->fd, 0);
	snp->mem = addr_gpa2hva(vm, GMEM_GPA);

	/* The library maps protected pages as private, and launches them so. */
	region = memslot2region(vm, GMEM_SLOT);
	for (i = 0; i < SNP_PAGES; i++)
		sparsebit_set(region->protected_phy_pages, page_gfn(i));
	virt_map(vm, PRIVATE_GVA, GMEM_GPA, SNP_PAGES);
	for (i = 0; i < SNP_PAGES; i++)
		sparsebit_clear(region->protected_phy_pages, page_gfn(i));
	virt_map(vm, SHARED_GVA, GMEM_GPA, SNP_PAGES);

	vm_sev_launch(vm, snp_default_policy(), NULL);
}

static void snp_vm_free(struct snp_vm *snp)
{
	kvm_close(snp->fd);
	kvm_vm_free(snp->vm);
}

static u64 snp_report(struct snp_vm *snp, int i)
{
	return READ_ONCE(((u64 *)page_hva(snp->mem, REPORT_PAGE))[i]);
}

static void check_exit(struct snp_vm *snp, u32 reason)
{
	struct kvm_run *run = snp->vcpu->run;
	u64 end;

	if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT) {
		TEST_ASSERT_EQ(run->system_event.type, KVM_SYSTEM_EVENT_SEV_TERM);
		end = run->system_event.data[0];
		end = (end >> 12 & 0xf) << 8 | (end >> 16 & 0xff);
		TEST_ASSERT(!end, "Guest assertion in line %lu", end);
	}

	TEST_ASSERT_KVM_EXIT_REASON(snp->vcpu, reason);
}

static void run_to_exit(struct snp_vm *snp, u32 reason)
{
	vcpu_run(snp->vcpu);
	check_exit(snp, reason);
}

static void run_to_end(struct snp_vm *snp)
{
	run_to_exit(snp, KVM_EXIT_SYSTEM_EVENT);
}

/* Run the vCPU to where the guest asks for pages to be converted. */
static void run_to_request(struct snp_vm *snp, int page, int nr, bool private)
{
	struct kvm_run *run = snp->vcpu->run;

	run_to_exit(snp, KVM_EXIT_HYPERCALL);
	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	TEST_ASSERT_EQ(run->hypercall.args[0], page_gpa(page));
	TEST_ASSERT_EQ(run->hypercall.args[1], nr);
	TEST_ASSERT_EQ(!!(run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED), private);
	TEST_ASSERT_EQ(run->hypercall.ret, 0);
}

static void run_immediate_exit(struct snp_vm *snp)
{
	snp->vcpu->run->immediate_exit = 1;
	TEST_ASSERT_EQ(__vcpu_run(snp->vcpu), -1);
	TEST_ASSERT_EQ(errno, EINTR);
	snp->vcpu->run->immediate_exit = 0;
}

/* There's nobody but KVM who could have the page in use, so there's no retry. */
static void convert_ghcb(struct snp_vm *snp)
{
	u64 error_page;

	TEST_ASSERT_EQ(try_private(snp->fd, GHCB_PAGE, 1, &error_page), 0);
}

FIXTURE(snp) {
	struct snp_vm snp;
};

FIXTURE_SETUP(snp)
{
	self->snp.vm = NULL;
}

FIXTURE_TEARDOWN(snp)
{
	if (self->snp.vm)
		snp_vm_free(&self->snp);
}

static void guest_io(void)
{
	ghcb_init();
	ghcb_exit(SVM_EXIT_IOIO, (u64)IO_PORT << 16 | SVM_IOIO_SIZE_32 | SVM_IOIO_TYPE_IN, 0);
	ghcb_check_success();
	SNP_GUEST_ASSERT(ghcb_is_valid(&ghcb->rax));
	report[0] = ghcb->rax;
	guest_end(0);
}

static void run_to_io(struct snp_vm *snp)
{
	struct kvm_run *run = snp->vcpu->run;

	run_to_exit(snp, KVM_EXIT_IO);
	TEST_ASSERT_EQ(run->io.port, IO_PORT);
	TEST_ASSERT_EQ(run->io.direction, KVM_EXIT_IO_IN);
	TEST_ASSERT_EQ(run->io.size, 4);
	*(u32 *)((void *)run + run->io.data_offset) = 0x5eedf00d;
}

/* C13: an exit to userspace doesn't keep the GHCB, and the result still arrives. */
TEST_F(snp, io)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_io);
	run_to_io(snp);

	convert_ghcb(snp);
	to_shared(snp->fd, GHCB_PAGE, 1);

	run_to_end(snp);
	EXPECT_EQ(0x5eedf00d, snp_report(snp, 0));
}

/* C13: neither does an exit that has been completed, by a vCPU that hasn't run. */
TEST_F(snp, io_immediate_exit)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_io);
	run_to_io(snp);

	run_immediate_exit(snp);
	convert_ghcb(snp);
	run_immediate_exit(snp);
	to_shared(snp->fd, GHCB_PAGE, 1);
	run_immediate_exit(snp);

	run_to_end(snp);
	EXPECT_EQ(0x5eedf00d, snp_report(snp, 0));
}

static void guest_io_lost(void)
{
	ghcb_init();
	ghcb_exit(SVM_EXIT_IOIO, (u64)IO_PORT << 16 | SVM_IOIO_SIZE_32 | SVM_IOIO_TYPE_IN, 0);
	report[0] = 1;
	guest_use_private(GHCB_PAGE);
	guest_end(0);
}

/* C9, C13: a result for a GHCB that is private by then goes nowhere. */
TEST_F(snp, io_lost)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_io_lost);
	run_to_io(snp);

	convert_ghcb(snp);
	run_to_end(snp);
	EXPECT_EQ(1, snp_report(snp, 0));
	EXPECT_TRUE(read_raises_sigbus(page_hva(snp->mem, GHCB_PAGE)));
}

static void guest_mmio(void)
{
	ghcb_init();
	memset(ghcb->buffer, 0xaa, sizeof(ghcb->buffer));
	ghcb_exit(VMGEXIT_MMIO_READ, MMIO_GPA, 8);
	ghcb_check_success();
	report[0] = *(u64 *)ghcb->buffer;
	report[1] = *(u64 *)(ghcb->buffer + 8);
	guest_end(0);
}

/* C13: what is read into the scratch area, which is in the GHCB, arrives, too. */
TEST_F(snp, mmio)
{
	const u64 val = 0x5eedf00d5eedf00d;
	struct snp_vm *snp = &self->snp;
	struct kvm_run *run;

	snp_vm_create(snp, guest_mmio);
	run = snp->vcpu->run;

	run_to_exit(snp, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, MMIO_GPA);
	TEST_ASSERT_EQ(run->mmio.len, sizeof(val));
	TEST_ASSERT_EQ(run->mmio.is_write, 0);
	memcpy(run->mmio.data, &val, sizeof(val));

	convert_ghcb(snp);
	to_shared(snp->fd, GHCB_PAGE, 1);

	run_to_end(snp);
	EXPECT_EQ(val, snp_report(snp, 0));
	EXPECT_EQ(0xaaaaaaaaaaaaaaaa, snp_report(snp, 1));
}

static void ghcb_ap_reset_hold(void)
{
	report[0]++;
	ghcb_exit(VMGEXIT_AP_HLT_LOOP, 0, 0);
}

static void guest_ap_reset_hold(void)
{
	ghcb_init();

	/* The first SIPI is the one that starts a vCPU, it ends no hold. */
	ghcb_ap_reset_hold();
	ghcb_check_success();
	SNP_GUEST_ASSERT(!ghcb->exit_info_2);

	ghcb_ap_reset_hold();
	ghcb_check_success();
	SNP_GUEST_ASSERT(ghcb->exit_info_2);
	guest_end(0);
}

static void guest_ap_reset_hold_lost(void)
{
	ghcb_init();

	ghcb_ap_reset_hold();
	ghcb_check_success();
	SNP_GUEST_ASSERT(!ghcb->exit_info_2);

	ghcb_ap_reset_hold();
	guest_use_private(GHCB_PAGE);
	guest_end(0);
}

static void *run_halted(void *arg)
{
	struct snp_vm *snp = arg;

	if (!__vcpu_run(snp->vcpu))
		check_exit(snp, KVM_EXIT_INTR);

	TEST_ASSERT_EQ(errno, EINTR);
	return NULL;
}

static void nop_handler(int sig) { }

/* Have the vCPU halt for the nth time. */
static pthread_t halt_start(struct snp_vm *snp, int n)
{
	const struct sigaction action = { .sa_handler = nop_handler };
	pthread_t thread;

	sigaction(SIGUSR1, &action, NULL);
	kvm_pthread_create(&thread, NULL, run_halted, snp);
	while (snp_report(snp, 0) != n)
		usleep(1000);
	/* The guest is about to halt. */
	usleep(200000);
	return thread;
}

static void halt_stop(struct snp_vm *snp, pthread_t thread)
{
	snp->vcpu->run->immediate_exit = 1;
	pthread_kill(thread, SIGUSR1);
	kvm_pthread_join(thread, NULL);
	snp->vcpu->run->immediate_exit = 0;
}

static void send_sipi(struct snp_vm *snp)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_SIPI_RECEIVED };

	vcpu_ioctl(snp->vcpu, KVM_SET_MP_STATE, &mp_state);
}

/* C13: a vCPU that halts by its GHCB doesn't keep it, nor does it lose its SIPI. */
TEST_F(snp, ap_reset_hold)
{
	struct snp_vm *snp = &self->snp;
	pthread_t thread;
	int i;

	snp_vm_create(snp, guest_ap_reset_hold);

	for (i = 1; i <= 2; i++) {
		thread = halt_start(snp, i);
		convert_ghcb(snp);
		to_shared(snp->fd, GHCB_PAGE, 1);

		halt_stop(snp, thread);
		convert_ghcb(snp);
		to_shared(snp->fd, GHCB_PAGE, 1);

		send_sipi(snp);
	}

	run_to_end(snp);
}

/* C9, C13: a vCPU can be woken up without its GHCB, as after a guest's kexec. */
TEST_F(snp, ap_reset_hold_lost)
{
	struct snp_vm *snp = &self->snp;
	pthread_t thread;

	snp_vm_create(snp, guest_ap_reset_hold_lost);

	thread = halt_start(snp, 1);
	halt_stop(snp, thread);
	send_sipi(snp);

	thread = halt_start(snp, 2);
	convert_ghcb(snp);
	halt_stop(snp, thread);
	send_sipi(snp);

	run_to_end(snp);
	EXPECT_TRUE(read_raises_sigbus(page_hva(snp->mem, GHCB_PAGE)));
}

/* Have the pages of the list converted, and try again for as long as told to. */
static void guest_psc(int nr)
{
	u16 cur = 0;

	ghcb->psc.cur_entry = 0;
	ghcb->psc.end_entry = nr - 1;

	while (ghcb->psc.cur_entry < nr) {
		ghcb_exit(VMGEXIT_PSC, 0, 0);
		ghcb_check_success();
		SNP_GUEST_ASSERT(!ghcb->exit_info_2);
		SNP_GUEST_ASSERT(ghcb->psc.end_entry == nr - 1);
		SNP_GUEST_ASSERT(ghcb->psc.cur_entry >= cur);
		cur = ghcb->psc.cur_entry;
		report[0]++;
		report[report[0]] = cur;
	}
}

static void guest_psc_list(void)
{
	int i;

	ghcb_init();
	/* Two ranges, of two pages and of one. */
	ghcb->psc.entries[0] = PSC_ENTRY(page_gfn(3), PSC_OP_PRIVATE);
	ghcb->psc.entries[1] = PSC_ENTRY(page_gfn(4), PSC_OP_PRIVATE);
	ghcb->psc.entries[2] = PSC_ENTRY(page_gfn(6), PSC_OP_PRIVATE);
	guest_psc(3);

	guest_use_private(3);
	guest_use_private(4);
	guest_use_private(6);

	for (i = 3; i <= 6; i += 3)
		guest_pvalidate(i, false);
	ghcb->psc.entries[0] = PSC_ENTRY(page_gfn(3), PSC_OP_SHARED);
	ghcb->psc.entries[1] = PSC_ENTRY(page_gfn(6), PSC_OP_SHARED);
	guest_psc(2);
	guest_end(0);
}

/* C15: pages are converted as the list has them. */
TEST_F(snp, list)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_psc_list);

	run_to_request(snp, 3, 2, true);
	to_private(snp->fd, 3, 2);
	run_to_request(snp, 6, 1, true);
	to_private(snp->fd, 6, 1);

	run_to_request(snp, 3, 1, false);
	EXPECT_EQ(1, snp_report(snp, 0));
	EXPECT_EQ(3, snp_report(snp, 1));
	to_shared(snp->fd, 3, 1);
	run_to_request(snp, 6, 1, false);
	to_shared(snp->fd, 6, 1);

	run_to_end(snp);
	EXPECT_EQ(2, snp_report(snp, 0));
	EXPECT_EQ(2, snp_report(snp, 2));

	/* The host can write to what it has got back. */
	WRITE_ONCE(*(u64 *)page_hva(snp->mem, 3), 1);
	WRITE_ONCE(*(u64 *)page_hva(snp->mem, 6), 1);
	EXPECT_TRUE(read_raises_sigbus(page_hva(snp->mem, 4)));
}

/* C4, C13: a guest with a list is told to try again, and to go on where it was. */
TEST_F(snp, list_again)
{
	struct snp_vm *snp = &self->snp;
	struct kvm_run *run;
	u8 buf[PAGE_SIZE];
	u64 error_page;
	int fds[2], i;

	snp_vm_create(snp, guest_psc_list);
	run = snp->vcpu->run;

	ASSERT_EQ(PAGE_SIZE, splice_page(fds, page_hva(snp->mem, 4)));
	for (i = 0; i < 3; i++) {
		run_to_request(snp, 3, 2, true);
		EXPECT_EQ(i, snp_report(snp, 0));
		EXPECT_EQ(0, snp_report(snp, i));
		EXPECT_EQ(EAGAIN, try_private(snp->fd, 3, 2, &error_page));
		EXPECT_EQ(4, error_page);
		run->hypercall.ret = EAGAIN;
	}
	unsplice_page(fds, buf);

	run_to_request(snp, 3, 2, true);
	to_private(snp->fd, 3, 2);
	run_to_request(snp, 6, 1, true);
	EXPECT_EQ(3, snp_report(snp, 0));
	run->hypercall.ret = EAGAIN;

	/* What has been converted isn't asked for again. */
	run_to_request(snp, 6, 1, true);
	EXPECT_EQ(4, snp_report(snp, 0));
	EXPECT_EQ(2, snp_report(snp, 4));
	to_private(snp->fd, 6, 1);

	run_to_request(snp, 3, 1, false);
	EXPECT_EQ(5, snp_report(snp, 0));
	EXPECT_EQ(3, snp_report(snp, 5));
	to_shared(snp->fd, 3, 1);
	run_to_request(snp, 6, 1, false);
	run->hypercall.ret = EAGAIN;
	run_to_request(snp, 6, 1, false);
	EXPECT_EQ(6, snp_report(snp, 0));
	EXPECT_EQ(1, snp_report(snp, 6));
	to_shared(snp->fd, 6, 1);
	run_to_end(snp);
}

static void guest_psc_list_error(void)
{
	ghcb_init();
	ghcb->psc.cur_entry = 0;
	ghcb->psc.end_entry = 0;
	ghcb->psc.entries[0] = PSC_ENTRY(page_gfn(3), PSC_OP_PRIVATE);
	ghcb_exit(VMGEXIT_PSC, 0, 0);
	ghcb_check_success();
	SNP_GUEST_ASSERT(ghcb->exit_info_2 == VMGEXIT_PSC_ERROR_GENERIC);
	SNP_GUEST_ASSERT(ghcb->psc.cur_entry == 0);
	guest_end(0);
}

/* A failure is still one. */
TEST_F(snp, list_error)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_psc_list_error);
	run_to_request(snp, 3, 1, true);
	snp->vcpu->run->hypercall.ret = EINVAL;
	run_to_end(snp);
}

static void guest_psc_list_itself(void)
{
	ghcb_init();
	ghcb->psc.cur_entry = 0;
	ghcb->psc.end_entry = 2;
	ghcb->psc.entries[0] = PSC_ENTRY(page_gfn(5), PSC_OP_PRIVATE);
	ghcb->psc.entries[1] = PSC_ENTRY(page_gfn(GHCB_PAGE), PSC_OP_PRIVATE);
	ghcb->psc.entries[2] = PSC_ENTRY(page_gfn(7), PSC_OP_PRIVATE);
	ghcb_exit(VMGEXIT_PSC, 0, 0);

	guest_use_private(5);
	guest_use_private(GHCB_PAGE);
	guest_use_private(7);
	guest_end(0);
}

/* C9, C13: a guest can ask for its GHCB to be private by the very list in it. */
TEST_F(snp, list_itself)
{
	struct snp_vm *snp = &self->snp;

	snp_vm_create(snp, guest_psc_list_itself);

	run_to_request(snp, 5, 1, true);
	to_private(snp->fd, 5, 1);
	run_to_request(snp, GHCB_PAGE, 1, true);
	convert_ghcb(snp);
	run_to_request(snp, 7, 1, true);
	to_private(snp->fd, 7, 1);
	run_to_end(snp);
	EXPECT_TRUE(read_raises_sigbus(page_hva(snp->mem, GHCB_PAGE)));
}

static void guest_psc_msr(void)
{
	SNP_GUEST_ASSERT(guest_msr(GHCB_MSR_PSC_REQ(page_gfn(3), PSC_OP_PRIVATE)) ==
			 GHCB_MSR_PSC_RESP);
	guest_use_private(3);
	guest_pvalidate(3, false);
	SNP_GUEST_ASSERT(guest_msr(GHCB_MSR_PSC_REQ(page_gfn(3), PSC_OP_SHARED)) ==
			 GHCB_MSR_PSC_RESP);
	SNP_GUEST_ASSERT(guest_msr(GHCB_MSR_PSC_REQ(page_gfn(3), PSC_OP_PRIVATE)) >> 32);
	guest_end(0);
}

/* C4, C13: by the MSR protocol, it's the VMM who is asked again. */
TEST_F(snp, msr_again)
{
	struct snp_vm *snp = &self->snp;
	struct kvm_run *run;
	u8 buf[PAGE_SIZE];
	u64 error_page;
	int fds[2], i;

	snp_vm_create(snp, guest_psc_msr);
	run = snp->vcpu->run;

	ASSERT_EQ(PAGE_SIZE, splice_page(fds, page_hva(snp->mem, 3)));
	for (i = 0; i < 3; i++) {
		run_to_request(snp, 3, 1, true);
		EXPECT_EQ(EAGAIN, try_private(snp->fd, 3, 1, &error_page));
		run->hypercall.ret = EAGAIN;
	}
	unsplice_page(fds, buf);

	run_to_request(snp, 3, 1, true);
	to_private(snp->fd, 3, 1);

	run_to_request(snp, 3, 1, false);
	run->hypercall.ret = EAGAIN;
	run_to_request(snp, 3, 1, false);
	to_shared(snp->fd, 3, 1);

	/* A failure is still one. */
	run_to_request(snp, 3, 1, true);
	run->hypercall.ret = EINVAL;
	run_to_end(snp);
}

int main(int argc, char *argv[])
{
	__TEST_REQUIRE(kvm_has_gmem_in_place(), "KVM can't convert memory in place");
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SNP_VM),
		       "This isn't an SNP host");

	return test_harness_run(argc, argv);
}
