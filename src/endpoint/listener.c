#include "endpoint/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "endpoint/acceptor.h"
#include "endpoint/address.h"
#include "endpoint/socket_file.h"
#include "ferry/listener.h"
#include "ferry/transport.h"
#include "kernel/socket.h"
#include "util/options.h"

/* A listener is a listening socket, made here or adopted, with its file and an acceptor. An adopted socket
 * stays the caller's. */

enum { MODE_DEFAULT = 0600 };

struct ferry_listener {
	int fd;
	bool adopted;
	struct socket_file file;
	struct acceptor acceptor;
};

/* ---- making ---- */

/* A listener without a socket. */
static int listener_new(struct ferry_listener **out, struct event_base *base,
                        ferry_listener_accepted_cb accepted, void *context)
{
	struct ferry_listener *listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->fd = -1;
	listener->file = SOCKET_FILE_NONE;
	listener->acceptor.listener = listener;
	listener->acceptor.base = base;
	listener->acceptor.accepted = accepted;
	listener->acceptor.context = context;
	roster_init(&listener->acceptor.roster);
	*out = listener;
	return 0;
}

static int bind_abstract(int fd, const char *name)
{
	struct address address;
	const int status = address_from_string(&address, name);

	return status == 0 ? address_bind(&address, fd) : status;
}

static int open_socket(struct ferry_listener *listener, const char *path,
                       const struct ferry_listener_options *options)
{
	const struct socket_file_access access = {options->mode, options->owner, options->group};

	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;

	int status;
	if (address_is_abstract(path))
		status = bind_abstract(listener->fd, path);
	else
		status = socket_file_bind(&listener->file, listener->fd, path, &access, options->lock);
	if (status == 0 && listen(listener->fd, options->backlog) < 0)
		status = -errno;
	return status;
}

/* Checks the options and fills in the defaults. */
static int complete_options(struct ferry_listener_options *out,
                            const struct ferry_listener_options *options)
{
	static const struct ferry_listener_options defaults = FERRY_LISTENER_OPTIONS_INIT;

	if (options == NULL)
		options = &defaults;
	if (!options_fit(options, sizeof(*options)) || (options->mode & ~(mode_t)0777) != 0 ||
	    options->backlog < 0)
		return -EINVAL;

	*out = *options;
	if (out->mode == 0)
		out->mode = MODE_DEFAULT;
	if (out->backlog == 0)
		out->backlog = SOMAXCONN;
	return 0;
}

int ferry_listener_new_unix(struct ferry_listener **out, struct event_base *base, const char *path,
                            const struct ferry_listener_options *options,
                            ferry_listener_accepted_cb accepted, void *context)
{
	struct ferry_listener_options complete;
	struct ferry_listener *listener = NULL;

	if (out == NULL || base == NULL || path == NULL || path[0] == '\0')
		return -EINVAL;

	int status = complete_options(&complete, options);
	if (status == 0)
		status = listener_new(&listener, base, accepted, context);
	if (status == 0)
		status = open_socket(listener, path, &complete);
	if (status == 0 && accepted != NULL)
		status = acceptor_start(&listener->acceptor, listener->fd);

	if (status == 0)
		*out = listener;
	else
		ferry_listener_free(listener);
	return status;
}

/* Whether connections can be accepted on a socket that the caller has made. */
static int check_adoptable(int fd)
{
	const int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	const int type = socket_get_type(fd);
	if (type < 0)
		return type;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	const int listening = socket_is_listening(fd);
	if (listening < 0)
		return listening;
	return listening != 0 && (flags & O_NONBLOCK) != 0 ? 0 : -EINVAL;
}

int ferry_listener_new_fd(struct ferry_listener **out, struct event_base *base, int fd,
                          ferry_listener_accepted_cb accepted, void *context)
{
	struct ferry_listener *listener = NULL;

	if (out == NULL || base == NULL || accepted == NULL)
		return -EINVAL;

	int status = check_adoptable(fd);
	if (status == 0)
		status = listener_new(&listener, base, accepted, context);
	if (status == 0) {
		listener->fd = fd;
		listener->adopted = true;
		status = acceptor_start(&listener->acceptor, fd);
	}

	if (status == 0)
		*out = listener;
	else
		ferry_listener_free(listener);
	return status;
}

/* ---- accepting ---- */

int ferry_listener_disable(struct ferry_listener *listener)
{
	if (listener == NULL)
		return -EINVAL;
	acceptor_stop(&listener->acceptor);
	return 0;
}

int ferry_listener_enable(struct ferry_listener *listener)
{
	if (listener == NULL)
		return -EINVAL;
	if (listener->acceptor.accepted == NULL)
		return -EOPNOTSUPP;
	return acceptor_start(&listener->acceptor, listener->fd);
}

int ferry_listener_get_fd(const struct ferry_listener *listener)
{
	return listener != NULL ? listener->fd : -EINVAL;
}

int ferry_listener_get_stats(const struct ferry_listener *listener,
                             struct ferry_listener_stats *stats)
{
	if (listener == NULL || stats == NULL)
		return -EINVAL;
	*stats = listener->acceptor.stats;
	stats->transports = listener->acceptor.roster.count;
	return 0;
}

/* ---- the transports ---- */

int ferry_listener_for_each_transport(struct ferry_listener *listener,
                                      ferry_listener_transport_cb callback, void *context)
{
	struct ferry_transport *transport;
	struct roster_walk walk;
	int count = 0;

	if (listener == NULL || callback == NULL)
		return -EINVAL;
	roster_walk_begin(&walk, &listener->acceptor.roster);
	while ((transport = roster_walk_next(&walk)) != NULL) {
		callback(listener, transport, context);
		count++;
	}
	return count;
}

struct ending {
	int (*end)(struct ferry_transport *transport);
	int count;
};

static void end_connection(struct ferry_listener *listener, struct ferry_transport *transport,
                           void *context)
{
	struct ending *ending = context;
	(void)listener;

	if (ending->end(transport) == 0)
		ending->count++;
}

static int end_connections(struct ferry_listener *listener,
                           int (*end)(struct ferry_transport *transport))
{
	struct ending ending = {.end = end};
	const int status = ferry_listener_for_each_transport(listener, end_connection, &ending);

	return status < 0 ? status : ending.count;
}

int ferry_listener_lose_connections(struct ferry_listener *listener)
{
	return end_connections(listener, ferry_transport_lose_connection);
}

int ferry_listener_abort_connections(struct ferry_listener *listener)
{
	return end_connections(listener, ferry_transport_abort_connection);
}

/* ---- rules about clients ---- */

/* Only unix sockets have the credentials of the other end, and pass descriptors. */
static int check_unix(const struct ferry_listener *listener)
{
	if (listener == NULL)
		return -EINVAL;
	const int domain = socket_get_domain(listener->fd);
	if (domain < 0)
		return domain;
	return domain == AF_UNIX ? 0 : -EOPNOTSUPP;
}

/* A rule of a listener that accepts nothing would apply to no connection. */
static int check_accepts_unix(const struct ferry_listener *listener)
{
	const int status = check_unix(listener);
	return status == 0 && listener->acceptor.accepted == NULL ? -EOPNOTSUPP : status;
}

int ferry_listener_allow_uid(struct ferry_listener *listener, uid_t uid)
{
	const int status = uid != (uid_t)-1 ? check_accepts_unix(listener) : -EINVAL;
	return status != 0 ? status : admission_allow_uid(&listener->acceptor.admission, uid);
}

int ferry_listener_allow_gid(struct ferry_listener *listener, gid_t gid)
{
	const int status = gid != (gid_t)-1 ? check_accepts_unix(listener) : -EINVAL;
	return status != 0 ? status : admission_allow_gid(&listener->acceptor.admission, gid);
}

int ferry_listener_set_max_connections_per_uid(struct ferry_listener *listener, unsigned int max)
{
	const int status = check_accepts_unix(listener);
	return status != 0 ? status : admission_set_limit(&listener->acceptor.admission, max);
}

/* connect(2) copies the option of the listening socket to the new one, so that a client can send no descriptor
 * even before accept(2). The acceptor sets it on sockets that had connected before. */
int ferry_listener_set_pass_rights(struct ferry_listener *listener, bool pass)
{
	int status = check_unix(listener);
	if (status != 0)
		return status;

	status = socket_set_pass_rights(listener->fd, pass);
	if (status == 0)
		listener->acceptor.rights = pass ? ACCEPTOR_RIGHTS_PASSED : ACCEPTOR_RIGHTS_REFUSED;
	/* Kernels without the option always pass descriptors. */
	return status == -ENOPROTOOPT && pass ? 0 : status;
}

/* ---- the end ---- */

struct socket_file *listener_get_file(struct ferry_listener *listener)
{
	return &listener->file;
}

void ferry_listener_free(struct ferry_listener *listener)
{
	if (listener == NULL)
		return;
	acceptor_clear(&listener->acceptor);
	socket_file_remove(&listener->file);
	if (listener->fd >= 0 && !listener->adopted)
		close(listener->fd);
	free(listener);
}
