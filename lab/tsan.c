// SPDX-License-Identifier: GPL-2.0
/*
 * What gcc calls for an access to what is volatile, with tsan-distinguish-volatile: READ_ONCE(), WRITE_ONCE() and what is made of them, e.g.
 * rcu_dereference(). Tells ThreadSanitizer that the access is marked; and, as dependencies are beyond it, that a read of what has been written
 * is ordered behind the write.
 */
#include <stdint.h>

#define VOLATILE(size, bits)							\
uint##bits##_t __tsan_atomic##bits##_load(const volatile void *, int);		\
uint##bits##_t __tsan_atomic##bits##_fetch_or(volatile void *, uint##bits##_t, int);	\
										\
void __tsan_volatile_read##size(void *p)					\
{										\
	__tsan_atomic##bits##_load(p, __ATOMIC_ACQUIRE);			\
}										\
										\
void __tsan_volatile_write##size(void *p)					\
{										\
	__tsan_atomic##bits##_fetch_or(p, 0, __ATOMIC_RELEASE);			\
}

VOLATILE(1, 8)
VOLATILE(2, 16)
VOLATILE(4, 32)
VOLATILE(8, 64)

/* The tests ask for it at their end; it's of another sanitizer. */
int __lsan_do_recoverable_leak_check(void)
{
	return 0;
}
