#include "tls_pair.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "support.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

void use_tls_keys(int fd, int direction, uint16_t version)
{
	struct tls12_crypto_info_aes_gcm_128 keys = {
	    .info = {.version = version, .cipher_type = TLS_CIPHER_AES_GCM_128},
	    .iv = "iv of 8",
	    .key = "a key of sixteen",
	    .salt = "salt",
	};

	ck_assert_int_eq(setsockopt(fd, SOL_TLS, direction, &keys, sizeof(keys)), 0);
}

const char *make_tls_pair(int fds[2], uint16_t version)
{
	make_pair(PAIR_TCP, fds);
	for (int i = 0; i < 2; i++)
		if (setsockopt(fds[i], IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0)
			return errno == ENOENT ? "this kernel has no TLS, or has not loaded it"
			                       : strerror(errno);
	for (int i = 0; i < 2; i++) {
		use_tls_keys(fds[i], TLS_TX, version);
		use_tls_keys(fds[i], TLS_RX, version);
	}
	return NULL;
}

ssize_t tls_send(int fd, unsigned char type, const void *bytes, size_t length)
{
	union {
		struct cmsghdr align;
		unsigned char bytes[CMSG_SPACE(1)];
	} room = {.align = {.cmsg_level = SOL_TLS, .cmsg_type = TLS_SET_RECORD_TYPE}};
	struct iovec vector = {(void *)(uintptr_t)bytes, length};
	struct msghdr message = {
	    .msg_iov = &vector,
	    .msg_iovlen = 1,
	    .msg_control = &room,
	    .msg_controllen = sizeof(room),
	};

	room.align.cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(&room.align) = type;
	ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
	return sent < 0 ? -errno : sent;
}

void tls_put(int fd, unsigned char type, const void *bytes, size_t length)
{
	ck_assert_int_eq(tls_send(fd, type, bytes, length), (ssize_t)length);
}

ssize_t tls_get(int fd, void *bytes, size_t size, unsigned char *type)
{
	union {
		struct cmsghdr align;
		unsigned char bytes[CMSG_SPACE(1)];
	} room;
	struct iovec vector = {bytes, size};
	struct msghdr message = {
	    .msg_iov = &vector,
	    .msg_iovlen = 1,
	    .msg_control = &room,
	    .msg_controllen = sizeof(room),
	};
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
	const struct cmsghdr *header = length >= 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*type = header != NULL && header->cmsg_level == SOL_TLS ? *CMSG_DATA(header) : 0;
	return length < 0 ? -errno : length;
}
