/* The request head's parser: it returns the same result for a head in pieces as for the whole head,
 * and every slice that it finds is inside the head. */

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "programs/http/head.h"

static void check_slice(struct http_slice slice, int length)
{
	FUZZ_CHECK((int)slice.start + slice.length <= length);
}

static void check_complete(const struct http_head *head, const char *text, int length)
{
	static const char *const names[] = {"host", "Content-Length", "Transfer-Encoding", "x"};
	bool repeated;

	FUZZ_CHECK(http_head_is_complete(head) && length >= 4);
	FUZZ_CHECK(memcmp(text + length - 4, "\r\n\r\n", 4) == 0);
	FUZZ_CHECK(head->field_count <= HTTP_HEAD_FIELDS && length <= HTTP_HEAD_LIMIT);
	FUZZ_CHECK(!(head->chunked && head->has_content_length));
	check_slice(head->path, length);
	check_slice(head->query, length);
	check_slice(head->authority, length);
	check_slice(http_head_line(head), length);
	for (unsigned int i = 0; i < head->field_count; i++) {
		check_slice(head->fields[i].name, length);
		check_slice(head->fields[i].value, length);
		FUZZ_CHECK(head->fields[i].name.length > 0);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		http_head_find(head, text, names[i], &repeated);
	http_head_find(head, text, "host", &repeated);
	FUZZ_CHECK(!repeated);
}

/* A piece more each time, always at another address. */
static int parse_in_pieces(const char *text, size_t length, size_t piece)
{
	struct http_head head;
	int result = HTTP_HEAD_MORE;

	http_head_init(&head);
	for (size_t end = piece; result == HTTP_HEAD_MORE; end += piece) {
		if (end > length)
			end = length;
		char *moved = malloc(end + 1);
		FUZZ_CHECK(moved != NULL);
		memcpy(moved + 1, text, end);
		result = http_head_parse(&head, moved + 1, end);
		FUZZ_CHECK(http_head_parse(&head, moved + 1, end) == result);
		free(moved);
		if (end == length)
			break;
	}
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct http_head head;

	size_t piece = 1 + (size_t)fuzz_byte(&input) % 64;
	const char *text = (const char *)input.at;
	http_head_init(&head);
	int result = http_head_parse(&head, text, input.left);
	FUZZ_CHECK(result <= (int)input.left);
	FUZZ_CHECK(result >= 0 || result == -400 || result == -414 || result == -431 ||
	           result == -501 || result == -505);
	FUZZ_CHECK((result < 0) == (head.error != NULL));
	FUZZ_CHECK((result > 0) == http_head_is_complete(&head));
	if (result > 0)
		check_complete(&head, text, result);
	FUZZ_CHECK(parse_in_pieces(text, input.left, piece) == result);
	return 0;
}
