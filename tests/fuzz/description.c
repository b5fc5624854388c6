/* A descriptor's description: if its bytes can be parsed, the parsed description is written as the
 * same bytes. The receiver accepts a descriptor only if the description with it is true. */

#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptor/description.h"
#include "ferry/descriptor.h"

enum { NAME_MAX_SIZE = 255, KINDS = 8 };

/* ---- the payload alone ---- */

static void take_apart(const uint8_t *payload, size_t length)
{
	unsigned char again[DESCRIPTION_SIZE];
	struct description description;
	const char *name = NULL;
	size_t name_length = 0;

	if (description_get(payload, length, &description, &name, &name_length) != NULL)
		return;
	FUZZ_CHECK(length == DESCRIPTION_SIZE + name_length);
	FUZZ_CHECK((const uint8_t *)name == payload + DESCRIPTION_SIZE);
	FUZZ_CHECK(memchr(name, '\0', name_length) == NULL);
	description_put(again, &description, name_length);
	FUZZ_CHECK(memcmp(again, payload, DESCRIPTION_SIZE) == 0);
	FUZZ_CHECK(description_compare(&description, &description) == NULL);
}

/* ---- with a descriptor ---- */

static int make_fd(unsigned int kind)
{
	int fds[2] = {-1, -1};

	switch (kind % KINDS) {
	case 0:
		return memfd_create("fuzz", MFD_CLOEXEC);
	case 1:
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	case 2:
		return open("/", O_PATH | O_CLOEXEC);
	case 3:
		return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case 4:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case 5:
		FUZZ_CHECK(pipe2(fds, O_CLOEXEC) == 0);
		break;
	case 6:
		fuzz_pair(fds);
		break;
	default:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(fds[1]);
	return fds[0];
}

static struct {
	unsigned char truth[DESCRIPTION_SIZE];
	unsigned char said[DESCRIPTION_SIZE + NAME_MAX_SIZE];
	size_t said_length;
	size_t fd_count;
	bool received;
} story;

/* The library has accepted the descriptor: the description that was sent must agree with the true
 * one. Only a coarse description may have another kind. */
static void check_taken(struct ferry_descriptor *descriptor)
{
	struct description said, truth;
	const char *name;
	size_t length;

	FUZZ_CHECK(story.fd_count == 1 && fcntl(ferry_descriptor_get_fd(descriptor), F_GETFD) >= 0);
	FUZZ_CHECK(description_get(story.truth, DESCRIPTION_SIZE, &truth, &name, &length) == NULL);
	FUZZ_CHECK(description_get(story.said, story.said_length, &said, &name, &length) == NULL);
	FUZZ_CHECK(strlen(ferry_descriptor_get_name(descriptor)) == length);
	FUZZ_CHECK(memcmp(ferry_descriptor_get_name(descriptor), name, length) == 0);
	FUZZ_CHECK(said.identity == truth.identity && said.device == truth.device);
	FUZZ_CHECK(said.access == truth.access && said.type == truth.type);
	FUZZ_CHECK(said.kind == truth.kind || (said.flags & DESCRIPTION_COARSE) != 0);
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream, (void)context;
	struct ferry_descriptor *descriptor = NULL;
	bool is_true = memcmp(story.said, story.truth, DESCRIPTION_SIZE) == 0 &&
	               story.said_length == DESCRIPTION_SIZE && story.fd_count == 1;

	FUZZ_CHECK(!story.received);
	story.received = true;
	int status = ferry_descriptor_receive(&descriptor, message);
	FUZZ_CHECK(status == 0 || (!is_true && descriptor == NULL));
	FUZZ_CHECK(status == 0 || status == -EPROTO || status == -EBADMSG);
	for (size_t i = 0; i < story.fd_count; i++)
		FUZZ_CHECK(ferry_message_get_fd(message, i) == -ENOENT);
	if (status == 0)
		check_taken(descriptor);
	ferry_descriptor_free(descriptor);
}

static const struct ferry_message_callbacks callbacks = {.message_received = message_received};

/* Writes the true description with some bytes changed, and then a name. Each pair of input bytes is
 * a position and the value to add there. */
static void tell(struct fuzz_input *input, int fd)
{
	struct ferry_descriptor_info info;
	struct description description;

	FUZZ_CHECK(ferry_descriptor_inspect(fd, &info) == 0);
	description_make(&description, &info, false);
	description_put(story.truth, &description, 0);
	for (unsigned int changes = fuzz_byte(input) % 4; changes > 0; changes--) {
		size_t at = fuzz_byte(input) % DESCRIPTION_SIZE;
		story.said[at] = (unsigned char)(story.said[at] + fuzz_byte(input));
	}
	size_t length = NAME_MAX_SIZE;
	const uint8_t *name = fuzz_bytes(input, &length);
	for (size_t i = 0; i < DESCRIPTION_SIZE; i++)
		story.said[i] = (unsigned char)(story.said[i] + story.truth[i]);
	story.said[10] = (unsigned char)(story.said[10] + length);
	memcpy(story.said + DESCRIPTION_SIZE, name, length);
	story.said_length = DESCRIPTION_SIZE + length;
}

static void receive(struct fuzz_input *input)
{
	struct ferry_message_stream *stream = NULL;
	unsigned int kind = fuzz_byte(input);
	int ends[2], fd = make_fd(kind);

	FUZZ_CHECK(fd >= 0);
	fuzz_pair(ends);
	memset(&story, 0, sizeof(story));
	FUZZ_CHECK(ferry_message_stream_new(&stream, fuzz_transport(ends[0]), &callbacks, NULL) == 0);
	tell(input, fd);
	story.fd_count = (kind >> 4) % 4 == 3 ? kind >> 6 & 3 : 1;
	const int fds[] = {fd, fd, fd};
	FUZZ_CHECK(fuzz_send_message(ends[1], 0, story.said, story.said_length,
	                             (unsigned int)story.fd_count, fds, story.fd_count));
	close(fd);
	fuzz_until(&story.received);
	close(ends[1]);
	ferry_message_stream_free(stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};

	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	if (fuzz_byte(&input) % 2 == 0)
		take_apart(input.at, input.left);
	else
		receive(&input);
	fuzz_end();
	return 0;
}
