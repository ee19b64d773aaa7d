// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what there is to look at: a guest_memfd's fdinfo, the VM's statistics, and
 * the tracepoints of conversions.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_util.h"
#include "test_util.h"

#define TRACEFS_PATH	"/sys/kernel/tracing/instances/guest_memfd_info_test"

static u64 read_fdinfo(int fd, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_path(path, key, 0);
}

/* Verify what fdinfo says of pages: how many there are, and are allocated. */
static void check_fdinfo(int fd, int nr_private, int private_present, int shared_present,
			 int nr_ranges)
{
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-private:"), nr_private * PAGE_SIZE);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-shared:"), GMEM_SIZE - nr_private * PAGE_SIZE);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-private-populated:"), private_present * PAGE_SIZE);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-shared-populated:"), shared_present * PAGE_SIZE);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-ranges:"), nr_ranges);
}

/* What there should have been of conversions. */
struct counts {
	u64 to_private;
	u64 to_shared;
	u64 pages_to_private;
	u64 pages_to_shared;
	u64 eagain;
};

/* Verify what is said by a VM that has but one guest_memfd. */
static void check_counts(struct kvm_vm *vm, int fd, const struct counts *counts)
{
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-to-private:"), counts->to_private);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-to-shared:"), counts->to_shared);
	TEST_ASSERT_EQ(read_fdinfo(fd, "gmem-eagain:"), counts->eagain);
	TEST_ASSERT_EQ(vm_get_stat(vm, gmem_conversions),
		       counts->to_private + counts->to_shared);
	TEST_ASSERT_EQ(vm_get_stat(vm, gmem_pages_to_private), counts->pages_to_private);
	TEST_ASSERT_EQ(vm_get_stat(vm, gmem_pages_to_shared), counts->pages_to_shared);
	TEST_ASSERT_EQ(vm_get_stat(vm, gmem_eagain), counts->eagain);
}

/* C11, C12: Look at how many pages are private, shared, and there at all. */
TEST_F(gmem, fdinfo)
{
	const int nr_private = variant->init_state ? NR_PAGES : 0;

	ASSERT_EQ(GMEM_SIZE, read_fdinfo(self->fd, "gmem-size:"));
	ASSERT_EQ(variant->flags, read_fdinfo(self->fd, "gmem-flags:"));
	check_fdinfo(self->fd, nr_private, 0, 0, 1);

	guest_fill(self->vcpu, 3, 5, 1);
	check_fdinfo(self->fd, nr_private, nr_private ? 5 : 0, nr_private ? 0 : 5, 1);

	/* Pages 8 to 15 and 32 are private, and of these, only the former are there. */
	set_state(self->fd, pages(8, 8) | pages(32, 1));
	guest_fill(self->vcpu, 0, 16, 2);
	check_fdinfo(self->fd, 9, 8, 8, 5);

	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE / 2);
	check_fdinfo(self->fd, 9, 0, 0, 5);

	set_state(self->fd, 0);
	check_fdinfo(self->fd, 0, 0, 0, 1);
}

/* C5, C7: Count what changes, and what fails. */
TEST_F(gmem, counts)
{
	const u64 chunk_pages = SZ_2M / PAGE_SIZE, nr = 4 * chunk_pages;
	struct kvm_memory_attributes2 attr = {};
	struct counts counts = {};
	char buf[PAGE_SIZE];
	int pipe_fds[2], fd;
	u64 error_page;

	check_counts(self->vm, self->fd, &counts);

	if (variant->init_state) {
		to_shared(self->fd, 0, NR_PAGES);
		counts.to_shared++;
		counts.pages_to_shared += NR_PAGES;
	}
	check_counts(self->vm, self->fd, &counts);

	/* Only what changes counts, and if nothing does, that isn't a conversion. */
	to_private(self->fd, 10, 4);
	to_private(self->fd, 8, 8);
	to_private(self->fd, 9, 2);
	to_shared(self->fd, 0, 8);
	counts.to_private += 2;
	counts.pages_to_private += 8;
	check_counts(self->vm, self->fd, &counts);

	to_shared(self->fd, 0, NR_PAGES);
	counts.to_shared++;
	counts.pages_to_shared += 8;

	/* What fails changes nothing. */
	host_fill(self->mem, 20, 1, 1);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 20)));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	counts.eagain++;
	check_counts(self->vm, self->fd, &counts);
	ASSERT_LE(1, vm_get_stat(self->vm, gmem_waits));
	unsplice_page(pipe_fds, buf);

	/* The VM counts what all of its files have, of whatever their ranges are made. */
	fd = vm_create_guest_memfd(self->vm, (nr + 3) * PAGE_SIZE, GMEM_FLAGS);
	to_private(fd, 1, 1);
	to_private(fd, chunk_pages + 5, 10);
	to_private(fd, 2 * chunk_pages, chunk_pages);
	to_private(fd, nr + 1, 2);
	attr.size = (nr + 3) * PAGE_SIZE;
	attr.attributes = PRIVATE;
	ASSERT_EQ(0, set_attributes(fd, &attr));
	ASSERT_EQ(counts.pages_to_private + nr + 3,
		  vm_get_stat(self->vm, gmem_pages_to_private));
	ASSERT_EQ(5, read_fdinfo(fd, "gmem-to-private:"));

	to_shared(fd, 7, nr - 4);
	ASSERT_EQ(counts.pages_to_shared + nr - 4,
		  vm_get_stat(self->vm, gmem_pages_to_shared));
	ASSERT_EQ(counts.to_private + counts.to_shared + 6,
		  vm_get_stat(self->vm, gmem_conversions));

	ASSERT_EQ(counts.to_private, read_fdinfo(self->fd, "gmem-to-private:"));
	ASSERT_EQ(counts.to_shared, read_fdinfo(self->fd, "gmem-to-shared:"));
	kvm_close(fd);
}

/* C22: In VM mode, the file knows what is allocated, and the VM what is private. */
TEST(vm_mode)
{
	char path[64], buf[1024];
	struct kvm_vm *vm;
	ssize_t len;
	int fd, info;

	if (in_place_is_default())
		SKIP(return, "No VM is in VM mode");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	fd = vm_create_guest_memfd(vm, GMEM_SIZE, 0);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 3 * PAGE_SIZE, 4 * PAGE_SIZE);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY);
	ASSERT_LE(0, info);
	len = read(info, buf, sizeof(buf) - 1);
	ASSERT_LT(0, len);
	kvm_close(info);
	buf[len] = 0;
	ASSERT_NE(NULL, strstr(buf, "gmem-mode:\tvm\n")) TH_LOG("%s", buf);
	ASSERT_EQ(NULL, strstr(buf, "private")) TH_LOG("%s", buf);

	ASSERT_EQ(GMEM_SIZE, read_fdinfo(fd, "gmem-size:"));
	ASSERT_EQ(4 * PAGE_SIZE, read_fdinfo(fd, "gmem-populated:"));
	ASSERT_EQ(0, vm_get_stat(vm, gmem_conversions));

	kvm_close(fd);
	kvm_vm_free(vm);
}

struct converter {
	bool stop;
	int fd;
};

static void *convert_all_the_time(void *arg)
{
	struct converter *conv = arg;
	int i;

	for (i = 0; !READ_ONCE(conv->stop); i++) {
		to_private(conv->fd, i % 32, 1 + i % 31);
		to_shared(conv->fd, i % 17, 1 + i % 47);
	}
	return NULL;
}

/* C25: Look while pages are converted.  Every page is counted once. */
TEST_F(gmem, fdinfo_while_converted)
{
	struct converter conv = { .fd = self->fd };
	char path[64], buf[1024], *s;
	u64 private, shared, ranges;
	pthread_t thread;
	ssize_t len;
	int i, fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->fd);
	pthread_create(&thread, NULL, convert_all_the_time, &conv);

	for (i = 0; i < 1000; i++) {
		fd = open(path, O_RDONLY);
		ASSERT_LE(0, fd);
		len = read(fd, buf, sizeof(buf) - 1);
		ASSERT_LT(0, len);
		kvm_close(fd);
		buf[len] = 0;

		s = strstr(buf, "gmem-private:");
		ASSERT_TRUE(s && sscanf(s, "gmem-private: %lu", &private) == 1);
		s = strstr(buf, "gmem-shared:");
		ASSERT_TRUE(s && sscanf(s, "gmem-shared: %lu", &shared) == 1);
		s = strstr(buf, "gmem-ranges:");
		ASSERT_TRUE(s && sscanf(s, "gmem-ranges: %lu", &ranges) == 1);
		ASSERT_EQ(GMEM_SIZE, private + shared);
		ASSERT_TRUE(ranges >= 1 && ranges <= NR_PAGES);
	}

	WRITE_ONCE(conv.stop, true);
	pthread_join(thread, NULL);
}

/* Returns false if there's no tracing. */
static bool trace_begin(void)
{
	static const char * const events[] = { "kvm_gmem_convert", "kvm_gmem_in_use" };
	char path[128];
	int i;

	if (mkdir(TRACEFS_PATH, 0700) && errno != EEXIST)
		return false;

	TEST_ASSERT(!write_path(TRACEFS_PATH "/trace", "\n"), "Can't clear the trace");
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		snprintf(path, sizeof(path), TRACEFS_PATH "/events/kvm/%s/enable", events[i]);
		TEST_ASSERT(!write_path(path, "1"), "No event %s", events[i]);
	}
	return true;
}

/* What has been traced, in @buf, and nothing is from now on. */
static void trace_end(char *buf, size_t size)
{
	FILE *file = fopen(TRACEFS_PATH "/trace", "r");
	size_t len;

	TEST_ASSERT(file, "Can't read the trace");
	len = fread(buf, 1, size - 1, file);
	buf[len] = 0;
	fclose(file);
	rmdir(TRACEFS_PATH);
}

/* C6, C7: Have conversions traced, and what keeps one from being made. */
TEST_F(gmem, trace)
{
	u64 ino = read_fdinfo(self->fd, "ino:"), error_page, ns;
	char pipe_buf[PAGE_SIZE], buf[8192], line[256], *s;
	int pipe_fds[2];

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	if (!trace_begin())
		SKIP(return, "No tracing, needs CONFIG_FTRACE, tracefs and root");

	/* A conversion, one that's in somebody's way, and one of nothing. */
	to_private(self->fd, 2, 6);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 40)));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(40, error_page);
	unsplice_page(pipe_fds, pipe_buf);
	to_private(self->fd, 4, 2);
	to_shared(self->fd, 0, NR_PAGES);
	trace_end(buf, sizeof(buf));

	snprintf(line, sizeof(line),
		 "kvm_gmem_convert: ino %lu, 0x2000 -- 0x8000 to private: result 0, error_offset 0x0, changed 6 pages in ",
		 ino);
	s = strstr(buf, line);
	ASSERT_NE(NULL, s) TH_LOG("no '%s' in:\n%s", line, buf);
	ns = strtoull(s + strlen(line), &s, 10);
	ASSERT_LT(0, ns);
	ASSERT_EQ(0, strncmp(s, " ns\n", 4));

	snprintf(line, sizeof(line), "kvm_gmem_in_use: ino %lu, offset 0x28000, pfn ", ino);
	s = strstr(s, line);
	ASSERT_NE(NULL, s) TH_LOG("no '%s' in:\n%s", line, buf);
	s = strchr(s + strlen(line), ':');
	ASSERT_TRUE(s && !strncmp(s, ": 1 references\n", 15)) TH_LOG("not 1 in:\n%s", buf);

	snprintf(line, sizeof(line),
		 "kvm_gmem_convert: ino %lu, 0x0 -- 0x40000 to private: result -11, error_offset 0x28000, changed 0 pages in ",
		 ino);
	s = strstr(s, line);
	ASSERT_NE(NULL, s) TH_LOG("no '%s' in:\n%s", line, buf);

	snprintf(line, sizeof(line),
		 "kvm_gmem_convert: ino %lu, 0x4000 -- 0x6000 to private: result 0, error_offset 0x0, changed 0 pages in ",
		 ino);
	s = strstr(s, line);
	ASSERT_NE(NULL, s) TH_LOG("no '%s' in:\n%s", line, buf);

	snprintf(line, sizeof(line),
		 "kvm_gmem_convert: ino %lu, 0x0 -- 0x40000 to shared: result 0, error_offset 0x0, changed 6 pages in ",
		 ino);
	s = strstr(s, line);
	ASSERT_NE(NULL, s) TH_LOG("no '%s' in:\n%s", line, buf);
}

int main(int argc, char *argv[])
{
	require_in_place_vm();

	return test_harness_run(argc, argv);
}
