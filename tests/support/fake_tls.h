#ifndef FERRY_TESTS_FAKE_TLS_H
#define FERRY_TESTS_FAKE_TLS_H

/* TLS in the kernel on an ordinary socket of TCP, as a transport meets it: in place of getsockopt(2), recvmsg(2),
 * sendmsg(2), ioctl(2), connect(2) and setsockopt(2). What the far end puts are records in clear text; what the near
 * end sends arrives there as it is, without the records that are no data, which are counted. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_ALERT = 21, FAKE_HANDSHAKE = 22, FAKE_DATA = 23 };

enum fake_tls_keys {
	FAKE_NO_TLS = 0,   /* of a socket that is not listed */
	FAKE_WITHOUT_KEYS, /* TLS is switched on, no more */
	FAKE_KEYS          /* TLS 1.3 with AES-128-GCM */
};

struct fake_tls {
	int fd;
	enum fake_tls_keys sending, receiving;
	bool begun; /* a record is read in part */
	unsigned char type;
	size_t left;
	uint64_t sent;               /* bytes of data */
	unsigned int close_notifies; /* alerts sent */
	uint64_t sent_before_close;  /* bytes of data, when the latest was */
	unsigned int pushes;         /* control messages that only complete a record */
	bool open_record;            /* the last bytes announced more */
	int linger;                  /* SO_LINGER of no time was set */
};

/* Makes `fd` such a socket, until fake_tls_clear(). Returns what becomes of it. */
struct fake_tls *fake_tls_set(int fd, enum fake_tls_keys sending, enum fake_tls_keys receiving);

/* No socket is one. A set-up function, too. */
void fake_tls_clear(void);

/* The far end sends a record. */
void fake_tls_put(int far, unsigned char type, const void *bytes, size_t length);
void fake_tls_put_alert(int far, unsigned char level, unsigned char description);
void fake_tls_put_close_notify(int far);

/* The questions for keys so far, and the times that TCP_CORK was set, on any socket. */
unsigned int fake_tls_questions(void);
unsigned int fake_tls_corks(void);

#endif
