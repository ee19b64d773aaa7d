// SPDX-License-Identifier: GPL-2.0
/*
 * Have memory of this guest made private and shared again, as a confidential
 * guest's own code does: by the hypercall KVM_HC_MAP_GPA_RANGE.
 *
 * For software-protected VMs, whose guests are ordinary Linux and know nothing
 * of private memory.  What is private can be used as before by this guest, but not
 * by the host, nor by devices that it emulates: what they are to reach has to stay
 * shared.  So has what KVM reads itself to emulate an instruction, the kernel's
 * code and all page tables.  Memory that has neither is in the movable zone, if
 * the kernel was booted with movablecore= and devices go through bounce buffers
 * (swiotlb=force and iommu_platform=on, by which virtio uses them).
 *
 * In debugfs, gmem_guest/:
 *
 *	convert		write "private|shared FIRST_PFN NR_PAGES" to have that done
 *	movable		write "private|shared" to have it done with the movable zone,
 *			2 MiB at a time at most
 *	random		write "NR SEED": as many times, have a range of up to 600 pages of
 *			the movable zone made private or shared, at random; what is in
 *			them is in use meanwhile
 *	check		write "NR SEED": the same with pages that belong to this module,
 *			whose contents are looked at after each conversion
 *	cycle		write "NR": as many times, have pages of this module made private,
 *			write to each, have them shared again, and write to each
 *	log		read what was asked for, and what the host answered
 *
 * A write that the host refuses fails with the host's answer.  With EAGAIN, somebody
 * on the host uses one of the pages: it is tried again a few times.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kvm_para.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#define MAX_TRIES	100
#define MAX_RANGE	600
#define STEP_PAGES	(SZ_2M / PAGE_SIZE)
#define NR_CHECKED	1024

static DEFINE_MUTEX(lock);
static struct dentry *dir;

/* What the host answered, since the module was loaded. */
static struct {
	unsigned long to_private, to_shared, again, refused;
	unsigned long pages_private, pages_shared;
	long last_error;
	u64 max_ns;
} stats;

/* Returns 0 or the host's answer, a negative errno. */
static long convert(unsigned long pfn, unsigned long nr, bool private)
{
	unsigned long attrs = KVM_MAP_GPA_RANGE_PAGE_SZ_4K |
			      (private ? KVM_MAP_GPA_RANGE_ENCRYPTED :
					 KVM_MAP_GPA_RANGE_DECRYPTED);
	u64 start = ktime_get_ns();
	int tries = 0;
	long ret;

	lockdep_assert_held(&lock);

	for (;;) {
		ret = kvm_hypercall3(KVM_HC_MAP_GPA_RANGE, PFN_PHYS(pfn), nr, attrs);
		/* The answer is an errno; of KVM's own, a negative one. */
		ret = -abs(ret);
		if (ret != -EAGAIN || ++tries == MAX_TRIES)
			break;
		stats.again++;
		fsleep(1000);
	}

	stats.max_ns = max(stats.max_ns, ktime_get_ns() - start);
	if (ret) {
		stats.refused++;
		stats.last_error = ret;
	} else if (private) {
		stats.to_private++;
		stats.pages_private += nr;
	} else {
		stats.to_shared++;
		stats.pages_shared += nr;
	}
	return ret;
}

static int parse_state(const char *word, bool *private)
{
	if (strcmp(word, "private") && strcmp(word, "shared"))
		return -EINVAL;

	*private = !strcmp(word, "private");
	return 0;
}

static int do_convert(char *line)
{
	unsigned long pfn, nr;
	char word[8];
	bool private;

	if (sscanf(line, "%7s %li %li", word, &pfn, &nr) != 3 || parse_state(word, &private))
		return -EINVAL;
	return convert(pfn, nr, private);
}

/*
 * How many pages from @pfn on, at most @max, are the zone's to give out.  A zone
 * has holes.  What was allocated before there were zones, the bounce buffers and
 * page tables among it, lies wherever there was room, and is reserved.
 */
static unsigned long count_movable(struct zone *zone, unsigned long pfn, unsigned long max)
{
	struct page *page;
	unsigned long nr;

	for (nr = 0; nr < max; nr++) {
		page = pfn_to_online_page(pfn + nr);
		if (!page || page_zone(page) != zone || PageReserved(page))
			break;
	}
	return nr;
}

static int do_movable(char *line)
{
	unsigned long pfn, end, nr;
	struct zone *zone;
	bool private;
	int nid, ret;

	if (parse_state(strim(line), &private))
		return -EINVAL;

	for_each_online_node(nid) {
		zone = &NODE_DATA(nid)->node_zones[ZONE_MOVABLE];
		end = zone_end_pfn(zone);
		for (pfn = zone->zone_start_pfn; pfn < end; pfn += nr) {
			cond_resched();
			nr = count_movable(zone, pfn, ALIGN(pfn + 1, STEP_PAGES) - pfn);
			if (!nr) {
				nr = 1;
				continue;
			}
			ret = convert(pfn, nr, private);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int parse_random(char *line, unsigned long *nr, struct rnd_state *rnd)
{
	u64 seed;

	if (sscanf(line, "%lu %llu", nr, &seed) != 2)
		return -EINVAL;
	prandom_seed_state(rnd, seed);
	return 0;
}

static int do_random(char *line)
{
	struct zone *zone = &NODE_DATA(first_online_node)->node_zones[ZONE_MOVABLE];
	unsigned long i, nr, first, count;
	struct rnd_state rnd;
	bool private;
	int ret;

	ret = parse_random(line, &nr, &rnd);
	if (ret)
		return ret;
	if (zone_end_pfn(zone) - zone->zone_start_pfn < MAX_RANGE)
		return -ENODEV;

	for (i = 0; i < nr && !ret; i++) {
		count = 1 + prandom_u32_state(&rnd) % MAX_RANGE;
		first = zone->zone_start_pfn +
			prandom_u32_state(&rnd) %
			(zone_end_pfn(zone) - zone->zone_start_pfn - count + 1);
		private = prandom_u32_state(&rnd) & 1;
		count = count_movable(zone, first, count);
		if (count)
			ret = convert(first, count, private);
		if (signal_pending(current))
			ret = ret ?: -EINTR;
		cond_resched();
	}
	return ret;
}

static int do_cycle(char *line)
{
	unsigned int order = get_order(NR_CHECKED * PAGE_SIZE);
	unsigned long i, j, nr;
	struct page *pages;
	int ret = 0, ret2;

	if (kstrtoul(strim(line), 0, &nr))
		return -EINVAL;

	pages = alloc_pages(GFP_KERNEL | __GFP_NOWARN, order);
	if (!pages)
		return -ENOMEM;

	for (i = 0; i < 2 * nr && !ret; i++) {
		ret = convert(page_to_pfn(pages), NR_CHECKED, !(i & 1));
		for (j = 0; j < NR_CHECKED && !ret; j++)
			WRITE_ONCE(*(u64 *)page_address(pages + j), i);
		if (signal_pending(current))
			ret = ret ?: -EINTR;
		cond_resched();
	}

	/* What isn't shared again can't be anybody else's. */
	ret2 = convert(page_to_pfn(pages), NR_CHECKED, false);
	if (!ret2)
		__free_pages(pages, order);
	return ret ?: ret2;
}

/* What belongs into a word of a page that was written @generation times. */
static u64 stamp(unsigned long pfn, u32 generation, int word)
{
	return ((u64)pfn << 24) ^ ((u64)generation << 9) ^ word;
}

static void write_page(struct page *page, u32 generation)
{
	u64 *p = page_address(page);
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++)
		p[i] = stamp(page_to_pfn(page), generation, i);
}

static bool check_page(struct page *page, u32 generation)
{
	u64 *p = page_address(page);
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++)
		if (READ_ONCE(p[i]) != stamp(page_to_pfn(page), generation, i))
			return false;
	return true;
}

static int do_check(char *line)
{
	unsigned int order = get_order(NR_CHECKED * PAGE_SIZE);
	unsigned long i, j, nr, first, count;
	struct rnd_state rnd;
	struct page *pages;
	u32 *generations;
	int ret, ret2;

	ret = parse_random(line, &nr, &rnd);
	if (ret)
		return ret;

	generations = kcalloc(NR_CHECKED, sizeof(*generations), GFP_KERNEL);
	pages = alloc_pages(GFP_KERNEL | __GFP_NOWARN, order);
	if (!generations || !pages) {
		ret = -ENOMEM;
		goto out;
	}
	for (i = 0; i < NR_CHECKED; i++)
		write_page(pages + i, 0);

	for (i = 0; i < nr && !ret; i++) {
		first = prandom_u32_state(&rnd) % NR_CHECKED;
		count = 1 + prandom_u32_state(&rnd) % (NR_CHECKED - first);
		ret = convert(page_to_pfn(pages) + first, count,
			      prandom_u32_state(&rnd) & 1);
		for (j = first; j < first + count && !ret; j++) {
			if (!check_page(pages + j, generations[j])) {
				pr_err("pfn 0x%lx has lost its contents\n",
				       page_to_pfn(pages + j));
				ret = -EIO;
			}
			write_page(pages + j, ++generations[j]);
		}
		if (signal_pending(current))
			ret = ret ?: -EINTR;
		cond_resched();
	}

	/* What isn't shared again can't be anybody else's. */
	ret2 = convert(page_to_pfn(pages), NR_CHECKED, false);
	if (ret2) {
		pages = NULL;
		ret = ret ?: ret2;
	}
out:
	if (pages)
		__free_pages(pages, order);
	kfree(generations);
	return ret;
}

static ssize_t write_line(const char __user *ubuf, size_t count, int (*fn)(char *))
{
	char line[64] = {};
	int ret;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, ubuf, count))
		return -EFAULT;

	ret = mutex_lock_interruptible(&lock);
	if (ret)
		return ret;
	ret = fn(line);
	mutex_unlock(&lock);
	return ret ?: count;
}

#define DEFINE_COMMAND(name)							\
static ssize_t name##_write(struct file *file, const char __user *ubuf,	\
			    size_t count, loff_t *ppos)				\
{										\
	return write_line(ubuf, count, do_##name);				\
}										\
static const struct file_operations name##_fops = {				\
	.owner = THIS_MODULE,							\
	.write = name##_write,							\
}

DEFINE_COMMAND(convert);
DEFINE_COMMAND(movable);
DEFINE_COMMAND(random);
DEFINE_COMMAND(check);
DEFINE_COMMAND(cycle);

static int log_show(struct seq_file *m, void *unused)
{
	mutex_lock(&lock);
	seq_printf(m, "to private: %lu calls, %lu pages\n", stats.to_private,
		   stats.pages_private);
	seq_printf(m, "to shared: %lu calls, %lu pages\n", stats.to_shared,
		   stats.pages_shared);
	seq_printf(m, "EAGAIN: %lu\n", stats.again);
	seq_printf(m, "refused: %lu, the last one with %ld\n", stats.refused,
		   -stats.last_error);
	seq_printf(m, "longest call: %llu us\n", stats.max_ns / 1000);
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(log);

static int __init gmem_guest_init(void)
{
	if (!kvm_para_available())
		return -ENODEV;

	dir = debugfs_create_dir("gmem_guest", NULL);
	debugfs_create_file("convert", 0200, dir, NULL, &convert_fops);
	debugfs_create_file("movable", 0200, dir, NULL, &movable_fops);
	debugfs_create_file("random", 0200, dir, NULL, &random_fops);
	debugfs_create_file("check", 0200, dir, NULL, &check_fops);
	debugfs_create_file("cycle", 0200, dir, NULL, &cycle_fops);
	debugfs_create_file("log", 0400, dir, NULL, &log_fops);
	return 0;
}
module_init(gmem_guest_init);

static void __exit gmem_guest_exit(void)
{
	debugfs_remove(dir);
}
module_exit(gmem_guest_exit);

MODULE_DESCRIPTION("Have memory of this guest converted between private and shared");
MODULE_LICENSE("GPL");
