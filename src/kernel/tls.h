#ifndef FERRY_KERNEL_TLS_H
#define FERRY_KERNEL_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/*
 * TLS in the kernel: a TCP socket whose keys somebody has given to the kernel after the handshake. The kernel encrypts
 * and decrypts the records; the messages of TLS itself (alerts, and those of a handshake) are left to the process.
 * Linux 4.17 is the first that has both directions.
 */

/* In the numbers of <linux/tls.h>. */
struct tls_keys {
	uint16_t version; /* 0x0303: TLS 1.2; 0x0304: TLS 1.3; 0: there are no keys */
	uint16_t cipher;  /* TLS_CIPHER_AES_GCM_128 and its like */
};

/* Asks for the keys of a TCP socket. One system call if the kernel's TLS has never been switched on for it.
 *   1            keys for both directions
 *   0            none
 *   -EPROTOTYPE  keys for one direction: in the other the socket has ciphertext */
int tls_examine(int fd, struct tls_keys *keys);

/* The incoming records that are no data. All zero at first. */
struct tls_records {
	bool ended;             /* close_notify has come: nothing follows */
	bool truncation_is_end; /* the end without close_notify is one too */
	int error;              /* -ECONNABORTED, -EKEYEXPIRED, -EPROTO: nothing more is taken */
	unsigned char level;    /* of an alert whose second byte has not come */
	bool has_level;
	unsigned char header[4]; /* of a handshake message */
	unsigned char header_length;
	uint32_t body_left; /* bytes of that message which have not come */
	uint64_t ignored;   /* pieces of records that have ended nothing */
};

/* Takes the next bytes of a record of this type, which is not that of data. Returns 0, or what `error` then is:
 *   -ECONNABORTED  a fatal alert
 *   -EKEYEXPIRED   a KeyUpdate: the peer's next records need other keys
 *   -EPROTO        a renegotiation, or what TLS does not have
 * A NewSessionTicket and a warning change nothing. */
int tls_take(struct tls_records *records, unsigned char type, const unsigned char *bytes,
             size_t length);

/* Reads data, as recvmsg(2) with MSG_DONTWAIT, and takes the records before it that are none; more than a few of these
 * are -EAGAIN, and the socket stays readable.
 *   > 0  the number of bytes of data
 *   0    the end: close_notify
 *   < 0  those of tls_take(); -EPROTO also for an end without close_notify; another error of recvmsg(2) */
ssize_t tls_receive(int fd, struct iovec *vectors, int count, struct tls_records *records);

/* Whether data is next, behind records that are none, which it takes. FIONREAD does not count what the kernel has
 * decrypted. */
bool tls_has_data(int fd, struct tls_records *records);

/* What the end of the stream is now that no data is left: 0, or a negative errno of tls_receive(). */
int tls_end(const struct tls_records *records);

/* Sends the alert close_notify. 0: TCP has it, and all that was sent before. -EAGAIN: call again when the socket is
 * writable. Another negative errno of sendmsg(2). */
int tls_send_close_notify(int fd);

/* Sends the record that the kernel has begun and keeps open for more bytes, as after sendfile(2) of a file that ends
 * early. 0 or a negative errno; -EAGAIN: call again when the socket is writable. */
int tls_push(int fd);

#endif
