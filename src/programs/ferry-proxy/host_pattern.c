#include "programs/ferry-proxy/host_pattern.h"

#include "programs/http/head.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_name_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* "[::1]": an address of IPv6 has several spellings. */
static int normalise_inet6(const char *host, size_t length, char *out)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	if (length < 2 || host[length - 1] != ']' || length - 2 >= sizeof(text))
		return -EINVAL;
	memcpy(text, host + 1, length - 2);
	text[length - 2] = '\0';
	if (strlen(text) != length - 2 || inet_pton(AF_INET6, text, bytes) != 1)
		return -EINVAL;
	out[0] = '[';
	inet_ntop(AF_INET6, bytes, out + 1, INET6_ADDRSTRLEN);
	size_t used = strlen(out);
	out[used] = ']';
	return (int)used + 1;
}

/* A name in lower case, without the dot at its end. Labels must not be empty. */
static int normalise_name(const char *host, size_t length, char *out)
{
	if (length > 0 && host[length - 1] == '.')
		length--;
	if (length == 0 || length > HOST_NAME_MAX_LENGTH)
		return -EINVAL;
	for (size_t i = 0; i < length; i++) {
		out[i] = http_lower_case(host[i]);
		if (!is_name_character(out[i]) || (out[i] == '.' && (i == 0 || out[i - 1] == '.')))
			return -EINVAL;
	}
	return out[length - 1] == '.' ? -EINVAL : (int)length;
}

int host_normalise(const char *host, size_t length, char out[HOST_NAME_MAX_LENGTH + 1])
{
	return length > 0 && host[0] == '[' ? normalise_inet6(host, length, out)
	                                    : normalise_name(host, length, out);
}

int host_pattern_set(struct host_pattern *pattern, const char *host)
{
	char normal[HOST_NAME_MAX_LENGTH + 1];
	*pattern = (struct host_pattern){.kind = HOST_ANY};
	if (host == NULL)
		return 0;
	pattern->kind = strncmp(host, "*.", 2) == 0 ? HOST_BELOW : HOST_EXACT;
	char *start = normal;
	if (pattern->kind == HOST_BELOW) {
		host += 2;
		*start++ = '.';
		if (host[0] == '[' || strlen(host) >= HOST_NAME_MAX_LENGTH)
			return -EINVAL;
	}
	int length = host_normalise(host, strlen(host), start);
	if (length < 0)
		return -EINVAL;
	pattern->length = (size_t)length + (pattern->kind == HOST_BELOW ? 1 : 0);
	pattern->text = strndup(normal, pattern->length);
	return pattern->text != NULL ? 0 : -ENOMEM;
}

void host_pattern_free(struct host_pattern *pattern)
{
	free(pattern->text);
	pattern->text = NULL;
}

int host_pattern_compare(const struct host_pattern *a, const struct host_pattern *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->length != b->length)
		return a->length > b->length ? -1 : 1;
	return a->length > 0 ? memcmp(a->text, b->text, a->length) : 0;
}

bool host_pattern_fits(const struct host_pattern *pattern, const char *host, size_t length)
{
	if (pattern->kind == HOST_ANY)
		return true;
	if (pattern->kind == HOST_EXACT ? length != pattern->length : length <= pattern->length)
		return false;
	return memcmp(host + length - pattern->length, pattern->text, pattern->length) == 0;
}
