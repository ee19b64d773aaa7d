// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that a page which hardware doesn't let go of stays with its guest: the
 * host doesn't get it by a conversion, which fails, nor by anything that frees
 * memory, upon which the page is leaked.
 *
 * Needs a kernel with CONFIG_KVM_PROVE_GMEM, which plays the hardware's part for
 * software-protected VMs, and lets pages be told to refuse: to be given back, as
 * when SNP's RMPUPDATE fails, or even to be unmapped, as when TDX can't remove a
 * page.  What belongs to a guest isn't in the kernel's direct map, i.e. whoever
 * gets such a page from the page allocator doesn't survive to fail the test.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define LEAKED_PATH	"/sys/kernel/debug/kvm/gmem_pages_leaked"

/* The pages that refuse, among others that don't. */
#define STUCK_PAGE	20
#define NR_STUCK	3

enum refusal {
	REFUSE_NOTHING,
	REFUSE_RECLAIM,
	REFUSE_UNMAP,
};

static u64 nr_leaked(void)
{
	char buf[32] = { };
	int fd;

	fd = open(LEAKED_PATH, O_RDONLY);
	TEST_ASSERT(fd >= 0, "Failed to open " LEAKED_PATH);
	TEST_ASSERT(read(fd, buf, sizeof(buf) - 1) > 0, "Failed to read " LEAKED_PATH);
	kvm_close(fd);

	return strtoull(buf, NULL, 10);
}

static int open_refuse(struct kvm_vm *vm)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/gmem_refuse",
		 getpid(), vm->fd);
	return open(path, O_WRONLY);
}

static void refuse(struct kvm_vm *vm, int page, int nr, enum refusal refusal)
{
	int fd = open_refuse(vm), len;
	char buf[64];

	TEST_ASSERT(fd >= 0, "Failed to open gmem_refuse");
	len = snprintf(buf, sizeof(buf), "%lx %x %x", page_gpa(page), nr, refusal);
	TEST_ASSERT_EQ(write(fd, buf, len), len);
	kvm_close(fd);
}

/* The page frames behind what's mapped, which in-place conversion doesn't change. */
static void get_pfns(void *mem, u64 *pfns, int nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), i;
	ssize_t size = nr * sizeof(*pfns);

	TEST_ASSERT(fd >= 0, "Failed to open pagemap");
	TEST_ASSERT_EQ(pread(fd, pfns, size, (u64)mem / PAGE_SIZE * sizeof(*pfns)), size);
	kvm_close(fd);

	for (i = 0; i < nr; i++) {
		pfns[i] &= GENMASK_ULL(54, 0);
		TEST_ASSERT(pfns[i], "No PFN in pagemap, is this run by root?");
	}
}

static u64 page_flags(u64 pfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	u64 flags;

	TEST_ASSERT(fd >= 0, "Failed to open kpageflags");
	TEST_ASSERT_EQ(pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)), sizeof(flags));
	kvm_close(fd);
	return flags;
}

#define KPF_BUDDY	BIT(10)

/*
 * Verify that pages aren't in the page allocator's hands: look there, and take
 * what was freed last, which is what is handed out first.
 */
#define NR_TAKEN	(SZ_32M / PAGE_SIZE)

static void check_not_free(const u64 *pfns)
{
	static u64 taken[NR_TAKEN];
	u8 *mem;
	int i, j;

	for (i = 0; i < NR_STUCK; i++)
		TEST_ASSERT(!(page_flags(pfns[i]) & KPF_BUDDY), "PFN 0x%lx is free", pfns[i]);

	mem = kvm_mmap(SZ_32M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	TEST_ASSERT(!madvise(mem, SZ_32M, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE failed");
	for (i = 0; i < NR_TAKEN; i++)
		WRITE_ONCE(mem[i * PAGE_SIZE], 1);

	get_pfns(mem, taken, NR_TAKEN);
	for (i = 0; i < NR_TAKEN; i++)
		for (j = 0; j < NR_STUCK; j++)
			TEST_ASSERT(taken[i] != pfns[j], "PFN 0x%lx was handed out", pfns[j]);

	kvm_munmap(mem, SZ_32M);
}

/* A VM all of whose pages are private and the guest's, and some won't change. */
static void stuck_vm_create(struct gmem_vm *gmem, enum refusal refusal, u64 *pfns)
{
	gmem_vm_create(gmem, GMEM_FLAGS);
	host_fill(gmem->mem, 0, NR_PAGES, 1);
	get_pfns(page_hva(gmem->mem, STUCK_PAGE), pfns, NR_STUCK);

	to_private(gmem->fd, 0, NR_PAGES);
	guest_check(gmem->vcpu, 0, NR_PAGES, 1);
	refuse(gmem->vm, STUCK_PAGE, NR_STUCK, refusal);
}

static int try_shared(int fd, int first, int nr)
{
	u64 error_offset = NO_ERROR_OFFSET;
	int r;

	r = __gmem_set_memory_attributes(fd, first * PAGE_SIZE, nr * PAGE_SIZE, 0,
					 &error_offset) ? errno : 0;
	TEST_ASSERT_EQ(error_offset, NO_ERROR_OFFSET);
	return r;
}

/* C4, C5, C9: the VM is dead, and all of its memory is as private as before. */
static void check_dead(struct gmem_vm *gmem)
{
	u64 error_page = NO_ERROR_OFFSET;

	TEST_ASSERT_EQ(try_guest_read(gmem->vcpu, GMEM_GPA), EIO);
	TEST_ASSERT_EQ(try_shared(gmem->fd, 0, 1), EIO);
	TEST_ASSERT_EQ(__gmem_set_memory_attributes(gmem->fd, 0, PAGE_SIZE, PRIVATE,
						    &error_page), -1);
	TEST_ASSERT_EQ(errno, EIO);
	check_state(gmem->mem, ALL_PAGES);
}

static void fail_conversion(struct gmem_vm *gmem)
{
	TEST_ASSERT_EQ(try_shared(gmem->fd, 0, NR_PAGES), EIO);
	check_dead(gmem);
}

static void punch(struct gmem_vm *gmem, int first, int nr)
{
	kvm_fallocate(gmem->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      first * PAGE_SIZE, nr * PAGE_SIZE);
}

FIXTURE(stuck) {
	struct gmem_vm gmem;
	u64 pfns[NR_STUCK];
	u64 nr_leaked;
};

FIXTURE_VARIANT(stuck) {
	enum refusal refusal;
};

FIXTURE_VARIANT_ADD(stuck, reclaim) {
	.refusal = REFUSE_RECLAIM,
};

FIXTURE_VARIANT_ADD(stuck, unmap) {
	.refusal = REFUSE_UNMAP,
};

FIXTURE_SETUP(stuck)
{
	self->nr_leaked = nr_leaked();
	stuck_vm_create(&self->gmem, variant->refusal, self->pfns);
}

FIXTURE_TEARDOWN(stuck)
{
	if (self->gmem.vm)
		gmem_vm_free(&self->gmem);
}

static void stuck_vm_free(struct gmem_vm *gmem)
{
	gmem_vm_free(gmem);
	gmem->vm = NULL;
}

#define EXPECT_LEAKED(nr)	EXPECT_EQ(nr, nr_leaked() - self->nr_leaked)

/* C4, C5: as long as nothing refuses, nothing is leaked. */
TEST_F(stuck, none)
{
	refuse(self->gmem.vm, STUCK_PAGE, NR_STUCK, REFUSE_NOTHING);
	EXPECT_EQ(0, try_shared(self->gmem.fd, 0, NR_PAGES));
	host_check(self->gmem.mem, 0, NR_PAGES, 1);
	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(0);
}

/* C4, C5, C9: a conversion that hardware refuses is EIO, and changes nothing. */
TEST_F(stuck, convert)
{
	/* Pages other than those are converted. */
	EXPECT_EQ(0, try_shared(self->gmem.fd, 0, STUCK_PAGE));
	to_private(self->gmem.fd, 0, STUCK_PAGE);
	guest_check(self->gmem.vcpu, 0, STUCK_PAGE, 1);

	fail_conversion(&self->gmem);
	EXPECT_LEAKED(0);

	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(NR_STUCK);
	check_not_free(self->pfns);
}

/* C5, C25: what hardware gives back at last is freed. */
TEST_F(stuck, convert_recover)
{
	fail_conversion(&self->gmem);
	refuse(self->gmem.vm, STUCK_PAGE, NR_STUCK, REFUSE_NOTHING);
	check_dead(&self->gmem);

	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(0);
}

/* C9, C12, C25: a page is leaked once, and what replaces it is an ordinary page. */
TEST_F(stuck, punch)
{
	punch(&self->gmem, 0, NR_PAGES);
	EXPECT_LEAKED(NR_STUCK);
	check_not_free(self->pfns);

	/* That a page can't be unmapped is the end of the VM. */
	if (variant->refusal == REFUSE_UNMAP) {
		check_dead(&self->gmem);
	} else {
		EXPECT_EQ(0, guest_read(self->gmem.vcpu, page_gpa(STUCK_PAGE)));
		guest_fill(self->gmem.vcpu, 0, NR_PAGES, 2);
		to_shared(self->gmem.fd, 0, NR_PAGES);
		host_check(self->gmem.mem, 0, NR_PAGES, 2);
	}

	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(NR_STUCK);
	check_not_free(self->pfns);
}

/* C5, C25: the same after a conversion has failed. */
TEST_F(stuck, convert_punch)
{
	fail_conversion(&self->gmem);
	punch(&self->gmem, 0, NR_PAGES);
	EXPECT_LEAKED(NR_STUCK);
	check_not_free(self->pfns);
	check_dead(&self->gmem);

	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(NR_STUCK);
}

/* C25: it's all the same if the guest_memfd is closed. */
TEST_F(stuck, close)
{
	stuck_vm_free(&self->gmem);
	EXPECT_LEAKED(NR_STUCK);
	check_not_free(self->pfns);
}

static void kill_vmm(struct __test_metadata *_metadata, enum refusal refusal, bool convert)
{
	u64 leaked = nr_leaked(), pfns[NR_STUCK];
	struct gmem_vm gmem;
	int fds[2], status;
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		stuck_vm_create(&gmem, refusal, pfns);
		if (convert)
			fail_conversion(&gmem);
		TEST_ASSERT_EQ(write(fds[1], pfns, sizeof(pfns)), sizeof(pfns));
		for (;;)
			pause();
	}

	kvm_close(fds[1]);
	ASSERT_EQ(sizeof(pfns), read(fds[0], pfns, sizeof(pfns)));
	EXPECT_EQ(0, nr_leaked() - leaked);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	kvm_close(fds[0]);

	EXPECT_EQ(NR_STUCK, nr_leaked() - leaked);
	check_not_free(pfns);
}

/* C25: or if the VMM is killed, and there's nobody left to be told. */
TEST_F(stuck, kill)
{
	stuck_vm_free(&self->gmem);
	kill_vmm(_metadata, variant->refusal, false);
}

/* C5, C25: be it after a conversion has failed. */
TEST_F(stuck, convert_kill)
{
	stuck_vm_free(&self->gmem);
	kill_vmm(_metadata, variant->refusal, true);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;
	int fd;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	fd = open_refuse(vm);
	__TEST_REQUIRE(fd >= 0, "No gmem_refuse in debugfs, is CONFIG_KVM_PROVE_GMEM set?");
	kvm_close(fd);
	kvm_vm_free(vm);

	return test_harness_run(argc, argv);
}
