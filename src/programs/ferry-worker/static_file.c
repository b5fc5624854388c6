#include "programs/ferry-worker/static_file.h"

#include "programs/http/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int open_beneath(int root, const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	/* EAGAIN: a rename during the look-up of ".."; the kernel cannot decide whether the path stays
	 * below. */
	for (int attempt = 0; attempt < 16; attempt++) {
		long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

/* Without the inode, so that copies of the file on several machines have one ETag. */
static void name_version(const struct stat *status, char etag[STATIC_FILE_ETAG_SIZE])
{
	struct http_text text = {.bytes = etag, .size = STATIC_FILE_ETAG_SIZE - 1};
	http_text_add(&text, "\"");
	http_text_add_hex(&text, (uintmax_t)status->st_size);
	http_text_add(&text, "-");
	http_text_add_hex(&text, (uintmax_t)status->st_mtim.tv_sec);
	http_text_add(&text, ".");
	http_text_add_hex(&text, (unsigned long)status->st_mtim.tv_nsec);
	http_text_add(&text, "\"");
	etag[text.length] = '\0';
}

static int describe_file(int fd, struct static_file *file)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISDIR(status.st_mode))
		return -EISDIR;
	if (!S_ISREG(status.st_mode))
		return -EACCES;
	file->fd = fd;
	file->size = (uint64_t)status.st_size;
	file->modified = status.st_mtim.tv_sec;
	name_version(&status, file->etag);
	return 0;
}

int static_file_open(int root, const char *path, struct static_file *file)
{
	int fd = open_beneath(root, path);
	if (fd < 0)
		return fd;
	int status = describe_file(fd, file);
	if (status < 0)
		close(fd);
	return status;
}

bool static_file_read(const struct static_file *file, uint64_t offset, void *bytes, size_t length)
{
#ifdef RWF_NOWAIT
	const struct iovec vector = {bytes, length};
	return preadv2(file->fd, &vector, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)length;
#else /* musl before 1.2.5 */
	(void)file, (void)offset, (void)bytes, (void)length;
	return false;
#endif
}
