#ifndef FERRY_KERNEL_PREADV2_H
#define FERRY_KERNEL_PREADV2_H

/* preadv2(2), which musl has only since 1.2.5. */

#include <sys/uio.h>

#ifndef RWF_NOWAIT

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define RWF_NOWAIT 0x00000008

static inline ssize_t preadv2(int fd, const struct iovec *vectors, int count, off_t at, int flags)
{
	/* The kernel takes the offset in two halves, and ignores the second on 64 bits. */
	return syscall(SYS_preadv2, fd, vectors, count, (long)at, (long)(at >> 32), flags);
}

#endif

#endif
