#ifndef FERRY_PROGRAMS_FERRY_WORKER_TLS_CONTEXT_H
#define FERRY_PROGRAMS_FERRY_WORKER_TLS_CONTEXT_H

/* The certificate and the key of the worker, and what is the same for all its TLS connections: TLS 1.2 or 1.3, HTTP/1.1 by
 * ALPN, no renegotiation, and no sessions. A client would come back to another worker process, which has other ticket
 * keys.
 *
 * Where the kernel has TLS, OpenSSL gives it the keys after the handshake, and files are sent by sendfile(2). */

#include <openssl/ssl.h>

struct tls_context;

/* Reads a chain of certificates and its key, both in PEM. 0, or -EINVAL, -ENOMEM or the errno of open(2); a message has
 * been printed. The paths are not copied. */
int tls_context_new(struct tls_context **out, const char *certificate, const char *key);

/* Reads both files anew, for the connections from now on. If it fails, the former ones stay. Prints the result. */
void tls_context_reload(struct tls_context *context);

/* The server's side of a connection. NULL: no memory. */
SSL *tls_context_accept(const struct tls_context *context);

/* The newest error of OpenSSL as a text of a static buffer, and forgets all. */
const char *tls_context_error(void);

/* NULL: does nothing. */
void tls_context_free(struct tls_context *context);

#endif
