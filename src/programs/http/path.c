#include "programs/http/path.h"

#include <errno.h>
#include <string.h>

static int hexadecimal(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int http_path_decode_escape(const char *text, size_t length, char *out)
{
	if (length < 3)
		return -EINVAL;
	int high = hexadecimal(text[1]);
	int low = hexadecimal(text[2]);
	if (high < 0 || low < 0 || (high == 0 && low == 0))
		return -EINVAL;
	*out = (char)(high * 16 + low);
	return *out == '/' ? -ENOENT : 0;
}

int http_path_decode(const char *path, size_t length, char *out, size_t size)
{
	size_t at = 0;
	size_t used = 0;
	while (at < length && path[at] == '/')
		at++;
	while (at < length) {
		char c = path[at];
		size_t taken = 1;
		if (c == '%') {
			int status = http_path_decode_escape(path + at, length - at, &c);
			if (status < 0)
				return status;
			taken = 3;
		}
		if (used + 1 >= size)
			return -ENAMETOOLONG;
		out[used++] = c;
		at += taken;
	}
	if (used == 0) {
		if (size < 2)
			return -ENAMETOOLONG;
		out[used++] = '.';
	}
	out[used] = '\0';
	return 0;
}
