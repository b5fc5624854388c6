#include "programs/ferry-worker/tls_context.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>

struct tls_context {
	const char *certificate;
	const char *key;
	SSL_CTX *openssl;
};

const char *tls_context_error(void)
{
	unsigned long error = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(error);
	ERR_clear_error();
	if (reason == NULL)
		reason = error != 0 ? "an error without a text" : "no reason";
	return reason;
}

/* HTTP/1.1, or the client does without ALPN: RFC 7301, section 3.2. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *offered, unsigned int length, void *context)
{
	static const unsigned char known[] = "\x08http/1.1\x08http/1.0";
	(void)ssl, (void)context;
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, out_length, known, sizeof(known) - 1, offered, length) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void set_rules(SSL_CTX *openssl)
{
	SSL_CTX_set_min_proto_version(openssl, TLS1_2_VERSION);
	SSL_CTX_set_options(openssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
	                                 SSL_OP_NO_TICKET | SSL_OP_ENABLE_KTLS |
	                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_num_tickets(openssl, 0);
	SSL_CTX_set_session_cache_mode(openssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(openssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                              SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(openssl, choose_protocol, NULL);
}

/* OpenSSL's own message has no path, and it would wait for the writer of a FIFO. */
static int check_readable(const char *option, const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &status) < 0) {
		int error = errno;
		program_log("%s %s: %s", option, path, strerror(error));
		if (fd >= 0)
			close(fd);
		return -error;
	}
	close(fd);
	if (S_ISREG(status.st_mode))
		return 0;
	program_log("%s %s: it is not a regular file", option, path);
	return -EINVAL;
}

/* The worker has no terminal on which it could ask. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's */
static int refuse_passphrase(char *out, int size, int writing, void *wanted)
{
	(void)out, (void)size, (void)writing;
	*(bool *)wanted = true;
	return -1;
}

static int read_key(SSL_CTX *openssl, const char *path)
{
	bool passphrase = false;
	SSL_CTX_set_default_passwd_cb(openssl, refuse_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(openssl, &passphrase);
	bool read = SSL_CTX_use_PrivateKey_file(openssl, path, SSL_FILETYPE_PEM) == 1 &&
	            SSL_CTX_check_private_key(openssl) == 1;
	SSL_CTX_set_default_passwd_cb(openssl, NULL);
	SSL_CTX_set_default_passwd_cb_userdata(openssl, NULL);
	if (read)
		return 0;
	int reason = ERR_GET_REASON(ERR_peek_last_error());
	const char *error = tls_context_error();
	if (passphrase)
		error = "it has a passphrase, and the worker cannot ask for one";
	else if (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH)
		error = "it is not the key of the first certificate in --tls-certificate";
	program_log("--tls-key %s: %s", path, error);
	return -EINVAL;
}

static int read_files(SSL_CTX *openssl, const char *certificate, const char *key)
{
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(openssl, certificate) != 1) {
		program_log("--tls-certificate %s: %s", certificate, tls_context_error());
		return -EINVAL;
	}
	return read_key(openssl, key);
}

static int load(SSL_CTX **out, const char *certificate, const char *key)
{
	int status = check_readable("--tls-certificate", certificate);
	if (status == 0)
		status = check_readable("--tls-key", key);
	if (status < 0)
		return status;
	SSL_CTX *openssl = SSL_CTX_new(TLS_server_method());
	if (openssl == NULL) {
		program_log("TLS: %s", tls_context_error());
		return -ENOMEM;
	}
	set_rules(openssl);
	status = read_files(openssl, certificate, key);
	if (status < 0)
		SSL_CTX_free(openssl);
	else
		*out = openssl;
	return status;
}

int tls_context_new(struct tls_context **out, const char *certificate, const char *key)
{
	struct tls_context *context = malloc(sizeof(*context));
	if (context == NULL) {
		program_log("TLS: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	*context = (struct tls_context){.certificate = certificate, .key = key};
	int status = load(&context->openssl, certificate, key);
	if (status < 0)
		free(context);
	else
		*out = context;
	return status;
}

void tls_context_reload(struct tls_context *context)
{
	SSL_CTX *fresh = NULL;
	if (load(&fresh, context->certificate, context->key) < 0) {
		program_log("the certificate and the key stay as they were");
		return;
	}
	SSL_CTX_free(context->openssl);
	context->openssl = fresh;
	program_log("the certificate and the key are read anew");
}

SSL *tls_context_accept(const struct tls_context *context)
{
	SSL *ssl = SSL_new(context->openssl);
	if (ssl != NULL)
		SSL_set_accept_state(ssl);
	return ssl;
}

void tls_context_free(struct tls_context *context)
{
	if (context == NULL)
		return;
	SSL_CTX_free(context->openssl);
	free(context);
}
