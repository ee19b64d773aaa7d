// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stress guest_memfds whose memory is converted in place: everybody does anything
 * to any page, at the same time, and every access is checked against a model.
 *
 * The model.  There are a few actors.  An actor is a thread with a vCPU and with
 * mappings of its own; it lets the guest run, or forks a child, and waits for
 * either, i.e. it does one thing at a time.  Every page has a word for each actor,
 * which only that actor writes, and one that nobody does.  A word holds a stamp:
 * whose it is, in which page, and a generation, which is one more with every write.
 *
 * What may be found in a word, or whether it may be got at, depends on what others
 * do to the page meanwhile.  All of that has a begin and an end, and the model has
 * both, in memory that the guest and children share: whoever begins something says
 * so before, and whoever is done says so afterwards.  Who looks at the model before
 * and after an access knows what was over already when it began, and what had not
 * even begun when it was over.  What lies in between is what may have happened:
 *
 *  - A word's generation is the last one whose write was done before, or one that
 *    had begun after.  It is zero only if that last write was never made, or if
 *    a hole was punched that was not done when the write began; and it is none
 *    that was done before such a hole began, once the hole is done.
 *
 *  - A page is private or shared, or is being converted.  If the state, which
 *    counts its changes, is the same before and after and is not changing, then
 *    the host's access is refused if and only if the page is private.  There is one
 *    conversion of a page at a time, as conversions take the locks of blocks of
 *    pages, i.e. the model never has to guess the outcome.
 *
 *  - A vCPU's access is refused, i.e. is MMIO, only if the memslot was moved.
 *
 *  - A conversion is refused only for a page that changes, and to which somebody
 *    had a reference at some time during the call.  Who holds a pin, from a page
 *    without a new hole, finds that the page has not become private.
 *
 * If nothing else is under way, then exactly one outcome is possible.  So there is
 * only one model, and how exact it is follows from who does what at the same time:
 *
 *  - ordered: whatever is done to a page is done with its block locked.  The blocks
 *    of different actors lie side by side in the same chunks of the same file, i.e.
 *    what races is KVM's data structures.  Everything is known exactly, including
 *    which pages are allocated.
 *
 *  - racing: only conversions lock blocks.
 *
 *  - host_mm, with -m: like racing, but pins and holes lock, too, so that pages can
 *    be poisoned and recovered, and another process has the host's memory management
 *    do to the memory all it can.  An actor's host mapping may refuse pages that
 *    were poisoned before, and what needs memory can fail for lack of it.
 *
 * When all actors have stopped, after some seconds each time, nothing is under way,
 * i.e. every page's state and contents have to be exactly what the model says.
 *
 * Every choice comes from generators whose seeds follow from -s, which a failure
 * prints.  Which thread is where at that time is up to the scheduler.
 *
 * Proves C5, C7, C9, C10, C11, C12, C13, C14, C16, C17, C18, C25 and C26.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/falloc.h>
#include <linux/kernel-page-flags.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "numaif.h"
#include "processor.h"
#include "test_util.h"
#include "ucall_common.h"

#include <io_uring/mini_liburing.h>

#define NR_ACTORS	4
#define NR_FILES	2

/* Two chunks of 512 pages, see gmem_attributes.c, and two memslots. */
#define FILE_PAGES	1024
#define FILE_SIZE	((u64)FILE_PAGES * PAGE_SIZE)
#define ALL_FILES	(NR_FILES * FILE_PAGES)
#define SLOT_PAGES	(FILE_PAGES / 2)
#define NR_SLOTS	(ALL_FILES / SLOT_PAGES)

/* Where a memslot can be.  Every page has an address of its own in each. */
#define NR_WINDOWS	3

/* Where most of it happens, around the border of two chunks and two memslots. */
#define HOT_PAGES	128
#define FIRST_HOT	(SLOT_PAGES - HOT_PAGES / 2)

#define BLOCK_PAGES	16
#define NR_BLOCKS	(ALL_FILES / BLOCK_PAGES)

#define MODEL_SLOT	5
#define MODEL_GPA	((gpa_t)SZ_2G)
#define FIRST_SLOT	GMEM_SLOT

/* Between two looks at everything. */
#define ROUND_SECONDS	10

/* How often something began, and how often it was done. */
struct span {
	u32 begun;
	u32 done;
};

struct word {
	/* The last generation whose write began, */
	u32 begun;

	/* the last one that went with a hole, */
	u32 dead;

	/* and the last one that was done, with the holes done when it began << 32. */
	u64 done;
};

/* Bits of the state, behind which changes are counted. */
#define IS_PRIVATE	BIT(0)
#define IS_CHANGING	BIT(1)
#define ONE_CHANGE	BIT(2)

enum presence { ABSENT, PRESENT, UNKNOWN };

struct page {
	u32 state;
	struct span holes;
	struct span references;

	/* Is it allocated?  Exact only as long as all is ordered. */
	u32 present;

	/* Was it ever poisoned, i.e. may mappings say that it still is? */
	u32 poisoned;

	struct word words[NR_ACTORS];
};

struct slot {
	/* Odd while the slot is being moved. */
	u32 seq;
	u32 window;
};

/* A part of one of the files, whose pages are numbered one after the other. */
struct range {
	int first;
	int nr;
};

/* The ways to access a page. */
enum way { HOST, KERNEL, GUEST };

/* What actors do, see below. */
enum op_nr {
	TOUCH_BY_HOST, TOUCH_BY_KERNEL, TOUCH_BY_GUEST, TOUCH_BY_CHILD, CONVERT, PUNCH_HOLE,
	ALLOCATE, PRE_FAULT, PIN, REMAP, MOVE_SLOT, POISON, NR_OPS
};

struct actor {
	int id;
	struct kvm_random_state random;
	struct kvm_vcpu *vcpu;
	u8 *maps[NR_FILES];
	struct io_uring ring;
	pthread_t thread;

	/* What the guest is to do: touch pages at random, or, if it's 0, look at all. */
	struct range range;
	int count;

	/* Are the blocks locked of what it works on? */
	bool is_locked;

	/* Was the last access MMIO?  Did it fail for lack of memory? */
	bool refused;
	bool no_memory;

	/* What it's about, for those that don't stop. */
	enum op_nr doing;

	u64 nr_accesses;
	u64 nr_operations[NR_OPS];
	u64 ns[NR_OPS];
	u64 nr_conversions;
	u64 nr_again;
	u64 nr_refused;
};

/* What the model says at one time. */
struct view {
	u32 state;
	u32 seq;
	u32 holes;
	u32 poisoned;
	u32 begun;
	u32 dead;
	u64 done;
};

struct failure {
	const char *why;
	int actor;
	enum way way;
	int page;
	int owner;
	u64 value;
	struct view before;
	struct view after;
};

/* What else the host does to its memory. */
enum noise_nr {
	SOFT_OFFLINE, MADVISE_SOFT_OFFLINE, MOVE_PAGES, COMPACT, DROP_CACHES, OFFLINE_BLOCK,
	CHANGE_CGROUP, RUN_OUT_OF_MEMORY, NR_NOISES
};

struct model {
	struct page pages[ALL_FILES];
	struct slot slots[NR_SLOTS];
	struct actor actors[NR_ACTORS];

	/* Mappings of a file are on their way out, with references to any page. */
	struct span unmaps[NR_FILES];

	bool is_ordered;
	bool is_host_mm;
	bool stop;

	/* The first failure, after which nothing counts. */
	u32 has_failed;
	struct failure failure;

	/* What the other process has done. */
	u64 nr_noises[NR_NOISES];
};

static struct model *model;
static struct kvm_vm *vm;
static int files[NR_FILES];
static pthread_mutex_t block_locks[NR_BLOCKS];
static pthread_mutex_t slot_locks[NR_SLOTS];

static u32 seed;
static int seconds = 30;
static bool verbose;

#define sample(x)	__atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define publish(x, v)	__atomic_store_n(&(x), v, __ATOMIC_SEQ_CST)
#define count_one(x)	__atomic_fetch_add(&(x), 1, __ATOMIC_SEQ_CST)

static int file_of(int page)
{
	return page / FILE_PAGES;
}

static u64 offset_of(int page)
{
	return page % FILE_PAGES * PAGE_SIZE;
}

static gpa_t slot_gpa(int slot, int window)
{
	return GMEM_GPA + ((u64)window * NR_SLOTS + slot) * SLOT_PAGES * PAGE_SIZE;
}

static u32 choose(struct actor *a, u32 nr)
{
	return (kvm_random_u32(&a->random) >> 4) % nr;
}

/* Record the first failure, for the main thread, on behalf of guests and children, too. */
static void fail(struct model *m, struct failure *f)
{
	u32 none = 0;

	if (!__atomic_compare_exchange_n(&m->has_failed, &none, 1, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return;

	m->failure = *f;
	publish(m->has_failed, 2);
}

static bool is_over(struct model *m)
{
	return READ_ONCE(m->stop) || READ_ONCE(m->has_failed);
}

/* The word of @owner, or of nobody, is everywhere in a page. */
static int word_index(int page, int owner)
{
	return owner * 100 + page % 100;
}

static u64 stamp(int page, int owner, u32 generation)
{
	return 0xa5ull << 56 | (u64)owner << 48 | (u64)page << 32 | generation;
}

/* SIGBUS is how the host is refused a page. */
static __thread sigjmp_buf sigbus_jmpbuf;
static __thread bool sigbus_expected;
static __thread int sigbus_code;

static void sigbus_handler(int sig, siginfo_t *info, void *context)
{
	if (READ_ONCE(sigbus_expected)) {
		WRITE_ONCE(sigbus_expected, false);
		WRITE_ONCE(sigbus_code, info->si_code);
		siglongjmp(sigbus_jmpbuf, 1);
	}

	/* Happens again, and is deadly then, unless it's only to be told. */
	if (info->si_code != BUS_MCEERR_AO)
		signal(SIGBUS, SIG_DFL);
}

#define sigbus_of(action)				\
({							\
	WRITE_ONCE(sigbus_code, 0);			\
	if (!sigsetjmp(sigbus_jmpbuf, 0)) {		\
		WRITE_ONCE(sigbus_expected, true);	\
		action;					\
		WRITE_ONCE(sigbus_expected, false);	\
	}						\
	READ_ONCE(sigbus_code);				\
})

static noinline bool host_access(u64 *mem, u64 *value, bool write)
{
	int code;

	if (write)
		code = sigbus_of(WRITE_ONCE(*mem, *value));
	else
		code = sigbus_of(*value = READ_ONCE(*mem));

	/* Poison is to be forgotten by each mapping, after the page is gone. */
	if (code == BUS_MCEERR_AR)
		kvm_madvise((void *)((u64)mem & PAGE_MASK), PAGE_SIZE, MADV_DONTNEED);
	return !code;
}

/* Have the kernel look up the page, and copy. */
static noinline bool kernel_access(struct model *m, struct actor *a, int page, u64 *mem,
				   u64 *value, bool write)
{
	struct iovec local = { value, sizeof(*value) }, remote = { mem, sizeof(*mem) };
	ssize_t r;

	count_one(m->pages[page].references.begun);
	if (write)
		r = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	else
		r = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	count_one(m->pages[page].references.done);

	a->no_memory = m->is_host_mm && r < 0 && errno == ENOMEM;
	return r == sizeof(*value);
}

/* If it's MMIO, then whoever handles that says that it's refused. */
static bool guest_access(struct actor *a, u64 *mem, u64 *value, bool write)
{
	WRITE_ONCE(a->refused, false);
	if (write)
		WRITE_ONCE(*mem, *value);
	else
		*value = READ_ONCE(*mem);
	return !READ_ONCE(a->refused);
}

static bool do_access(struct model *m, struct actor *a, enum way how, int page, int owner,
		      u64 *value, bool write)
{
	int slot = page / SLOT_PAGES, index = word_index(page, owner);
	u64 *mem;

	if (how == GUEST) {
		mem = (u64 *)(slot_gpa(slot, READ_ONCE(m->slots[slot].window)) +
			      page % SLOT_PAGES * PAGE_SIZE);
		return guest_access(a, mem + index, value, write);
	}

	mem = (u64 *)(a->maps[file_of(page)] + offset_of(page)) + index;
	if (how == HOST)
		return host_access(mem, value, write);

	return kernel_access(m, a, page, mem, value, write);
}

static void look(struct model *m, int page, int owner, struct view *v)
{
	struct page *p = &m->pages[page];

	v->seq = sample(m->slots[page / SLOT_PAGES].seq);
	v->state = sample(p->state);
	v->holes = sample(p->holes.begun);
	v->poisoned = sample(p->poisoned);
	if (owner == NR_ACTORS)
		return;

	/* Holes come first, as they do for writes: they are what can be too few. */
	v->dead = sample(p->words[owner].dead);
	v->done = sample(p->words[owner].done);
	v->begun = sample(p->words[owner].begun);
}

/* Was the page, from before to after, in the state that it was in before? */
static bool is_stable(struct view *before, struct view *after)
{
	return before->state == after->state && !(before->state & IS_CHANGING);
}

static const char *check_access(struct actor *a, enum way how, struct failure *f, bool ok)
{
	struct view *before = &f->before, *after = &f->after;

	if (how == GUEST) {
		if (!ok && before->seq == after->seq && !(before->seq & 1))
			return "the guest has been refused a page";
		return NULL;
	}

	if (!is_stable(before, after))
		return NULL;
	if (ok && before->state & IS_PRIVATE)
		return "the host has got at a private page";
	if (!ok && !(before->state & IS_PRIVATE) && !after->poisoned && !a->no_memory)
		return "the host has been refused a shared page";
	return NULL;
}

static const char *check_value(struct failure *f)
{
	struct view *before = &f->before, *after = &f->after;
	u32 generation = f->value, last = before->done;

	/* The kernel copies bytes, i.e. may find half of a write. */
	if (f->way == KERNEL && (before->begun != after->begun || before->begun != last))
		return NULL;

	if (f->owner == NR_ACTORS)
		return f->value ? "there is data where nobody has written" : NULL;

	if (!f->value) {
		if (last && after->holes <= before->done >> 32)
			return "data has been lost";
		return NULL;
	}

	if (f->value != stamp(f->page, f->owner, generation))
		return "there is data of something else";
	if (generation <= before->dead)
		return "there is data that went with a hole";
	if (generation < last)
		return "there is old data";
	if (generation > after->begun)
		return "there is data that has not been written yet";
	return NULL;
}

/* Read or write the word of @owner in @page, and compare with what may be. */
static void touch_word(struct model *m, struct actor *a, enum way how, int page, int owner,
		       bool write)
{
	struct failure f = { .actor = a->id, .way = how, .page = page, .owner = owner };
	struct page *p = &m->pages[page];
	struct word *w = &p->words[owner];
	u32 generation = 0, holes = 0;
	bool ok;

	a->no_memory = false;
	look(m, page, owner, &f.before);
	if (write) {
		generation = w->begun + 1;
		holes = sample(p->holes.done);
		f.value = stamp(page, owner, generation);
		publish(w->begun, generation);
	}

	ok = do_access(m, a, how, page, owner, &f.value, write);

	look(m, page, owner, &f.after);
	if (write && ok)
		publish(w->done, (u64)holes << 32 | generation);
	else if (write)
		publish(w->begun, generation - 1);

	f.why = check_access(a, how, &f, ok);
	if (!f.why && ok && !write)
		f.why = check_value(&f);
	if (f.why)
		fail(m, &f);

	/* A guest's fault may have allocated what is then not there any more. */
	if (ok)
		publish(p->present, PRESENT);
	else if (how == GUEST && p->present == ABSENT)
		publish(p->present, UNKNOWN);
	a->nr_accesses++;
	a->nr_refused += !ok;
}

static void touch(struct model *m, struct actor *a, enum way how, struct range r, int count)
{
	int i, page, owner;

	if (!count) {
		for (i = 0; i < r.nr * (NR_ACTORS + 1) && !READ_ONCE(m->has_failed); i++)
			touch_word(m, a, how, r.first + i / (NR_ACTORS + 1),
				   i % (NR_ACTORS + 1), false);
		return;
	}

	for (i = 0; i < count && !is_over(m); i++) {
		page = r.first + choose(a, r.nr);
		owner = choose(a, 2 * (NR_ACTORS + 1));
		if (owner <= NR_ACTORS || (how == KERNEL && !m->is_ordered))
			touch_word(m, a, how, page, owner % (NR_ACTORS + 1), false);
		else
			touch_word(m, a, how, page, a->id, true);
	}
}

static void guest_code(struct model *m, int id)
{
	struct actor *a = &m->actors[id];

	for (;;) {
		touch(m, a, GUEST, READ_ONCE(a->range), READ_ONCE(a->count));
		GUEST_SYNC(0);
	}
}

/* Is there no memory, in a phase where that is no wonder? */
static bool no_memory(int error)
{
	if (!model->is_host_mm || error != ENOMEM)
		return false;

	usleep(1000);
	return true;
}

static void __touch_by_guest(struct actor *a, struct range r, int count)
{
	struct kvm_run *run = a->vcpu->run;
	struct ucall uc;

	a->range = r;
	a->count = count;
	for (;;) {
		if (__vcpu_run(a->vcpu)) {
			/* Who has poisoned the page is going to replace it. */
			if (model->is_host_mm && errno == EHWPOISON &&
			    !READ_ONCE(model->has_failed))
				usleep(1000);
			else if (!no_memory(errno))
				TEST_FAIL(KVM_IOCTL_ERROR(KVM_RUN, -1));
			continue;
		}
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;

		WRITE_ONCE(a->refused, true);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
	}
	TEST_ASSERT_KVM_EXIT_REASON(a->vcpu, KVM_EXIT_IO);
	if (get_ucall(a->vcpu, &uc) != UCALL_SYNC)
		REPORT_GUEST_ASSERT(uc);
}

static void fail_at(struct actor *a, const char *why, int page)
{
	struct failure f = { .why = why, .actor = a->id, .page = page, .owner = NR_ACTORS };

	look(model, page, NR_ACTORS, &f.before);
	f.after = f.before;
	fail(model, &f);
}

static void lock_blocks(struct range r)
{
	int i;

	for (i = r.first / BLOCK_PAGES; i <= (r.first + r.nr - 1) / BLOCK_PAGES; i++)
		pthread_mutex_lock(&block_locks[i]);
}

static void unlock_blocks(struct range r)
{
	int i;

	for (i = r.first / BLOCK_PAGES; i <= (r.first + r.nr - 1) / BLOCK_PAGES; i++)
		pthread_mutex_unlock(&block_locks[i]);
}

/*
 * Convert a range whose blocks are locked.  Returns the errno, which is that of the
 * kernel only if it may be, and the page that stood in the way.
 */
static int convert(struct actor *a, struct range r, bool private, int *error_page)
{
	static __thread u32 references[FILE_PAGES];
	struct span *unmaps = &model->unmaps[file_of(r.first)];
	u32 state, nr_unmaps = sample(unmaps->done);
	u64 error_offset = NO_ERROR_OFFSET;
	struct page *p = &model->pages[r.first];
	int i, err;

	for (i = 0; i < r.nr; i++) {
		references[i] = sample(p[i].references.done);
		if (!(p[i].state & IS_PRIVATE) == private)
			publish(p[i].state, p[i].state | IS_CHANGING);
	}

	err = __gmem_set_memory_attributes(files[file_of(r.first)], offset_of(r.first),
					   r.nr * PAGE_SIZE, private ? PRIVATE : 0,
					   &error_offset) ? errno : 0;
	i = error_offset / PAGE_SIZE - r.first % FILE_PAGES;
	*error_page = r.first + i;

	if (!err) {
		/* There's nothing to check. */
	} else if (i < 0 || i >= r.nr || !(p[i].state & IS_CHANGING)) {
		fail_at(a, "a conversion has failed, not for a page that changes", r.first);
	} else if (err == EAGAIN) {
		if (!private || (sample(p[i].references.begun) == references[i] &&
				 sample(unmaps->begun) == nr_unmaps))
			fail_at(a, "a conversion has been refused for a page that nobody uses",
				*error_page);
	} else if (!no_memory(err) && !(err == EHWPOISON && p[i].poisoned)) {
		fail_at(a, "a conversion has failed", *error_page);
	}

	for (i = 0; i < r.nr; i++) {
		state = p[i].state;
		if (!(state & IS_CHANGING))
			continue;
		if (!err)
			state ^= IS_PRIVATE;
		publish(p[i].state, (state & ~IS_CHANGING) + ONE_CHANGE);
	}

	a->nr_conversions++;
	a->nr_again += err == EAGAIN;
	return err;
}

static void punch_hole(struct actor *a, struct range r)
{
	static __thread u32 gone[FILE_PAGES][NR_ACTORS];
	struct page *p = &model->pages[r.first];
	u32 dead;
	int i, j;

	for (i = 0; i < r.nr; i++) {
		count_one(p[i].holes.begun);
		for (j = 0; j < NR_ACTORS; j++)
			gone[i][j] = sample(p[i].words[j].done);
	}

	kvm_fallocate(files[file_of(r.first)], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      offset_of(r.first), r.nr * PAGE_SIZE);

	for (i = 0; i < r.nr; i++) {
		for (j = 0; j < NR_ACTORS; j++) {
			/* There may be several holes at once. */
			dead = sample(p[i].words[j].dead);
			while (dead < gone[i][j] &&
			       !__atomic_compare_exchange_n(&p[i].words[j].dead, &dead, gone[i][j],
							    false, __ATOMIC_SEQ_CST,
							    __ATOMIC_SEQ_CST))
				;
		}
		publish(p[i].present, ABSENT);
		count_one(p[i].holes.done);
	}
}

static void set_present(struct range r, enum presence present)
{
	struct page *p = &model->pages[r.first];
	int i;

	for (i = 0; i < r.nr; i++)
		if (present == PRESENT || p[i].present == ABSENT)
			publish(p[i].present, present);
}

static void allocate(struct actor *a, struct range r)
{
	int err;

	do {
		err = fallocate(files[file_of(r.first)], FALLOC_FL_KEEP_SIZE, offset_of(r.first),
				r.nr * PAGE_SIZE) ? errno : 0;
	} while (no_memory(err));

	TEST_ASSERT(!err, "fallocate() failed, errno %d", err);
	set_present(r, PRESENT);
}

static void pre_fault(struct actor *a, struct range r)
{
	int slot = r.first / SLOT_PAGES, err = 0;
	struct kvm_pre_fault_memory range = {};
	u32 seq = sample(model->slots[slot].seq);

	r.nr = min(r.nr, SLOT_PAGES - r.first % SLOT_PAGES);
	range.gpa = slot_gpa(slot, READ_ONCE(model->slots[slot].window)) +
		    r.first % SLOT_PAGES * PAGE_SIZE;
	range.size = r.nr * PAGE_SIZE;

	while (range.size && !is_over(model)) {
		err = __vcpu_ioctl(a->vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
		if (err && err != EAGAIN && err != EINTR && !no_memory(err))
			break;
	}

	set_present(r, range.size ? UNKNOWN : PRESENT);
	if (range.size && err == ENOENT)
		TEST_ASSERT(seq & 1 || sample(model->slots[slot].seq) != seq,
			    "There's no memslot for 0x%llx", range.gpa);
	else if (err && err != EAGAIN && err != EINTR && err != ENOMEM)
		TEST_ASSERT(model->is_host_mm && err == EHWPOISON,
			    "Pre-faulting failed, errno %d", err);
}

/* Hold references to some pages, and verify that they don't become private. */
static void pin(struct actor *a, struct range r)
{
	struct page *p = &model->pages[r.first];
	struct range around = { r.first & ~(BLOCK_PAGES - 1), BLOCK_PAGES };
	struct iovec iov = { a->maps[file_of(r.first)] + offset_of(r.first) };
	bool splice = choose(a, 2), may_fail = false, must_fail = false;
	struct view before[BLOCK_PAGES], after;
	u32 holes[BLOCK_PAGES];
	int i, err, error_page;
	u8 buf[PAGE_SIZE];
	int fds[2];

	r.nr = splice ? 1 : min(r.nr, around.first + around.nr - r.first);
	iov.iov_len = r.nr * PAGE_SIZE;
	for (i = 0; i < r.nr; i++) {
		count_one(p[i].references.begun);
		look(model, r.first + i, NR_ACTORS, &before[i]);
		holes[i] = sample(p[i].holes.done);
	}

	if (splice)
		err = splice_page(fds, iov.iov_base) < 0 ? errno : 0;
	else
		err = -io_uring_register_buffers(&a->ring, &iov, 1);

	for (i = 0; i < r.nr; i++) {
		look(model, r.first + i, NR_ACTORS, &after);
		if (!is_stable(&before[i], &after) || after.poisoned)
			may_fail = true;
		else if (after.state & IS_PRIVATE)
			must_fail = true;
	}
	if (err && !no_memory(err) && !may_fail && !must_fail) {
		ksft_print_msg("%s(): errno %d\n", splice ? "vmsplice" : "io_uring_register", err);
		fail_at(a, "a shared page can't be pinned", r.first);
	}
	if (!err && must_fail)
		fail_at(a, "a private page has been pinned", r.first);
	set_present(r, err ? UNKNOWN : PRESENT);

	if (!err) {
		if (!a->is_locked && choose(a, 2)) {
			lock_blocks(around);
			convert(a, around, true, &error_page);
			unlock_blocks(around);
		} else if (model->is_ordered) {
			/* The pages are this actor's, and the first one is in the way. */
			err = convert(a, r, true, &error_page);
			if (err != EAGAIN || error_page != r.first)
				fail_at(a, "a pinned page isn't what is in the way", r.first);
		} else {
			usleep(choose(a, 2000));
		}

		for (i = 0; i < r.nr; i++)
			if (sample(p[i].holes.begun) == holes[i] &&
			    (sample(p[i].state) & (IS_PRIVATE | IS_CHANGING)) == IS_PRIVATE)
				fail_at(a, "a pinned page has become private", r.first + i);

		if (splice)
			unsplice_page(fds, buf);
		else
			TEST_ASSERT(!syscall(__NR_io_uring_register, a->ring.ring_fd,
					     IORING_UNREGISTER_BUFFERS, NULL, 0),
				    "Failed to unregister a buffer, errno %d", errno);
	}
	for (i = 0; i < r.nr; i++)
		count_one(p[i].references.done);
}

static void *map_file(int file, void *at)
{
	void *mem;

	do {
		mem = mmap(at, FILE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | (at ? MAP_FIXED : 0), files[file], 0);
	} while (mem == MAP_FAILED && no_memory(errno));
	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed, errno %d", errno);
	return mem;
}

/* Be rid of an actor's mapping, or of what it has mapped, in one way or another. */
static void remap(struct actor *a, struct range r)
{
	int file = file_of(r.first);
	u8 *mem;

	count_one(model->unmaps[file].begun);
	switch (choose(a, 4)) {
	case 0:
		kvm_munmap(a->maps[file], FILE_SIZE);
		a->maps[file] = map_file(file, NULL);
		break;
	case 1:
		map_file(file, a->maps[file]);
		break;
	case 2:
		mem = mremap(a->maps[file], FILE_SIZE, FILE_SIZE,
			     MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
		if (mem == MAP_FAILED)
			break;
		kvm_munmap(a->maps[file], FILE_SIZE);
		a->maps[file] = mem;
		break;
	case 3:
		kvm_madvise(a->maps[file] + offset_of(r.first), r.nr * PAGE_SIZE, MADV_DONTNEED);
		break;
	}
	count_one(model->unmaps[file].done);
}

/* A child is the same actor elsewhere, and leaves with all that it has mapped. */
static void touch_by_child(struct actor *a, struct range r)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < NR_FILES; i++)
		count_one(model->unmaps[i].begun);

	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		touch(model, a, HOST, r, 50);
		_exit(0);
	}
	if (pid > 0) {
		TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
		TEST_ASSERT(!status, "A child ended with 0x%x", status);
	} else {
		TEST_ASSERT(no_memory(errno), "fork() failed, errno %d", errno);
	}

	for (i = 0; i < NR_FILES; i++)
		count_one(model->unmaps[i].done);
}

/* Delete a memslot, and have the same pages elsewhere. */
static void move_slot(struct actor *a, struct range r)
{
	int i = r.first / SLOT_PAGES, err;
	struct slot *slot = &model->slots[i];

	if (pthread_mutex_trylock(&slot_locks[i]))
		return;

	publish(slot->seq, slot->seq + 1);
	gmem_delete_slot(vm, FIRST_SLOT + i);
	if (choose(a, 2))
		usleep(choose(a, 3000));

	publish(slot->window, (slot->window + 1) % NR_WINDOWS);
	do {
		err = gmem_add_slot(vm, FIRST_SLOT + i, slot_gpa(i, slot->window), SLOT_PAGES,
				    files[file_of(r.first)], i * SLOT_PAGES % FILE_PAGES);
	} while (no_memory(err));
	TEST_ASSERT(!err, "Failed to create a memslot, errno %d", err);
	publish(slot->seq, slot->seq + 1);

	pthread_mutex_unlock(&slot_locks[i]);
}

static void touch_by_host(struct actor *a, struct range r)
{
	touch(model, a, HOST, r, 1 + choose(a, 20));
}

static void touch_by_kernel(struct actor *a, struct range r)
{
	touch(model, a, KERNEL, r, 1 + choose(a, 5));
}

static void touch_by_guest(struct actor *a, struct range r)
{
	__touch_by_guest(a, r, 1 + choose(a, 16));
}

static void convert_any(struct actor *a, struct range r)
{
	int error_page;

	convert(a, r, choose(a, 2), &error_page);
}

/* Poison a page whose block is locked, have a look at it, and get rid of it. */
static void poison(struct actor *a, struct range r)
{
	u8 *mem = a->maps[file_of(r.first)] + offset_of(r.first);
	bool private = choose(a, 2);
	int error_page, code, err;
	u64 pfn;

	r.nr = 1;
	if (convert(a, r, false, &error_page))
		return;
	kvm_madvise(mem, PAGE_SIZE, MADV_DONTNEED);
	if (sigbus_of(READ_ONCE(*mem)))
		fail_at(a, "the host has been refused a shared page", r.first);
	pfn = try_mapped_pfn(mem);
	if (!pfn || (private && convert(a, r, true, &error_page)))
		return;

	publish(model->pages[r.first].poisoned, true);
	if (private)
		corrupt_pfn(pfn);
	else
		sigbus_of(madvise(mem, PAGE_SIZE, MADV_HWPOISON));
	TEST_ASSERT(pfn_flags(pfn) & BIT_ULL(KPF_HWPOISON), "0x%lx hasn't been poisoned", pfn);

	code = sigbus_of(READ_ONCE(*mem));
	if (code != (private ? BUS_ADRERR : BUS_MCEERR_AR))
		fail_at(a, "the host's SIGBUS for a poisoned page is wrong", r.first);
	err = private ? EHWPOISON : convert(a, r, true, &error_page);
	if (err != EHWPOISON && err != ENOMEM)
		fail_at(a, "a poisoned page can become private", r.first);

	punch_hole(a, r);
	unpoison_pfn(pfn);
}

static const struct op {
	const char *name;
	void (*run)(struct actor *a, struct range r);
	int weight;

	/* Are blocks locked even if not all is ordered?  With host_mm? */
	bool locks;
	bool locks_in_host_mm;
} ops[NR_OPS] = {
	[TOUCH_BY_HOST] = { "host", touch_by_host, 220 },
	[TOUCH_BY_KERNEL] = { "kernel", touch_by_kernel, 60 },
	[TOUCH_BY_GUEST] = { "guest", touch_by_guest, 220 },
	[TOUCH_BY_CHILD] = { "child", touch_by_child, 3 },
	[CONVERT] = { "convert", convert_any, 250, true, true },
	[PUNCH_HOLE] = { "punch", punch_hole, 40, false, true },
	[ALLOCATE] = { "allocate", allocate, 40 },
	[PRE_FAULT] = { "pre-fault", pre_fault, 40 },
	[PIN] = { "pin", pin, 40, false, true },
	[REMAP] = { "remap", remap, 30 },
	[MOVE_SLOT] = { "move slot", move_slot, 10 },
	[POISON] = { "poison", poison, 10, true, true },
};

static enum op_nr choose_op(struct actor *a)
{
	int i, n, sum = 0;

	for (i = 0; i < NR_OPS; i++)
		sum += ops[i].weight;
	do {
		n = choose(a, sum);
		for (i = 0; n >= ops[i].weight; i++)
			n -= ops[i].weight;
	} while (i == POISON && !model->is_host_mm);

	return i;
}

static struct range choose_range(struct actor *a, struct range in)
{
	static const int max[] = { 1, 2, 4, 4, 8, 32, 64, 512 };
	struct range r;

	r.first = in.first + choose(a, in.nr);
	r.nr = 1 + choose(a, max[choose(a, ARRAY_SIZE(max))]);
	r.nr = min(r.nr, in.first + in.nr - r.first);
	return r;
}

/* C11: Pages are there if they were touched or allocated, whatever their state. */
static void check_present(struct actor *a, struct range r)
{
	struct cachestat_range range = { offset_of(r.first), r.nr * PAGE_SIZE };
	struct cachestat cs = {};
	int i, nr = 0;

	for (i = r.first; i < r.first + r.nr; i++) {
		if (model->pages[i].present == UNKNOWN)
			return;
		nr += model->pages[i].present == PRESENT;
	}
	TEST_ASSERT(!syscall(__NR_cachestat, files[file_of(r.first)], &range, &cs, 0),
		    "cachestat() failed, errno %d", errno);
	if (cs.nr_cache != nr)
		fail_at(a, "there are not as many pages as there should be", r.first);
}

static void do_op(struct actor *a, enum op_nr op, struct range r)
{
	struct timespec start;

	WRITE_ONCE(a->doing, op);
	clock_gettime(CLOCK_MONOTONIC, &start);
	ops[op].run(a, r);
	a->ns[op] += timespec_to_ns(timespec_elapsed(start));
	a->nr_operations[op]++;
}

static void *act(void *arg)
{
	struct actor *a = arg;
	struct range file, r;
	enum op_nr op;
	int i;

	while (!is_over(model)) {
		file = (struct range) { choose(a, NR_FILES) * FILE_PAGES, FILE_PAGES };
		if (choose(a, 4))
			file = (struct range) { file.first + FIRST_HOT, HOT_PAGES };
		r = choose_range(a, file);
		op = choose_op(a);
		a->is_locked = model->is_ordered || ops[op].locks ||
			       (model->is_host_mm && ops[op].locks_in_host_mm);
		if (a->is_locked)
			lock_blocks(r);
		do_op(a, op, r);

		/* What's known exactly is looked at more than once. */
		for (i = choose(a, 4); model->is_ordered && i > 0 && !is_over(model); i--)
			do_op(a, choose_op(a), choose_range(a, r));
		if (model->is_ordered)
			check_present(a, r);
		if (a->is_locked)
			unlock_blocks(r);
	}
	return NULL;
}

static bool has_owner(int page, int index)
{
	int i;

	for (i = 0; i < NR_ACTORS; i++)
		if (index == word_index(page, i))
			return true;

	return false;
}

/* With nothing under way, everything has to be what the model says. */
static void check_all(struct actor *a)
{
	struct range file = { 0, FILE_PAGES };
	int i, j, page, error_page;
	u64 *mem;

	for (i = 0; i < ALL_FILES; i++)
		publish(model->pages[i].poisoned, false);

	for (i = 0; i < NR_FILES; i++, file.first += FILE_PAGES) {
		for (j = 0; j < NR_ACTORS; j++)
			map_file(i, model->actors[j].maps[i]);

		touch(model, a, HOST, file, 0);
		__touch_by_guest(a, file, 0);
		if (convert(a, file, false, &error_page))
			fail_at(a, "pages can't be shared any more", file.first);
		touch(model, a, HOST, file, 0);

		mem = (u64 *)a->maps[i];
		for (j = 0; j < FILE_PAGES * WORDS_PER_PAGE && !model->has_failed; j++) {
			page = file.first + j / WORDS_PER_PAGE;
			if (mem[j] && !has_owner(page, j % WORDS_PER_PAGE))
				fail_at(a, "there is data where nobody has written", page);
		}
		set_present(file, PRESENT);
	}
}

#define CGROUP_LIMIT	SZ_64M

static char cgroup_root[32];
static const char * const cgroups[] = { "cgroup.procs", "a/cgroup.procs" };

static const char *cgroup_path(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/%s", cgroup_root, name);
	return path;
}

/* One to move to, and a small one, for who is to be killed. */
static void create_cgroups(void)
{
	snprintf(cgroup_root, sizeof(cgroup_root), "/tmp/cgroup.XXXXXX");
	TEST_ASSERT(mkdtemp(cgroup_root) && !mount("cgroup2", cgroup_root, "cgroup2", 0, NULL),
		    "No cgroups, errno %d", errno);
	TEST_ASSERT_EQ(write_path(cgroup_path("cgroup.subtree_control"), "+memory"), 0);
	TEST_ASSERT(!mkdir(cgroup_path("a"), 0755) && !mkdir(cgroup_path("small"), 0755),
		    "No cgroup, errno %d", errno);
	TEST_ASSERT_EQ(write_path(cgroup_path("small/memory.max"), "%d", CGROUP_LIMIT), 0);
	TEST_ASSERT_EQ(write_path("/proc/self/oom_score_adj", "-1000"), 0);
}

static void remove_cgroups(void)
{
	TEST_ASSERT_EQ(write_path(cgroup_path(cgroups[0]), "%d", getpid()), 0);
	TEST_ASSERT(!rmdir(cgroup_path("a")) && !rmdir(cgroup_path("small")) &&
		    !umount(cgroup_root) && !rmdir(cgroup_root),
		    "A cgroup can't be removed, errno %d", errno);
}

/* Be killed for taking all memory that those in the small cgroup may have. */
static void run_out_of_memory(void)
{
	int status;
	pid_t pid;

	pid = fork_child();
	if (!pid) {
		write_path(cgroup_path("small/cgroup.procs"), "0");
		write_path("/proc/self/oom_score_adj", "1000");
		for (;;)
			memset(kvm_mmap(SZ_1M, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1), 1, SZ_1M);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "Who takes all memory ended with 0x%x", status);
}

/* C26: In a process of its own, do to the memory what the host may do, until it's over. */
static void make_noise(struct actor *a, pid_t test)
{
	enum noise_nr noise;
	int page, node, status;
	u64 pfn;
	void *mem;

	while (!is_over(model)) {
		page = choose(a, ALL_FILES);
		mem = a->maps[file_of(page)] + offset_of(page);
		sigbus_of(READ_ONCE(*(u64 *)mem));
		pfn = try_mapped_pfn(mem);

		/* Some need a page that is mapped, and some take long. */
		noise = choose(a, NR_NOISES);
		if ((!pfn && (noise == SOFT_OFFLINE || noise == MADVISE_SOFT_OFFLINE ||
			      noise == OFFLINE_BLOCK)) ||
		    ((noise == OFFLINE_BLOCK || noise == RUN_OUT_OF_MEMORY) && choose(a, 8)))
			continue;

		switch (noise) {
		case SOFT_OFFLINE:
			write_path(MEMORY_PATH "soft_offline_page", "0x%lx",
				   (unsigned long)(pfn * PAGE_SIZE));
			break;
		case MADVISE_SOFT_OFFLINE:
			madvise(mem, PAGE_SIZE, MADV_SOFT_OFFLINE);
			break;
		case MOVE_PAGES:
			node = choose(a, 2);
			move_pages(0, 1, &mem, &node, &status, MPOL_MF_MOVE);
			break;
		case COMPACT:
			write_path("/proc/sys/vm/compact_memory", "1");
			break;
		case DROP_CACHES:
			write_path("/proc/sys/vm/drop_caches", "3");
			break;
		case OFFLINE_BLOCK:
			try_offline(pfn / pages_per_block());
			break;
		case CHANGE_CGROUP:
			write_path(cgroup_path(cgroups[choose(a, ARRAY_SIZE(cgroups))]), "%d",
				   test);
			break;
		case RUN_OUT_OF_MEMORY:
			run_out_of_memory();
			break;
		default:
			break;
		}
		model->nr_noises[noise]++;
		usleep(1000);
	}
	_exit(0);
}

static struct kvm_random_state derive(u32 n)
{
	struct kvm_random_state random = new_kvm_random_state((seed + n * 7919) % 0x7ffffffe + 1);
	int i;

	for (i = 0; i < 8; i++)
		kvm_random_u32(&random);
	return random;
}

static void print_counts(struct timespec start)
{
	u64 nr = 0, nr_accesses = 0, nr_conversions = 0, nr_again = 0, nr_refused = 0;
	struct actor *a;
	int i;

	for (a = model->actors; a < model->actors + NR_ACTORS; a++) {
		for (i = 0; i < NR_OPS; i++)
			nr += a->nr_operations[i];
		nr_accesses += a->nr_accesses;
		nr_conversions += a->nr_conversions;
		nr_again += a->nr_again;
		nr_refused += a->nr_refused;
	}
	ksft_print_msg("%lu s: %lu operations, %lu accesses, %lu conversions, ",
		       timespec_elapsed(start).tv_sec, nr, nr_accesses, nr_conversions);
	printf("%lu EAGAIN, %lu faults refused\n", nr_again, nr_refused);
}

static void print_operations(void)
{
	static const char * const noises[] = {
		"soft_offline_page", "MADV_SOFT_OFFLINE", "move_pages()", "compact_memory",
		"drop_caches", "offlined blocks", "moves to cgroups", "out of memory",
	};
	u64 nr, ns;
	int i, j;

	for (i = 0; i < NR_OPS; i++) {
		for (j = nr = ns = 0; j < NR_ACTORS; j++) {
			nr += model->actors[j].nr_operations[i];
			ns += model->actors[j].ns[i];
		}
		ksft_print_msg("%lu times %s, %lu ms\n", nr, ops[i].name, ns / 1000000);
	}
	for (i = 0; i < NR_NOISES && model->is_host_mm; i++)
		ksft_print_msg("%lu times %s\n", model->nr_noises[i], noises[i]);
}

static void print_view(const char *when, struct view *v)
{
	ksft_print_msg("%s: state 0x%x, slot %u, holes %u, poisoned %u, ", when, v->state, v->seq,
		       v->holes, v->poisoned);
	printf("generations: begun %u, dead %u, done %u behind hole %u\n", v->begun, v->dead,
	       (u32)v->done, (u32)(v->done >> 32));
}

static void print_failure(struct failure *f)
{
	static const char * const ways[] = { "host", "kernel", "guest" };

	ksft_print_msg("actor %d, %s, page %d, word of %d: %s, value 0x%lx\n", f->actor,
		       ways[f->way], f->page, f->owner, f->why, f->value);
	print_view("before", &f->before);
	print_view("after", &f->after);
}

/* Have all actors act for some seconds, and see what came of it. */
static void run_round(u32 round, int round_seconds, struct timespec start)
{
	struct timespec begin, limit;
	struct actor *a, noisy;
	struct range r;
	pid_t pid = 0;
	int i, status;

	model->stop = false;

	/* Have holes to begin with, too. */
	noisy = model->actors[0];
	noisy.random = derive(round * (NR_ACTORS + 1) + NR_ACTORS);
	for (i = 0; i < NR_FILES; i++) {
		r = choose_range(&noisy, (struct range) { i * FILE_PAGES, FILE_PAGES });
		punch_hole(&noisy, r);
	}

	if (model->is_host_mm) {
		for (i = 0; i < NR_FILES; i++)
			count_one(model->unmaps[i].begun);
		pid = fork_child();
		if (!pid)
			make_noise(&noisy, getppid());
	}

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (a = model->actors; a < model->actors + NR_ACTORS; a++) {
		a->random = derive(round * (NR_ACTORS + 1) + a->id);
		kvm_pthread_create(&a->thread, NULL, act, a);
	}

	for (i = 1; timespec_elapsed(begin).tv_sec < round_seconds && !model->has_failed; i++) {
		usleep(100000);
		if (i % 30 == 0)
			print_counts(start);
	}
	WRITE_ONCE(model->stop, true);

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	for (a = model->actors; a < model->actors + NR_ACTORS; a++)
		TEST_ASSERT(!pthread_timedjoin_np(a->thread, NULL, &limit),
			    "Actor %d doesn't stop: %s", a->id, ops[READ_ONCE(a->doing)].name);

	if (pid) {
		TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
		TEST_ASSERT(!status, "Who makes noise ended with 0x%x", status);
		for (i = 0; i < NR_FILES; i++)
			count_one(model->unmaps[i].done);
	}

	if (!model->has_failed)
		check_all(&model->actors[0]);
}

static void run_phase(const char *name, u32 phase, int phase_seconds, struct timespec start)
{
	u32 round = phase << 16;
	int left;

	model->is_ordered = !strcmp(name, "ordered");
	model->is_host_mm = !strcmp(name, "host_mm");
	for (left = phase_seconds; left > 0 && !model->has_failed; left -= ROUND_SECONDS)
		run_round(round++, min(left, ROUND_SECONDS), start);

	print_counts(start);
	if (verbose)
		print_operations();
	if (model->has_failed)
		print_failure(&model->failure);
	ksft_test_result(!model->has_failed, "%s\n", name);
	if (model->has_failed)
		exit(KSFT_FAIL);
}

static void print_seed(void)
{
	ksft_print_msg("seed %u\n", seed);
}

static void create_vm(void)
{
	const u64 model_pages = align_up(sizeof(*model), PAGE_SIZE) / PAGE_SIZE;
	struct kvm_vcpu *vcpus[NR_ACTORS];
	struct actor *a;
	int i;

	vm = __vm_create_with_vcpus(in_place_shape, NR_ACTORS, model_pages + 256, guest_code,
				    vcpus);
	vm_mem_add(vm, VM_MEM_SRC_SHMEM, MODEL_GPA, MODEL_SLOT, model_pages, 0, -1, 0);
	virt_map(vm, MODEL_GPA, MODEL_GPA, model_pages);
	model = addr_gpa2hva(vm, MODEL_GPA);

	for (i = 0; i < NR_FILES; i++)
		files[i] = vm_create_guest_memfd(vm, FILE_SIZE, GMEM_FLAGS);
	for (i = 0; i < NR_SLOTS; i++) {
		pthread_mutex_init(&slot_locks[i], NULL);
		TEST_ASSERT_EQ(gmem_add_slot(vm, FIRST_SLOT + i, slot_gpa(i, 0), SLOT_PAGES,
					     files[i * SLOT_PAGES / FILE_PAGES],
					     i * SLOT_PAGES % FILE_PAGES), 0);
	}
	virt_map(vm, slot_gpa(0, 0), slot_gpa(0, 0), NR_WINDOWS * ALL_FILES);
	for (i = 0; i < NR_BLOCKS; i++)
		pthread_mutex_init(&block_locks[i], NULL);

	for (i = 0; i < NR_ACTORS; i++) {
		a = &model->actors[i];
		a->id = i;
		a->vcpu = vcpus[i];
		a->maps[0] = map_file(0, NULL);
		a->maps[1] = map_file(1, NULL);
		TEST_ASSERT(!io_uring_queue_init(1, &a->ring, 0), "No io_uring");
		vcpu_args_set(a->vcpu, 2, MODEL_GPA, i);
	}
}

static void help(const char *name)
{
	printf("usage: %s [-h] [-s seed] [-t seconds] [-m] [-v]\n"
	       "  -s  repeat the choices of another run\n"
	       "  -t  how long to go on in all, by default 30\n"
	       "  -m  have the host's memory management do to the memory what it can\n"
	       "  -v  say how often what was done\n", name);
	exit(KSFT_FAIL);
}

int main(int argc, char *argv[])
{
	struct sigaction sa = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};
	bool is_host_mm = false;
	struct timespec start;
	int opt;

	seed = time(NULL);
	while ((opt = getopt(argc, argv, "hms:t:v")) != -1) {
		switch (opt) {
		case 'm':
			is_host_mm = true;
			break;
		case 's':
			seed = atoi_non_negative("seed", optarg);
			break;
		case 't':
			seconds = atoi_positive("seconds", optarg);
			break;
		case 'v':
			verbose = true;
			break;
		default:
			help(argv[0]);
		}
	}

	require_in_place_vm();
	__TEST_REQUIRE(!is_host_mm || !geteuid(), "Needs root");

	ksft_print_header();
	ksft_set_plan(is_host_mm ? 1 : 2);
	print_seed();
	atexit(print_seed);

	sigaction(SIGBUS, &sa, NULL);
	create_vm();
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (is_host_mm) {
		create_cgroups();
		run_phase("host_mm", 2, seconds, start);
		remove_cgroups();
	} else {
		run_phase("ordered", 0, (seconds + 1) / 2, start);
		run_phase("racing", 1, seconds / 2 ?: 1, start);
	}
	ksft_finished();
}
