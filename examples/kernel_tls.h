/* Gives the kernel the keys of a connection whose handshake OpenSSL has made: both directions, TLS 1.2 and 1.3. To copy
 * into a server; tls_handoff.c and tls_passthrough.c include it.
 *
 * OpenSSL gives them itself (SSL_OP_ENABLE_KTLS), but for the receiving key of TLS 1.3, which it gives since 3.2. Before,
 * that key is derived here from the client's traffic secret (RFC 8446, section 7.3), which OpenSSL passes to the callback
 * for key logs. No record of the client has been read with it, directly after the handshake: its number is 0. */
#ifndef KERNEL_TLS_H
#define KERNEL_TLS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

/* Of the client, for its application data. It must live as long as the SSL object. */
struct kernel_tls_secret {
	unsigned char bytes[EVP_MAX_MD_SIZE];
	size_t length; /* 0: none yet */
};

/* Lines are "NAME client-random secret", both in hexadecimal digits. */
static inline void kernel_tls_keep_secret(const SSL *ssl, const char *line)
{
	static const char name[] = "CLIENT_TRAFFIC_SECRET_0 ";
	struct kernel_tls_secret *secret = SSL_get_app_data(ssl);
	if (secret != NULL && strncmp(line, name, sizeof(name) - 1) == 0)
		OPENSSL_hexstr2buf_ex(secret->bytes, sizeof(secret->bytes), &secret->length,
		                      strrchr(line, ' ') + 1, '\0');
}

/* NULL: the files are no certificate with its key. */
static inline SSL_CTX *kernel_tls_context(const char *certificate, const char *key)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_options(context, SSL_OP_ENABLE_KTLS | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_keylog_callback(context, kernel_tls_keep_secret);
	return context;
}

/* HKDF-Expand-Label without a context, for results that are no longer than the hash. */
static inline void kernel_tls_expand(const EVP_MD *hash, const struct kernel_tls_secret *secret,
                                     const char *label, unsigned char *out, size_t length)
{
	unsigned char info[32] = {0, (unsigned char)length}, block[EVP_MAX_MD_SIZE];
	int end = 3 + snprintf((char *)info + 3, sizeof(info) - 5, "tls13 %s", label);
	info[2] = (unsigned char)(end - 3);
	info[end + 1] = 1; /* the number of the block, behind the length of the context: 0 */
	HMAC(hash, secret->bytes, (int)secret->length, info, (size_t)end + 2, block, NULL);
	memcpy(out, block, length);
	OPENSSL_cleanse(block, sizeof(block));
}

/* The receiving key of TLS 1.3, in the layout that all structures of <linux/tls.h> have: version and cipher, vector, key,
 * salt, and the number of the first record. */
static inline int kernel_tls_set_receiving_key(const SSL *ssl, int fd)
{
	static const struct {
		unsigned int suite;
		unsigned short type;
		size_t salt, key; /* lengths */
	} ciphers[] = {{0x1301, TLS_CIPHER_AES_GCM_128, 4, 16},
	               {0x1302, TLS_CIPHER_AES_GCM_256, 4, 32},
	               {0x1303, TLS_CIPHER_CHACHA20_POLY1305, 0, 32}};
	const struct kernel_tls_secret *secret = SSL_get_app_data(ssl);
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	const EVP_MD *hash = SSL_CIPHER_get_handshake_digest(cipher);
	size_t i = 0;
	while (i < 3 && ciphers[i].suite != SSL_CIPHER_get_protocol_id(cipher))
		i++;
	if (i == 3 || secret->length == 0)
		return -EPROTOTYPE;
	struct tls_crypto_info info = {.version = TLS_1_3_VERSION, .cipher_type = ciphers[i].type};
	unsigned char nonce[12], keys[64] = {0}, *at = keys;
	memcpy(at, &info, sizeof(info));
	at += sizeof(info);
	kernel_tls_expand(hash, secret, "iv", nonce, sizeof(nonce));
	memcpy(at, nonce + ciphers[i].salt, sizeof(nonce) - ciphers[i].salt);
	at += sizeof(nonce) - ciphers[i].salt;
	kernel_tls_expand(hash, secret, "key", at, ciphers[i].key);
	at += ciphers[i].key;
	memcpy(at, nonce, ciphers[i].salt);
	at += ciphers[i].salt + 8;
	int status = setsockopt(fd, 282 /* SOL_TLS */, TLS_RX, keys, (socklen_t)(at - keys));
	status = status < 0 ? -errno : 0;
	OPENSSL_cleanse(keys, sizeof(keys));
	return status;
}

static inline int kernel_tls_give_keys(const SSL *ssl, int fd)
{
	if (!BIO_get_ktls_send(SSL_get_wbio(ssl)) || SSL_has_pending(ssl))
		return -EPROTOTYPE;
	if (BIO_get_ktls_recv(SSL_get_rbio(ssl)))
		return 0;
	return SSL_version(ssl) == TLS1_3_VERSION ? kernel_tls_set_receiving_key(ssl, fd) : -EPROTOTYPE;
}

/* From the bytes that were read before, and when OpenSSL needs more, from the socket. */
static inline bool kernel_tls_shake(SSL *ssl, int fd, const void *bytes, size_t length)
{
	BIO *socket = BIO_new_socket(fd, BIO_NOCLOSE), *memory = BIO_new(BIO_s_mem());
	if (socket == NULL || memory == NULL ||
	    (length > 0 && BIO_write(memory, bytes, (int)length) != (int)length)) {
		BIO_free(socket);
		BIO_free(memory);
		return false;
	}
	BIO_set_mem_eof_return(memory, -1); /* its end is no end of the connection */
	SSL_set0_rbio(ssl, memory);
	SSL_set0_wbio(ssl, socket);
	int result = SSL_accept(ssl);
	if (SSL_get_error(ssl, result) != SSL_ERROR_WANT_READ || BIO_pending(memory) > 0)
		return false;
	BIO_up_ref(socket);
	SSL_set0_rbio(ssl, socket);
	return SSL_accept(ssl) == 1;
}

/* Makes the handshake on a socket from which `length` bytes were read before, and gives the keys to the kernel. It
 * blocks until the client has answered: a server makes handshakes from the loop, with a deadline. The SSL is freed
 * without a shutdown, which would send close_notify.
 *
 * 0. -ECONNABORTED: the handshake has failed. -EPROTOTYPE, or the errno of setsockopt(2): the kernel has not both keys; a
 * server would go on with the SSL. -ENOMEM. */
static inline int kernel_tls_accept(SSL_CTX *context, int fd, const void *bytes, size_t length)
{
	struct kernel_tls_secret secret = {.length = 0};
	SSL *ssl = SSL_new(context);
	int status = -ECONNABORTED;
	if (ssl == NULL)
		return -ENOMEM;
	fcntl(fd, F_SETFL, 0);
	SSL_set_app_data(ssl, &secret);
	if (kernel_tls_shake(ssl, fd, bytes, length))
		status = kernel_tls_give_keys(ssl, fd);
	SSL_free(ssl);
	OPENSSL_cleanse(&secret, sizeof(secret));
	return status;
}

#endif
