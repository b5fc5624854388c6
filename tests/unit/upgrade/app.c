#include "app.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "support.h"

static char *successor_argv[3];

static void strike_hook(struct app *app, const char *name)
{
	if (app->hook != NULL)
		app->hook(name);
}

/* ---- serving ---- */

static void lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_transport_free(transport);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	static const struct ferry_protocol protocol = {.connection_lost = lost};
	(void)listener;
	const struct app *app = context;
	char line[128];
	const char *state = ferry_upgrade_get_state(app->upgrade, NULL);
	ferry_transport_set_protocol(transport, &protocol, NULL);
	int length =
	    snprintf(line, sizeof(line), "%lu %ld %.40s\n", ferry_upgrade_get_generation(app->upgrade),
	             (long)getpid(), state[0] != '\0' ? state : "-");
	ferry_transport_write(transport, line, (size_t)length);
	ferry_transport_lose_connection(transport);
}

static int listen_www(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 128) < 0)
		abort();
	return fd;
}

static void add_www(struct ferry_socket_set *set)
{
	int fd = listen_www();
	if (ferry_socket_set_add(set, "www", fd, FERRY_FD_TAKE) != 0)
		close(fd);
}

/* ---- the behaviours of a broken successor ---- */

static bool is(const struct app *app, const char *behaviour)
{
	return app->behaviour != NULL && strcmp(app->behaviour, behaviour) == 0;
}

static void misbehave_at_the_start(const char *behaviour)
{
	struct rlimit few = {.rlim_cur = 8, .rlim_max = 8};
	if (strcmp(behaviour, "exits") == 0)
		exit(0);
	if (strcmp(behaviour, "complains") == 0) {
		fputs("app.conf:3: no such word\n", stderr);
		exit(2);
	}
	if (strcmp(behaviour, "talks") == 0) {
		for (int i = 0; i < 20000; i++)
			fprintf(stderr, "line %d\n", i);
		exit(3);
	}
	if (strcmp(behaviour, "aborts") == 0)
		abort();
	if (strcmp(behaviour, "hangs") == 0)
		pause();
	if (strcmp(behaviour, "stops") == 0)
		raise(SIGSTOP);
	if (strcmp(behaviour, "closes") == 0) {
		close(3);
		pause();
	}
	if (strcmp(behaviour, "babbles") == 0) {
		(void)!write(3, "GET / HTTP/1.0\r\n\r\n", 18);
		pause();
	}
	if (strcmp(behaviour, "starves") == 0)
		setrlimit(RLIMIT_NOFILE, &few);
}

/* ---- the callbacks ---- */

static void on_started(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
{
	struct app *app = context;
	app->started++;
	if (is(app, "dies with the sockets"))
		raise(SIGKILL);
	if (is(app, "is never ready"))
		return;
	if (ferry_socket_set_find(set, "www") < 0)
		add_www(set);
	ferry_listener_new_fd(&app->www, app->base, ferry_socket_set_find(set, "www"), accepted, app);
	strike_hook(app, "started");
	if (app->upgrade == NULL || ferry_upgrade_ready(upgrade) != 0)
		return;
	if (is(app, "dies before its commit leaves"))
		raise(SIGKILL);
}

static void on_serving(struct ferry_upgrade *upgrade, void *context)
{
	(void)upgrade;
	struct app *app = context;
	app->serving++;
	if (is(app, "leaves"))
		event_base_loopbreak(app->base);
	strike_hook(app, "serving");
}

static void on_rejected(struct ferry_upgrade *upgrade, int status, void *context)
{
	(void)upgrade;
	struct app *app = context;
	app->rejected++;
	app->rejection = status;
	if (app->behaviour != NULL && app->hook == NULL && app->predecessor == NULL)
		exit(4);
	strike_hook(app, "rejected");
}

static void on_connection(struct ferry_upgrade *upgrade, struct ferry_handoff *handoff,
                          void *context)
{
	struct app *app = context;
	struct ferry_handoff_info info;
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	ferry_handoff_get_info(handoff, &info);
	dprintf(ferry_handoff_get_fd(handoff), "moved %lu %s %.*s\n",
	        ferry_upgrade_get_generation(upgrade), info.name, (int)length, (const char *)blob);
	app->moved[app->moved_count++] = handoff;
	strike_hook(app, "connection_received");
}

static void on_state_requested(struct ferry_upgrade *upgrade, struct evbuffer *state, void *context)
{
	struct app *app = context;
	evbuffer_add_printf(state, "after-%lu", ferry_upgrade_get_generation(upgrade));
	evbuffer_add(state, "", 1);
	for (size_t i = 0; i < app->state_size; i++)
		evbuffer_add(state, "x", 1);
	strike_hook(app, "state_requested");
}

static void on_failed(struct ferry_upgrade *upgrade, const struct ferry_upgrade_failure *failure,
                      void *context)
{
	(void)upgrade;
	struct app *app = context;
	app->failure = *failure;
	app->failure.output = NULL;
	snprintf(app->output, sizeof(app->output), "%s", failure->output);
	app->failed++;
	strike_hook(app, "failed");
}

static void on_replaced(struct ferry_upgrade *upgrade, void *context)
{
	struct app *app = context;
	app->replaced++;
	ferry_listener_free(app->www);
	app->www = NULL;
	for (size_t i = 0; i < app->moved_count; i++)
		if (ferry_upgrade_give(upgrade, app->moved[i]) < 0)
			ferry_handoff_free(app->moved[i]);
	app->moved_count = 0;
	if (app->behaviour != NULL && app->hook == NULL && getenv("APP_STAYS") == NULL)
		ferry_upgrade_finish(upgrade);
	strike_hook(app, "replaced");
}

static void on_finished(struct ferry_upgrade *upgrade, void *context)
{
	(void)upgrade;
	struct app *app = context;
	app->finished++;
	event_base_loopbreak(app->base);
	strike_hook(app, "finished");
}

static void on_signal(struct ferry_upgrade *upgrade, int signal_number, void *context)
{
	(void)upgrade;
	struct app *app = context;
	app->signalled++;
	app->last_signal = signal_number;
	if (signal_number == SIGTERM)
		event_base_loopbreak(app->base);
	strike_hook(app, "signalled");
}

static const struct ferry_upgrade_callbacks callbacks = {.started = on_started,
                                                         .serving = on_serving,
                                                         .rejected = on_rejected,
                                                         .connection_received = on_connection,
                                                         .state_requested = on_state_requested,
                                                         .failed = on_failed,
                                                         .replaced = on_replaced,
                                                         .finished = on_finished,
                                                         .signalled = on_signal};

/* ---- its life ---- */

int app_new(struct app *app, const char *behaviour)
{
	static char program[512];
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	program[length] = '\0';
	successor_argv[0] = program;
	successor_argv[1] = (char *)(uintptr_t)behaviour;
	struct ferry_upgrade_options options = {.size = sizeof(options),
	                                        .argv = app->no_arguments ? NULL : successor_argv,
	                                        .program = app->program,
	                                        .predecessor = app->predecessor,
	                                        .timeout = app->timeout,
	                                        .probation = app->probation,
	                                        .service_manager = app->manager};
	return ferry_upgrade_new(&app->upgrade, app->base, &options, &callbacks, app);
}

void app_begin(struct app *app, const char *behaviour)
{
	app->base = base;
	if (app->probation.tv_sec == 0)
		app->probation.tv_usec = 10000;
	ck_assert_int_eq(ferry_service_manager_new(&app->manager, base, false), 0);
	ck_assert_int_eq(app_new(app, behaviour), 0);
	pump_until_count(&app->serving, 1);
}

static void free_app(struct app *app)
{
	ferry_listener_free(app->www);
	for (size_t i = 0; i < app->moved_count; i++)
		ferry_handoff_free(app->moved[i]);
	ferry_upgrade_free(app->upgrade);
	ferry_service_manager_free(app->manager);
}

void app_end(struct app *app)
{
	free_app(app);
	pump_turns(3);
}

void app_become_successor(int argc, char **argv)
{
	static struct app app;
	if (argc < 2)
		return;
	misbehave_at_the_start(argv[1]);
	app.behaviour = argv[1];
	app.base = event_base_new();
	if (ferry_service_manager_new(&app.manager, app.base, true) != 0 || app_new(&app, argv[1]) != 0)
		exit(5);
	ferry_upgrade_watch_signals(app.upgrade);
	event_base_dispatch(app.base);
	free_app(&app);
	for (int i = 0; i < 3; i++)
		event_base_loop(app.base, EVLOOP_NONBLOCK);
	event_base_free(app.base);
	exit(0);
}

/* ---- its clients ---- */

int app_port(const struct app *app)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int fd = ferry_socket_set_find(ferry_upgrade_get_set(app->upgrade), "www");
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	return ntohs(address.sin_port);
}

struct reading {
	int fd;
	char *line;
	size_t length, size;
	bool complete, ended;
};

static bool line_is_there(void *argument)
{
	struct reading *reading = argument;
	ssize_t n;
	if (reading->complete || reading->ended)
		return true;
	while ((n = recv(reading->fd, reading->line + reading->length, 1, MSG_DONTWAIT)) == 1) {
		if (reading->line[reading->length] == '\n') {
			reading->line[reading->length] = '\0';
			reading->complete = true;
			return true;
		}
		ck_assert_uint_lt(++reading->length, reading->size);
	}
	reading->ended = n == 0 || errno != EAGAIN;
	return reading->ended;
}

/* A timer, so that the loop turns although its next event may be another process's. */
static void on_tick(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

bool app_read_line(int fd, char *line, size_t size)
{
	static const struct timeval interval = {.tv_usec = 2000};
	struct reading reading = {.fd = fd, .size = size};
	reading.line = line;
	struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
	event_add(tick, &interval);
	pump_until(line_is_there, &reading);
	event_free(tick);
	return !reading.ended;
}

void app_ask(int port, char *line, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_port = htons((uint16_t)port),
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_msg(app_read_line(fd, line, size), "reset");
	close(fd);
}

unsigned long app_ask_generation(int port)
{
	char line[128];
	app_ask(port, line, sizeof(line));
	return strtoul(line, NULL, 10);
}

pid_t app_ask_pid(int port)
{
	char line[128];
	app_ask(port, line, sizeof(line));
	return (pid_t)strtol(strchr(line, ' '), NULL, 10);
}

static bool has_ended(void *argument)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)*(pid_t *)argument);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true;
	(void)!read(fd, text, sizeof(text) - 1);
	close(fd);
	return strstr(text, ") Z ") != NULL;
}

void app_kill(int port, int signal_number)
{
	static const struct timeval interval = {.tv_usec = 2000};
	pid_t pid = app_ask_pid(port);
	ck_assert_int_ne(pid, getpid());
	kill(pid, signal_number);
	struct event *tick = event_new(base, -1, EV_PERSIST, on_tick, NULL);
	event_add(tick, &interval);
	pump_until(has_ended, &pid);
	event_free(tick);
}
