#include "files.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Sizes around those of a page, of socket buffers, and of the smallest file that ferry sends by
 * sendfile(2). */
static const size_t sizes[FILES] = {0,     1,     2,     100,    1000,   1400,  4095,
                                    4096,  4097,  8192,  16383,  16384,  16385, 40000,
                                    65535, 65536, 65537, 100003, 262144, 500009};

size_t file_size(unsigned int file)
{
	return sizes[file];
}

/* No two parts of a file, or of two files, are equal. */
static void fill(unsigned char *bytes, size_t size, unsigned int file)
{
	uint64_t state = 0x9e3779b97f4a7c15u * (file + 1);

	for (size_t i = 0; i < size; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		bytes[i] = (unsigned char)(state >> 32);
	}
}

const unsigned char *file_bytes(unsigned int file)
{
	static unsigned char *contents[FILES];

	if (contents[file] == NULL) {
		contents[file] = malloc(sizes[file] + 1);
		if (contents[file] != NULL)
			fill(contents[file], sizes[file], file);
	}
	return contents[file];
}

static int write_file(const char *path, const unsigned char *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	if (fd < 0)
		return -1;
	while (size > 0) {
		ssize_t length = write(fd, bytes, size);
		if (length < 0)
			break;
		bytes += length;
		size -= (size_t)length;
	}
	return close(fd) == 0 && size == 0 ? 0 : -1;
}

int files_write(const char *directory)
{
	for (unsigned int file = 0; file < FILES; file++) {
		char path[4096];
		const unsigned char *bytes = file_bytes(file);
		int length = snprintf(path, sizeof(path), "%s/%u", directory, file);
		if (bytes == NULL || length < 0 || (size_t)length >= sizeof(path) ||
		    write_file(path, bytes, sizes[file]) < 0)
			return -1;
	}
	return 0;
}
