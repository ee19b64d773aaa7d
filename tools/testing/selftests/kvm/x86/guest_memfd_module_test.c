// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves C25.  Load, use and unload KVM's modules over and over again: nothing of
 * KVM may be left in the kernel.  And what outlives a VM, i.e. a guest_memfd that
 * somebody has open or mapped, keeps the modules, whoever has it, until it's gone.
 *
 * KVM has to be built as modules, be loaded, and have no other users.  -d says which
 * directory kvm.ko and its vendor's module are in.  They are loaded again in the end,
 * with those parameters that tests depend on.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "test_util.h"

/* How much memory a guest_memfd has that outlives its VM. */
#define POPULATED_SIZE	SZ_16M

/* What others may have unevictable meanwhile.  A page leaked a hundred times is more. */
#define SLACK_KB	64

/* How long whatever is about to let go of KVM may take to do so. */
#define UNLOAD_SECONDS	10

/* In the order in which they are loaded. */
static struct module {
	const char *name;
	const char *file;
	/* What VMs can do depends on it. */
	const char *param;
	char args[128];
} modules[] = {
	{ "kvm",	"kvm.ko",	"gmem_in_place_conversion" },
	{ "kvm_amd",	"kvm-amd.ko",	"npt" },
	{ "kvm_intel",	"kvm-intel.ko",	"ept" },
};

static struct module *kvm = &modules[0], *vendor;
static const char *dir;
static pid_t main_pid;

/* What there is without KVM: names of slab caches and modules, and memory. */
static char *slab_names, *module_names;
static u64 unevictable_kb;

static bool is_loaded(struct module *module)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module->name);
	return !access(path, F_OK);
}

static void save_args(struct module *module)
{
	char path[128], value[32];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module->name, module->param);
	f = fopen(path, "r");
	if (!f)
		return;

	TEST_ASSERT(fscanf(f, "%31s", value) == 1, "Failed to read %s", path);
	fclose(f);
	snprintf(module->args, sizeof(module->args), "%s=%s", module->param, value);
}

static void load_module(struct module *module)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, module->file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	TEST_ASSERT(fd >= 0, "Failed to open %s, errno: %d (%s)", path, errno, strerror(errno));
	TEST_ASSERT(!syscall(__NR_finit_module, fd, module->args, 0),
		    "Failed to load %s, errno: %d (%s)", path, errno, strerror(errno));
	kvm_close(fd);
}

static void load_kvm(void)
{
	load_module(kvm);
	load_module(vendor);
}

/* Leave KVM to the next test, whatever happened to this one. */
static void load_at_exit(void)
{
	if (getpid() != main_pid)
		return;
	if (!is_loaded(kvm))
		load_module(kvm);
	if (!is_loaded(vendor))
		load_module(vendor);
}

/* Returns the errno. */
static int unload_module(struct module *module)
{
	return syscall(__NR_delete_module, module->name, O_NONBLOCK) ? errno : 0;
}

static int unload_kvm(void)
{
	struct timespec start;
	int i, r;

	/* The vendor's module uses the other. */
	for (i = 1; i >= 0; i--) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		while ((r = unload_module(i ? vendor : kvm)) == EWOULDBLOCK &&
		       timespec_elapsed(start).tv_sec < UNLOAD_SECONDS)
			usleep(1000);
		if (r)
			return r;
	}
	return 0;
}

static void run(void (*fn)(int arg), int arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		fn(arg);
		_exit(0);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(!status, "The child's status is 0x%x", status);
}

/* The first word of each line, each in a line of its own. */
static char *names_in(const char *path)
{
	size_t size = SZ_64K, len = 0;
	char line[1024], name[128];
	char *names = malloc(size);
	FILE *f = fopen(path, "r");

	TEST_ASSERT(f && names, "Failed to open %s", path);
	names[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		TEST_ASSERT(sscanf(line, "%126s", name) == 1 && len + sizeof(name) < size,
			    "Too long or too short: %s", path);
		len += snprintf(names + len, size - len, "%s\n", name);
	}
	fclose(f);

	TEST_ASSERT(len, "Nothing in %s", path);
	return names;
}

/* Verify that nothing is in @path that wasn't there before. */
static void check_names(const char *path, const char *before)
{
	char *names = names_in(path), *name;
	char *copy = malloc(strlen(before) + 2);

	/* Each name stands between two newlines. */
	sprintf(copy, "\n%s", before);
	for (name = strtok(names, "\n"); name; name = strtok(NULL, "\n")) {
		char pattern[130];

		snprintf(pattern, sizeof(pattern), "\n%s\n", name);
		TEST_ASSERT(strstr(copy, pattern), "'%s' is left in %s", name, path);
	}
	free(copy);
	free(names);
}

static u64 nr_unevictable_kb(void)
{
	return meminfo_kb("Unevictable");
}

static u64 page_tables_kb(void)
{
	return meminfo_kb("SecPageTables");
}

/* KVM is unloaded. */
static void check_nothing_left(void)
{
	u64 kb;

	check_names("/proc/modules", module_names);
	check_names("/proc/slabinfo", slab_names);
	TEST_ASSERT(access("/dev/kvm", F_OK), "/dev/kvm is left");
	TEST_ASSERT(access("/sys/kernel/debug/kvm", F_OK), "/sys/kernel/debug/kvm is left");

	kb = settled(page_tables_kb, 0);
	TEST_ASSERT(!kb, "%lu kB of page tables for guests are left", kb);
	kb = settled(nr_unevictable_kb, unevictable_kb + SLACK_KB);
	TEST_ASSERT(kb <= unevictable_kb + SLACK_KB, "%lu kB are unevictable, %lu before",
		    kb, unevictable_kb);
}

/* Have a VM, convert its memory, and run its guest. */
static void use_kvm(int unused)
{
	struct gmem_vm gmem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	guest_fill(gmem.vcpu, 0, NR_PAGES, 1);
	set_state(gmem.fd, MIXED);
	guest_check(gmem.vcpu, 0, NR_PAGES, 1);
	check_state(gmem.mem, MIXED);
	gmem_vm_free(&gmem);
}

static void test_cycles(int nr)
{
	u64 load_ns = 0, use_ns = 0, unload_ns = 0;
	struct timespec start;
	int i;

	for (i = 0; i < nr; i++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		load_kvm();
		load_ns += timespec_to_ns(timespec_elapsed(start));

		clock_gettime(CLOCK_MONOTONIC, &start);
		run(use_kvm, 0);
		use_ns += timespec_to_ns(timespec_elapsed(start));

		clock_gettime(CLOCK_MONOTONIC, &start);
		TEST_ASSERT_EQ(unload_kvm(), 0);
		unload_ns += timespec_to_ns(timespec_elapsed(start));

		check_nothing_left();
	}
	ksft_print_msg("%d times, in ms: load %lu, use %lu, unload %lu\n", nr,
		       load_ns / nr / 1000000, use_ns / nr / 1000000, unload_ns / nr / 1000000);
}

/* What is left of a VM. */
enum keeper {
	DESCRIPTOR,
	MAPPING,
	/* A descriptor that another process has. */
	PROCESS,
	/* A descriptor that was sent and that nobody has received. */
	MESSAGE,
};

/* Verify that neither module goes away, not even a bit later, and nor does memory. */
static void check_kept(void)
{
	u64 kb;
	int i;

	for (i = 0; i < 10; i++) {
		TEST_ASSERT_EQ(unload_module(vendor), EWOULDBLOCK);
		TEST_ASSERT_EQ(unload_module(kvm), EWOULDBLOCK);
		usleep(10000);
	}
	kb = nr_unevictable_kb();
	TEST_ASSERT(kb >= unevictable_kb + POPULATED_SIZE / SZ_1K,
		    "%lu kB are unevictable, %lu before", kb, unevictable_kb);
}

static void test_keeper(int keeper)
{
	struct gmem_vm gmem;
	int fd, sockets[2];
	pid_t pid;
	u8 *mem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = vm_create_guest_memfd(gmem.vm, POPULATED_SIZE, GMEM_FLAGS);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, POPULATED_SIZE);
	TEST_ASSERT_EQ(gmem_add_slot(gmem.vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0), 0);
	__guest_fill(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	set_state(fd, MIXED);
	gmem_vm_free(&gmem);

	switch (keeper) {
	case DESCRIPTOR:
		check_kept();
		mem = kvm_mmap(GMEM_SIZE, PROT_READ, MAP_SHARED, fd);
		check_mixed(mem, 1);
		kvm_munmap(mem, GMEM_SIZE);
		kvm_close(fd);
		break;
	case MAPPING:
		mem = kvm_mmap(GMEM_SIZE, PROT_READ, MAP_SHARED, fd);
		kvm_close(fd);
		check_kept();
		check_mixed(mem, 1);
		kvm_munmap(mem, GMEM_SIZE);
		break;
	case PROCESS:
		pid = fork();
		if (!pid) {
			pause();
			_exit(1);
		}
		kvm_close(fd);
		check_kept();
		kill(pid, SIGKILL);
		TEST_ASSERT_EQ(waitpid(pid, NULL, 0), pid);
		break;
	case MESSAGE:
		TEST_ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
		send_fd(sockets[0], fd);
		kvm_close(fd);
		check_kept();
		kvm_close(sockets[0]);
		kvm_close(sockets[1]);
		break;
	}
}

static void help(const char *name)
{
	printf("usage: %s -d dir [-h] [-n nr]\n", name);
	printf(" -d: directory of the modules, uncompressed (required)\n");
	printf(" -n: how often they are loaded, used and unloaded (default: 100)\n");
	exit(0);
}

int main(int argc, char *argv[])
{
	static const char * const keepers[] = {
		[DESCRIPTOR] = "a descriptor",
		[MAPPING] = "a mapping",
		[PROCESS] = "another process's descriptor",
		[MESSAGE] = "a descriptor in a message",
	};
	int opt, i, r, nr = 100;

	while ((opt = getopt(argc, argv, "d:hn:")) != -1) {
		switch (opt) {
		case 'd':
			dir = optarg;
			break;
		case 'n':
			nr = atoi_positive("nr", optarg);
			break;
		case 'h':
		default:
			help(argv[0]);
		}
	}

	__TEST_REQUIRE(dir, "No directory of modules is given (-d)");
	vendor = is_loaded(&modules[1]) ? &modules[1] : &modules[2];
	__TEST_REQUIRE(is_loaded(kvm) && is_loaded(vendor), "KVM isn't loaded as modules");
	require_in_place_vm();
	save_args(kvm);
	save_args(vendor);

	ksft_print_header();
	ksft_set_plan(1 + ARRAY_SIZE(keepers));

	/* Once before it counts, to have what others allocate for good. */
	run(use_kvm, 0);
	main_pid = getpid();
	atexit(load_at_exit);
	r = unload_kvm();
	__TEST_REQUIRE(r != EWOULDBLOCK, "KVM has other users");
	TEST_ASSERT_EQ(r, 0);
	module_names = names_in("/proc/modules");
	slab_names = names_in("/proc/slabinfo");
	unevictable_kb = settled(nr_unevictable_kb, -1);

	test_cycles(nr);
	ksft_test_result_pass("nothing is left\n");

	for (i = 0; i < ARRAY_SIZE(keepers); i++) {
		load_kvm();
		run(test_keeper, i);
		TEST_ASSERT_EQ(unload_kvm(), 0);
		check_nothing_left();
		ksft_test_result_pass("%s keeps KVM\n", keepers[i]);
	}

	ksft_finished();
}
