// SPDX-License-Identifier: GPL-2.0-only
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include <linux/align.h>
#include <linux/kernel-page-flags.h>
#include <linux/membarrier.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "test_util.h"
#include "ucall_common.h"

#include "../../../../../../mm/gup_test.h"

#define GUP_TEST_PATH	"/sys/kernel/debug/gup_test"

const struct vm_shape in_place_shape = {
	.mode = VM_MODE_DEFAULT,
	.type = KVM_X86_SW_PROTECTED_VM,
	.gmem_in_place = true,
};

const struct vm_shape default_mode_shape = {
	.mode = VM_MODE_DEFAULT,
	.type = KVM_X86_SW_PROTECTED_VM,
};

/* The guest executes one command for each KVM_RUN. */
enum guest_op {
	GUEST_READ,
	GUEST_FILL,
	GUEST_CHECK,
	GUEST_TOUCH,
	GUEST_SPIN,
};

static enum guest_op guest_op;
static u64 *guest_mem;
static u64 guest_val;
static int guest_nr;
static int guest_generation;

static bool guest_stop;
static u64 guest_laps;

/* Set all words of pages to a value of their own. */
static void fill_pages(u64 *mem, int first, int nr, int generation)
{
	int i, j;

	for (i = first; i < first + nr; i++, mem += WORDS_PER_PAGE)
		for (j = 0; j < WORDS_PER_PAGE; j++)
			WRITE_ONCE(mem[j], page_val(i, generation));
}

/* Returns the index of the first word that isn't what it should be, or -1. */
static int check_pages(u64 *mem, int first, int nr, int generation)
{
	int i;

	for (i = 0; i < nr * WORDS_PER_PAGE; i++)
		if (READ_ONCE(mem[i]) != page_val(first + i / WORDS_PER_PAGE, generation))
			return i;

	return -1;
}

static void touch_pages(u64 *mem, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		READ_ONCE(mem[i * WORDS_PER_PAGE]);
}

static void guest_code(void)
{
	for (;;) {
		switch (READ_ONCE(guest_op)) {
		case GUEST_READ:
			guest_val = READ_ONCE(*guest_mem);
			break;
		case GUEST_FILL:
			fill_pages(guest_mem, guest_val, guest_nr, guest_generation);
			break;
		case GUEST_CHECK:
			guest_val = check_pages(guest_mem, guest_val, guest_nr,
						guest_generation);
			break;
		case GUEST_TOUCH:
			touch_pages(guest_mem, guest_nr);
			break;
		case GUEST_SPIN:
			while (!READ_ONCE(guest_stop)) {
				touch_pages(guest_mem, NR_SPIN_PAGES);
				WRITE_ONCE(guest_laps, guest_laps + 1);
			}
			break;
		}
		GUEST_SYNC(0);
	}
}

void require_in_place_vm(void)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	kvm_vm_free(____vm_create(in_place_shape));
}

int gmem_vm_add_memory(struct kvm_vm *vm, u64 flags)
{
	int fd = vm_create_guest_memfd(vm, GMEM_SIZE, flags);

	vm_mem_add(vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, NR_PAGES,
		   KVM_MEM_GUEST_MEMFD, fd, 0);

	virt_map(vm, GMEM_GPA, GMEM_GPA, NR_PAGES);
	virt_map(vm, GMEM_GPA2, GMEM_GPA2, NR_PAGES);

	return fd;
}

void __gmem_vm_create(struct gmem_vm *gmem, const struct vm_shape shape, u64 flags)
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	gmem->vm = __vm_create_shape_with_one_vcpu(shape, &gmem->vcpu, NR_PAGES * 2,
						   guest_code);
	gmem->fd = gmem_vm_add_memory(gmem->vm, flags);
	gmem->mem = addr_gpa2hva(gmem->vm, GMEM_GPA);
}

void gmem_vm_create(struct gmem_vm *gmem, u64 flags)
{
	__gmem_vm_create(gmem, in_place_shape, flags);
}

void gmem_vm_free(struct gmem_vm *gmem)
{
	kvm_close(gmem->fd);
	kvm_vm_free(gmem->vm);
}

struct kvm_vm *gmem_vm_create_with_vcpus(struct vm_shape shape, int nr,
					 struct kvm_vcpu *vcpus[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	return __vm_create_with_vcpus(shape, nr, NR_PAGES * 2, guest_code, vcpus);
}

static void run_guest(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
}

static void guest_set(struct kvm_vcpu *vcpu, enum guest_op op, gva_t gva, u64 val,
		      int nr, int generation)
{
	struct kvm_vm *vm = vcpu->vm;

	write_guest_global(vm, guest_op, op);
	write_guest_global(vm, guest_mem, (u64 *)gva);
	write_guest_global(vm, guest_val, val);
	write_guest_global(vm, guest_nr, nr);
	write_guest_global(vm, guest_generation, generation);
}

u64 guest_read(struct kvm_vcpu *vcpu, gva_t gva)
{
	guest_set(vcpu, GUEST_READ, gva, 0, 0, 0);
	run_guest(vcpu);

	return SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val);
}

void guest_read_begin(struct kvm_vcpu *vcpu, gva_t gva)
{
	guest_set(vcpu, GUEST_READ, gva, 0, 0, 0);
}

int try_guest_read(struct kvm_vcpu *vcpu, gva_t gva)
{
	guest_read_begin(vcpu, gva);

	return _vcpu_run(vcpu) ? errno : 0;
}

void guest_read_mmio(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	const u64 val = 0x5eedf00d5eedf00d;
	struct kvm_run *run = vcpu->run;

	guest_set(vcpu, GUEST_READ, gpa, 0, 0, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, gpa);
	TEST_ASSERT_EQ(run->mmio.len, sizeof(val));
	TEST_ASSERT_EQ(run->mmio.is_write, 0);

	memcpy(run->mmio.data, &val, sizeof(val));
	run_guest(vcpu);
	TEST_ASSERT_EQ(SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val), val);
}

static void interrupt(int sig)
{
}

int vcpu_run_limited(struct kvm_vcpu *vcpu)
{
	/* Again and again, the first signal can be too early to interrupt KVM_RUN. */
	const struct itimerspec limit = {
		.it_value.tv_sec = RUN_SECONDS,
		.it_interval.tv_nsec = NSEC_PER_SEC / 10,
	};
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGALRM,
		._sigev_un._tid = kvm_gettid(),
	};
	struct sigaction action = {
		.sa_handler = interrupt,
	};
	timer_t timer;
	int r;

	TEST_ASSERT(!sigaction(SIGALRM, &action, NULL), "sigaction() failed");
	TEST_ASSERT(!timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create() failed");
	TEST_ASSERT(!timer_settime(timer, 0, &limit, NULL), "timer_settime() failed");
	r = __vcpu_run(vcpu) ? errno : 0;
	timer_delete(timer);

	return r;
}

int guest_read_limited(struct kvm_vcpu *vcpu, gva_t gva)
{
	struct kvm_regs regs;
	int r;

	/* Be behind the instruction that ended the last command. */
	vcpu_run_complete_io(vcpu);
	vcpu_regs_get(vcpu, &regs);

	guest_set(vcpu, GUEST_READ, gva, 0, 0, 0);
	r = vcpu_run_limited(vcpu);
	if (r)
		vcpu_regs_set(vcpu, &regs);

	return r;
}

void __guest_read_closed(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa)
{
	struct kvm_run *run = vcpu->run;
	int r = guest_read_limited(vcpu, gva);

	TEST_ASSERT(r != EINTR, "The vCPU is still busy with 0x%lx after %d s", gpa, RUN_SECONDS);
	TEST_ASSERT(r == EFAULT, "KVM_RUN at 0x%lx: errno %d, exit %s", gpa, r,
		    exit_reason_str(run->exit_reason));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.gpa, gpa);
	TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);
	TEST_ASSERT_EQ(run->memory_fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE, 0);
}

void guest_read_closed(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	__guest_read_closed(vcpu, gpa, gpa);
}

void __guest_fill(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation)
{
	guest_set(vcpu, GUEST_FILL, gva, first, nr, generation);
	run_guest(vcpu);
}

void __guest_check(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation)
{
	int i;

	guest_set(vcpu, GUEST_CHECK, gva, first, nr, generation);
	run_guest(vcpu);

	i = SYNC_FROM_GUEST_AND_READ(vcpu->vm, guest_val);
	TEST_ASSERT(i == -1, "Guest has wrong data at 0x%lx, page %d, generation %d",
		    gva + i * sizeof(u64), first + i / (int)WORDS_PER_PAGE, generation);
}

bool in_place_is_default(void)
{
	char value = 0;
	int fd;

	/* KVM without VM mode has no parameter, as there's nothing to choose. */
	fd = open(GMEM_PARAM_PATH, O_RDONLY);
	if (fd < 0) {
		TEST_ASSERT(errno == ENOENT, __KVM_SYSCALL_ERROR("open()", fd));
		return true;
	}
	TEST_ASSERT_EQ(read(fd, &value, 1), 1);
	kvm_close(fd);

	TEST_ASSERT(value == 'Y' || value == 'N',
		    "Unexpected value '%c' in " GMEM_PARAM_PATH, value);
	return value == 'Y';
}

int set_attributes(int fd, struct kvm_memory_attributes2 *attr)
{
	return __kvm_ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, attr) ? errno : 0;
}

void to_private(int fd, int first, int nr)
{
	gmem_set_private(fd, first * PAGE_SIZE, nr * PAGE_SIZE);
}

void to_shared(int fd, int first, int nr)
{
	gmem_set_shared(fd, first * PAGE_SIZE, nr * PAGE_SIZE);
}

int try_private(int fd, int first, int nr, u64 *error_page)
{
	u64 error_offset = NO_ERROR_OFFSET;
	int r;

	r = __gmem_set_memory_attributes(fd, first * PAGE_SIZE, nr * PAGE_SIZE,
					 PRIVATE, &error_offset) ? errno : 0;

	TEST_ASSERT(!r == (error_offset == NO_ERROR_OFFSET),
		    "error_offset is 0x%lx, errno %d", error_offset, r);
	TEST_ASSERT(!r || IS_ALIGNED(error_offset, PAGE_SIZE),
		    "error_offset 0x%lx isn't page aligned", error_offset);
	*error_page = error_offset / PAGE_SIZE;
	return r;
}

u64 retry_private(int fd, int first, int nr)
{
	struct timespec start;
	u64 error_page, retries;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (retries = 0; (r = try_private(fd, first, nr, &error_page)); retries++) {
		TEST_ASSERT(r == EAGAIN, "Unexpected errno %d", r);
		TEST_ASSERT(timespec_elapsed(start).tv_sec < RETRY_SECONDS,
			    "Still EAGAIN for page %lu after %lu retries", error_page, retries);

		/*
		 * Back off, as a VMM should, and never for the same time twice
		 * in a row.  Somebody who faults in page after page, holding
		 * references to those that are there, is held up by every try
		 * and needs the time between two of them to drop them.
		 */
		usleep(retries % 16 * 100);
	}
	return retries;
}

void set_state(int fd, u64 state)
{
	int i, nr;

	to_shared(fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i += nr) {
		for (nr = 1; i + nr < NR_PAGES; nr++) {
			if (!(state & BIT_ULL(i)) != !(state & BIT_ULL(i + nr)))
				break;
		}
		if (state & BIT_ULL(i))
			to_private(fd, i, nr);
	}
}

void check_state(u8 *mem, u64 state)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(read_raises_sigbus(page_hva(mem, i)) == !!(state & BIT_ULL(i)),
			    "Page %d should be %s, state 0x%lx", i,
			    state & BIT_ULL(i) ? "private" : "shared", state);
}

void check_mixed(u8 *mem, int generation)
{
	int i;

	check_state(mem, MIXED);
	for (i = 0; i < NR_PAGES; i++)
		if (!(MIXED & BIT_ULL(i)))
			host_check(mem, i, 1, generation);
}

u64 host_read(u8 *mem, int page)
{
	return READ_ONCE(*(u64 *)page_hva(mem, page));
}

void host_fill(u8 *mem, int first, int nr, int generation)
{
	fill_pages((u64 *)page_hva(mem, first), first, nr, generation);
}

void host_check(u8 *mem, int first, int nr, int generation)
{
	int i = check_pages((u64 *)page_hva(mem, first), first, nr, generation);

	TEST_ASSERT(i == -1, "Host has wrong data at 0x%lx, page %d, generation %d",
		    i * sizeof(u64), first + i / (int)WORDS_PER_PAGE, generation);
}

void guest_fill(struct kvm_vcpu *vcpu, int first, int nr, int generation)
{
	__guest_fill(vcpu, page_gpa(first), first, nr, generation);
}

void guest_check(struct kvm_vcpu *vcpu, int first, int nr, int generation)
{
	__guest_check(vcpu, page_gpa(first), first, nr, generation);
}

long host_faults(u8 *mem, int first, int nr)
{
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &before);
	touch_pages((u64 *)page_hva(mem, first), nr);
	getrusage(RUSAGE_THREAD, &after);

	return after.ru_minflt - before.ru_minflt;
}

int host_mappings(u8 *mem)
{
	u64 entries[NR_PAGES];
	int fd, i, nr = 0;

	fd = open("/proc/self/pagemap", O_RDONLY);
	TEST_ASSERT(fd >= 0, "Failed to open /proc/self/pagemap");
	TEST_ASSERT_EQ(pread(fd, entries, sizeof(entries), (u64)mem / PAGE_SIZE * sizeof(u64)),
		       sizeof(entries));
	kvm_close(fd);

	/* Bit 63 says that the page is present. */
	for (i = 0; i < NR_PAGES; i++)
		nr += !!(entries[i] & BIT_ULL(63));

	return nr;
}

u64 guest_faults(struct kvm_vcpu *vcpu, int first, int nr)
{
	u64 before;

	/* Have the guest's own code faulted in, to not count that. */
	guest_set(vcpu, GUEST_TOUCH, page_gpa(first), 0, 0, 0);
	run_guest(vcpu);

	before = vcpu_get_stat(vcpu, pf_fixed);
	guest_set(vcpu, GUEST_TOUCH, page_gpa(first), 0, nr, 0);
	run_guest(vcpu);

	return vcpu_get_stat(vcpu, pf_fixed) - before;
}

u64 guest_mappings(struct kvm_vcpu *vcpu)
{
	/* As above. */
	guest_set(vcpu, GUEST_TOUCH, GMEM_GPA, 0, 0, 0);
	run_guest(vcpu);

	return vm_get_stat(vcpu->vm, pages_4k);
}

static void *vcpu_worker(void *vcpu)
{
	run_guest(vcpu);
	return NULL;
}

void guest_spin_begin(struct kvm_vcpu *vcpu, gva_t gva)
{
	write_guest_global(vcpu->vm, guest_stop, false);
	guest_set(vcpu, GUEST_SPIN, gva, 0, 0, 0);
}

void guest_spin_end(struct kvm_vm *vm)
{
	write_guest_global(vm, guest_stop, true);
}

pthread_t guest_spin_start(struct kvm_vcpu *vcpu)
{
	pthread_t thread;

	guest_spin_begin(vcpu, GMEM_GPA);
	kvm_pthread_create(&thread, NULL, vcpu_worker, vcpu);

	return thread;
}

u64 guest_spin_laps(struct kvm_vm *vm)
{
	return READ_ONCE(*(u64 *)addr_gva2hva(vm, (gva_t)&guest_laps));
}

void guest_spin_stop(struct kvm_vm *vm, pthread_t thread)
{
	guest_spin_end(vm);
	kvm_pthread_join(thread, NULL);
}

int gmem_add_slot(struct kvm_vm *vm, u32 slot, gpa_t gpa, u64 nr, int fd, u64 first)
{
	return __vm_set_user_memory_region2(vm, slot, KVM_MEM_GUEST_MEMFD, gpa,
					    nr * PAGE_SIZE, NULL, fd,
					    first * PAGE_SIZE) ? errno : 0;
}

void gmem_delete_slot(struct kvm_vm *vm, u32 slot)
{
	vm_set_user_memory_region2(vm, slot, 0, 0, 0, NULL, 0, 0);
}

int open_populate(struct kvm_vm *vm)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/gmem_populate",
		 getpid(), vm->fd);
	return open(path, O_WRONLY);
}

int __populate(int populate_fd, gpa_t gpa, void *src, int nr)
{
	char buf[64];
	int len;

	len = snprintf(buf, sizeof(buf), "%lx %lx %x", gpa, (u64)src, nr);
	return write(populate_fd, buf, len) < 0 ? errno : 0;
}

int populate(int populate_fd, int page, void *src, int nr)
{
	return __populate(populate_fd, page_gpa(page), src, nr);
}

u64 nr_allocated(int fd, void *mem, size_t size)
{
	const size_t nr_pages = size / PAGE_SIZE;
	struct cachestat_range range = {};
	struct cachestat cs = {};
	unsigned char *vec;
	u64 i, nr = 0;

	if (!syscall(__NR_cachestat, fd, &range, &cs, 0))
		return cs.nr_cache;

	/* Second choice, as it doesn't count pages that were never used. */
	vec = malloc(nr_pages);
	TEST_ASSERT(vec && !mincore(mem, size, vec), __KVM_SYSCALL_ERROR("mincore()", -1));
	for (i = 0; i < nr_pages; i++)
		nr += vec[i] & 1;
	free(vec);

	return nr;
}

static char *slab_path(char *path, size_t size, const char *cache, const char *file)
{
	snprintf(path, size, "/sys/kernel/slab/%s/%s", cache, file);
	return path;
}

bool has_slab_objects(const char *cache)
{
	char path[128];

	return !access(slab_path(path, sizeof(path), cache, "objects"), R_OK) &&
	       !access(slab_path(path, sizeof(path), cache, "shrink"), W_OK);
}

u64 slab_objects(const char *cache)
{
	char path[128];
	u64 nr;
	FILE *f;
	int fd;

	/* Take from CPUs what they have put aside. */
	fd = open(slab_path(path, sizeof(path), cache, "shrink"), O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, "1", 1) == 1, "Failed to write to %s", path);
	kvm_close(fd);

	f = fopen(slab_path(path, sizeof(path), cache, "objects"), "r");
	TEST_ASSERT(f && fscanf(f, "%lu", &nr) == 1, "Failed to read %s", path);
	fclose(f);

	return nr;
}

u64 meminfo_kb(const char *name)
{
	const size_t len = strlen(name);
	char line[128];
	u64 kb = -1;
	FILE *f;
	int fd;

	fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, "1", 1) == 1, "Failed to refresh /proc/meminfo");
	kvm_close(fd);

	f = fopen("/proc/meminfo", "r");
	TEST_ASSERT(f, "Failed to open /proc/meminfo");
	while (kb == -1 && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, len) && line[len] == ':')
			kb = strtoul(line + len + 1, NULL, 10);
	}
	fclose(f);

	TEST_ASSERT(kb != -1, "No '%s:' in /proc/meminfo", name);
	return kb;
}

u64 settled(u64 (*count)(void), u64 limit)
{
	struct timespec start;
	u64 nr;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (i = 0; ; i++) {
		TEST_ASSERT(!syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0),
			    __KVM_SYSCALL_ERROR("membarrier()", -1));
		nr = count();
		if (i >= 3 && (nr <= limit || timespec_elapsed(start).tv_sec >= 15))
			return nr;
	}
}

int other_cpu(int not_this)
{
	cpu_set_t cpus;
	int i;

	kvm_sched_getaffinity(0, sizeof(cpus), &cpus);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (i != not_this && CPU_ISSET(i, &cpus))
			return i;

	return -1;
}

void dirty_free_pages(void)
{
	const size_t size = SZ_16M;
	void *mem;

	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memset(mem, 0x5a, size);
	kvm_munmap(mem, size);
}

int poison_page(void *mem)
{
	struct sigaction sa_old, sa = {
		.sa_handler = expect_sigbus_handler,
	};
	int r = 0;

	sigaction(SIGBUS, &sa, &sa_old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))
		r = madvise(mem, PAGE_SIZE, MADV_HWPOISON) ? errno : 0;
	sigaction(SIGBUS, &sa_old, NULL);

	return r;
}

int write_path(const char *path, const char *fmt, ...)
{
	int fd = open(path, O_WRONLY), r;
	va_list args;

	TEST_ASSERT(fd >= 0, "Failed to open %s", path);

	va_start(args, fmt);
	r = vdprintf(fd, fmt, args) < 0 ? errno : 0;
	va_end(args);

	kvm_close(fd);
	return r;
}

u64 read_path(const char *path, const char *key, int base)
{
	char buf[4096], *value = buf;
	int fd = open(path, O_RDONLY);
	ssize_t len;

	TEST_ASSERT(fd >= 0, "Failed to open %s", path);
	len = read(fd, buf, sizeof(buf) - 1);
	TEST_ASSERT(len > 0, "Failed to read %s", path);
	kvm_close(fd);
	buf[len] = 0;

	if (key) {
		value = strstr(buf, key);
		TEST_ASSERT(value, "No %s in %s", key, path);
		value += strlen(key);
	}
	return strtoull(value, NULL, base);
}

pid_t fork_child(void)
{
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void send_fd(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(fd))];
		struct cmsghdr align;
	} control = {};
	char data = 0;
	struct iovec iov = { .iov_base = &data, .iov_len = sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	TEST_ASSERT_EQ(sendmsg(sock, &msg, 0), sizeof(data));
}

int receive_fd(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char data;
	struct iovec iov = { .iov_base = &data, .iov_len = sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int fd;

	if (recvmsg(sock, &msg, 0) != sizeof(data))
		return -1;

	TEST_ASSERT(CMSG_FIRSTHDR(&msg), "No file descriptor received");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static u64 read_word(const char *path, u64 index)
{
	int fd = open(path, O_RDONLY);
	u64 word;

	TEST_ASSERT(fd >= 0, "Failed to open %s", path);
	TEST_ASSERT_EQ(pread(fd, &word, sizeof(word), index * sizeof(word)), sizeof(word));
	kvm_close(fd);
	return word;
}

u64 try_mapped_pfn(void *mem)
{
	u64 entry = read_word("/proc/self/pagemap", (u64)mem / PAGE_SIZE);

	return entry & BIT_ULL(63) ? entry & GENMASK_ULL(54, 0) : 0;
}

u64 mapped_pfn(void *mem)
{
	u64 pfn = try_mapped_pfn(mem);

	TEST_ASSERT(pfn, "No page is mapped at %p", mem);
	return pfn;
}

u64 pfn_flags(u64 pfn)
{
	return read_word("/proc/kpageflags", pfn);
}

int try_offline(u64 block)
{
	struct sigaction sa = { .sa_handler = interrupt };
	struct itimerval timer = { .it_value.tv_sec = 3 };
	char path[64];
	int r;

	snprintf(path, sizeof(path), MEMORY_PATH "memory%lu/state", block);

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	r = write_path(path, "offline");
	timer.it_value.tv_sec = 0;
	setitimer(ITIMER_REAL, &timer, NULL);

	if (!r)
		write_path(path, "online");
	return r;
}

u64 pages_per_block(void)
{
	return read_path(MEMORY_PATH "block_size_bytes", NULL, 16) / PAGE_SIZE;
}

int corrupt_pfn(u64 pfn)
{
	return write_path(HWPOISON_PATH "corrupt-pfn", "%lu", pfn);
}

void unpoison_pfn(u64 pfn)
{
	TEST_ASSERT(pfn_flags(pfn) & BIT_ULL(KPF_HWPOISON), "0x%lx isn't poisoned", pfn);
	TEST_ASSERT_EQ(write_path(HWPOISON_PATH "unpoison-pfn", "%lu", pfn), 0);
}

int gup_test_open(void)
{
	return open(GUP_TEST_PATH, O_RDWR);
}

int gup_test_pin(int gup_fd, void *mem, size_t size)
{
	struct pin_longterm_test pin = {
		.addr = (u64)mem,
		.size = size,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	return ioctl(gup_fd, PIN_LONGTERM_TEST_START, &pin) ? errno : 0;
}

void gup_test_read(int gup_fd, void *buf)
{
	u64 addr = (u64)buf;
	int r = ioctl(gup_fd, PIN_LONGTERM_TEST_READ, &addr);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("PIN_LONGTERM_TEST_READ", r));
}

void gup_test_unpin(int gup_fd)
{
	int r = ioctl(gup_fd, PIN_LONGTERM_TEST_STOP);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("PIN_LONGTERM_TEST_STOP", r));
}

ssize_t splice_page(int pipe_fds[2], void *mem)
{
	struct iovec iov = {
		.iov_base = mem,
		.iov_len = PAGE_SIZE,
	};
	ssize_t r;
	int err;

	TEST_ASSERT(!pipe(pipe_fds), "pipe() failed");

	r = vmsplice(pipe_fds[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (r < 0) {
		err = errno;
		kvm_close(pipe_fds[0]);
		kvm_close(pipe_fds[1]);
		errno = err;
	}
	return r;
}

void unsplice_page(int pipe_fds[2], void *buf)
{
	TEST_ASSERT_EQ(read(pipe_fds[0], buf, PAGE_SIZE), PAGE_SIZE);
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}
