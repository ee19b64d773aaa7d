/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What virt/kvm/gmem_attributes.c needs and the stubs in tools/ do not have.
 * The Makefile puts it before the first line of that file.
 */
#ifndef GMEM_ATTRIBUTES_SHIM_H
#define GMEM_ATTRIBUTES_SHIM_H

#include "maple-shared.h"
#include <linux/maple_tree.h>
#include <linux/slab.h>

static_assert(sizeof(struct maple_node) == 256, "not as in the kernel");

#define pgoff_t unsigned long

/* tools/ has the header, and nothing in it. */
struct mutex;

/* The stub is for maple nodes only. */
void object_kfree_rcu(void *object, const char *head);

#undef kfree_rcu
#define kfree_rcu(ptr, member)	object_kfree_rcu(ptr, #member)

/* What the code under test complains about, for the tests to look at. */
extern unsigned int nr_warnings;
extern unsigned int nr_lock_violations;

#undef WARN_ON_ONCE
#define WARN_ON_ONCE(cond) ({				\
	bool __warn = (cond);				\
							\
	if (__warn)					\
		nr_warnings++;				\
	__warn;						\
})

/* Stands in for the lock that gmem_attributes_init() takes, held or not. */
extern bool write_locked;

#undef mt_write_lock_is_held
#define mt_write_lock_is_held(mt) ((void)(mt), write_locked)

#undef mt_set_external_lock
#define mt_set_external_lock(mt, lock) ((void)(mt), (void)(lock))

#define lockdep_assert(cond) do {			\
	if (!(cond))					\
		nr_lock_violations++;			\
} while (0)

#endif /* GMEM_ATTRIBUTES_SHIM_H */
