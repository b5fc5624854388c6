/* ferry-proxy accepts clients, reads the request head of each, and hands the open connection, with all
 * bytes that were read from it, to a worker process. Afterwards no byte of that client passes through
 * the proxy.
 *
 *     STARTING -> SERVING -> [LAME_DUCK ->] HANDING_OVER, STOPPING -> DISMISSING -> end
 *
 * STARTING: the proxy opens its sockets, or takes them over from another proxy, which serves until the
 * workers of this one are ready. LAME_DUCK: it serves on, and is not healthy, until balancers have noticed. HANDING_OVER: another proxy has taken over; clients whose head is being
 * read are still handed to workers. STOPPING: nobody listens any more; those
 * clients have a moment for the rest of their head. DISMISSING: each worker ends
 * when it has served its clients. */

#include "programs/ferry-proxy/admin.h"
#include "programs/ferry-proxy/clients.h"
#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/conf_reload.h"
#include "programs/ferry-proxy/demo.h"
#include "programs/ferry-proxy/history.h"
#include "programs/ferry-proxy/listeners.h"
#include "programs/ferry-proxy/services.h"
#include "programs/ferry-proxy/upgrade.h"
#include "programs/shared/access_log.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <ferry/ferry.h>

enum state { STARTING, SERVING, LAME_DUCK, HANDING_OVER, STOPPING, DISMISSING };

/* The interval between checks whether the proxy may proceed to the next state of its end. */
static const struct timeval closing_interval = {.tv_usec = 20000};

/* STOPPING: after this number of checks, which is three seconds, clients that wait for a worker get 503, and those
 * whose head is not complete are dropped. */
enum { CLOSING_CHECKS = 150 };

struct proxy {
	struct event_base *base;
	struct conf conf;
	char **argv;
	int own_count; /* of the arguments; the others are the workers' */
	char *const *worker_argv;
	char *worker; /* the program */
	int outcome_log;
	struct access_log access_log;
	enum state state;
	bool failed;
	unsigned int checks; /* while STOPPING, and while DISMISSING */
	struct timeval started;

	struct listeners wanted;
	struct services *services;
	struct clients *clients;
	struct admin *admin;
	struct upgrade *upgrade;
	bool takes_over; /* another proxy accepts until the workers of this one are ready */

	struct program_signals signals;
	struct event *closing;
	struct event *lame_duck;
	struct event *sampling; /* for the history */
	struct history history;
};

/* ---- the end ---- */

static void end_proxy(struct proxy *proxy, bool failed)
{
	proxy->failed = proxy->failed || failed;
	event_base_loopbreak(proxy->base);
}

static void check_again(struct proxy *proxy)
{
	if (event_add(proxy->closing, &closing_interval) < 0)
		end_proxy(proxy, true);
}

static void stop_accepting(struct proxy *proxy)
{
	clients_stop_accepting(proxy->clients);
	services_stop_listening(proxy->services);
	if (proxy->admin != NULL)
		admin_stop_accepting(proxy->admin);
}

/* The number of checks in the time that a worker has to end. */
static unsigned int drain_checks(const struct conf *conf)
{
	return (unsigned int)(conf->drain_timeout.tv_sec * 1000000 / closing_interval.tv_usec);
}

/* The workers are dismissed only when no connection waits for one. */
static void continue_closing(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct proxy *proxy = context;
	bool waiting = services_unclaimed(proxy->services) + clients_waiting(proxy->clients) > 0;
	if (proxy->state == HANDING_OVER && !waiting && clients_count(proxy->clients) == 0) {
		proxy->state = DISMISSING;
		services_retire(proxy->services);
	} else if (proxy->state == STOPPING && ((!waiting && !clients_are_reading(proxy->clients)) ||
	                                        ++proxy->checks > CLOSING_CHECKS)) {
		proxy->state = DISMISSING;
		clients_drop_readers(proxy->clients);
		services_terminate(proxy->services);
		if (waiting)
			services_give_up(proxy->services);
	} else if (proxy->state == DISMISSING && !waiting && clients_count(proxy->clients) == 0 &&
	           services_are_empty(proxy->services) && upgrade_is_settled(proxy->upgrade)) {
		end_proxy(proxy, false);
	} else if (proxy->state == DISMISSING && ++proxy->checks == drain_checks(&proxy->conf)) {
		services_dismiss_guests(proxy->services);
	}
	check_again(proxy);
}

/* Nobody can connect from this turn on: the sockets are closed, and their files are gone. Clients in the backlog are
 * accepted before, because the kernel would reset their connections. */
static void stop_serving(struct proxy *proxy)
{
	clients_accept_backlog(proxy->clients);
	stop_accepting(proxy);
	clients_hurry(proxy->clients);
	clients_close_idle(proxy->clients);
	/* Otherwise another proxy is the service. */
	if (proxy->state == SERVING || proxy->state == LAME_DUCK) {
		upgrade_notify_stopping(proxy->upgrade);
		upgrade_free(proxy->upgrade);
		proxy->upgrade = NULL;
	}
	if (proxy->state == DISMISSING)
		services_terminate(proxy->services);
	else
		proxy->state = STOPPING;
	check_again(proxy);
}

static void lame_duck_ended(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct proxy *proxy = context;
	if (proxy->state == LAME_DUCK)
		stop_serving(proxy);
}

/* After the first signal the workers finish the answers that have begun; one that comes while the proxy stops ends all
 * at once. */
static void end_requested(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct proxy *proxy = context;
	const struct timeval *lame_duck = &proxy->conf.lame_duck;
	if (proxy->state == STOPPING || proxy->state == STARTING) {
		end_proxy(proxy, false);
	} else if (proxy->state == SERVING && evutil_timerisset(lame_duck) &&
	           event_add(proxy->lame_duck, lame_duck) == 0) {
		program_log("serving for %ld more seconds", (long)lame_duck->tv_sec);
		proxy->state = LAME_DUCK;
	} else {
		stop_serving(proxy);
	}
}

/* A connection has no request under way. After a takeover the new proxy waits for the next one; without one, a proxy
 * that ends closes it. */
static void keep_idle(struct ferry_handoff *handoff, const struct client_address *address,
                      uint64_t idle_msec, void *context)
{
	struct proxy *proxy = context;
	if (upgrade_give(proxy->upgrade, handoff, address, idle_msec) == 0)
		return;
	if (proxy->state == SERVING || proxy->state == LAME_DUCK)
		clients_take_idle(proxy->clients, handoff, address, idle_msec);
	else
		ferry_handoff_free(handoff);
}

static void client_idles(struct ferry_handoff *handoff, const struct client_address *address,
                         void *context)
{
	keep_idle(handoff, address, 0, context);
}

/* Another proxy serves from now on. If that is the one which this one was to replace, this one serves the clients that it
 * has accepted, and ends. */
static void was_replaced(bool failed, void *context)
{
	struct proxy *proxy = context;
	proxy->failed = proxy->failed || failed;
	if (proxy->state == STARTING) {
		end_proxy(proxy, true);
		return;
	}
	stop_accepting(proxy);
	if (proxy->state == SERVING || proxy->state == LAME_DUCK)
		proxy->state = HANDING_OVER;
	clients_give_idle(proxy->clients, keep_idle, proxy);
	check_again(proxy);
}

/* ---- signals ---- */

/* For the workers, too, that are started from now on. Whoever starts the proxy with a real-time policy, or the idle one,
 * keeps that. Where a sandbox forbids the call, the proxy does without. */
static void set_scheduling(const struct conf *conf)
{
	int now = sched_getscheduler(0);
	if ((now == SCHED_OTHER || now == SCHED_BATCH) && now != conf->scheduling)
		(void)sched_setscheduler(0, conf->scheduling, &(struct sched_param){0});
}

/* Uses a configuration that has no error, as far as a running proxy can. */
static bool use_conf(struct proxy *proxy, struct conf *fresh)
{
	const char *obstacle = conf_reload_obstacle(&proxy->conf, fresh);
	if (obstacle != NULL) {
		program_log("the configuration stays as it was: a change of '%s' needs SIGUSR2", obstacle);
		return false;
	}
	conf_reload_exchange(&proxy->conf, fresh);
	clients_set_routes(proxy->clients, proxy->conf.routes);
	services_set_limits(proxy->services);
	set_scheduling(&proxy->conf);
	return true;
}

/* The configuration is read anew. One with an error changes nothing. */
static bool reload_conf(struct proxy *proxy)
{
	char error[CONF_ERROR_SIZE];
	struct conf fresh;
	bool done = false;
	if (conf_read(&fresh, proxy->own_count, proxy->argv, error) == SETTINGS_READ)
		done = use_conf(proxy, &fresh);
	else
		program_log("the configuration stays as it was: %s", error);
	conf_free(&fresh);
	return done;
}

static void reload_requested(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct proxy *proxy = context;
	if (proxy->state != SERVING)
		return;
	if (reload_conf(proxy)) {
		program_log("replacing the workers");
		services_replace_workers(proxy->services);
	}
	upgrade_notify_reloaded(proxy->upgrade);
}

/* The logs were renamed. */
static void reopen_requested(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct proxy *proxy = context;
	program_reopen(&proxy->access_log.fd, proxy->conf.access_log);
	if (proxy->conf.outcome_log != NULL &&
	    program_reopen(&proxy->outcome_log, proxy->conf.outcome_log))
		services_set_outcome_log(proxy->services, proxy->outcome_log);
	services_reopen_logs(proxy->services);
}

static void upgrade_requested(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct proxy *proxy = context;
	if (proxy->state == SERVING)
		upgrade_start_successor(proxy->upgrade);
}

static int init_events(struct proxy *proxy)
{
	static const struct {
		int number;
		event_callback_fn callback;
	} signals[] = {
	    {SIGHUP, reload_requested}, {SIGUSR1, reopen_requested}, {SIGUSR2, upgrade_requested},
	    {SIGQUIT, end_requested},   {SIGINT, end_requested},     {SIGTERM, end_requested},
	};
	proxy->closing = evtimer_new(proxy->base, continue_closing, proxy);
	proxy->lame_duck = evtimer_new(proxy->base, lame_duck_ended, proxy);
	int status = proxy->lame_duck != NULL && proxy->closing != NULL ? 0 : -ENOMEM;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && status == 0; i++)
		status = program_signals_add(&proxy->signals, proxy->base, signals[i].number,
		                             signals[i].callback, proxy);
	return status;
}

/* ---- the admin's view ---- */

static void fill_snapshot(struct snapshot *snapshot, void *context)
{
	struct proxy *proxy = context;
	*snapshot = (struct snapshot){.version = FERRY_VERSION,
	                              .pid = getpid(),
	                              .started = proxy->started,
	                              .upgrades = upgrade_generation(proxy->upgrade)};
	evutil_gettimeofday(&snapshot->now, NULL);
	if (proxy->state != SERVING)
		snapshot->not_serving = proxy->state == STARTING ? "starting" : "draining";
	clients_fill(proxy->clients, snapshot);
	services_fill(proxy->services, snapshot);
	snapshot->history = &proxy->history;
}

static void take_sample(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct proxy *proxy = context;
	struct snapshot snapshot;
	fill_snapshot(&snapshot, proxy);
	history_add(&proxy->history, &snapshot);
}

static int start_sampling(struct proxy *proxy)
{
	const struct timeval period = {.tv_sec = HISTORY_SECONDS};
	proxy->sampling = event_new(proxy->base, -1, EV_PERSIST, take_sample, proxy);
	if (proxy->sampling == NULL || event_add(proxy->sampling, &period) < 0)
		return -ENOMEM;
	take_sample(-1, 0, proxy);
	return 0;
}

/* The pages of the listeners may show the page of the demo in a frame. */
static int start_demo(struct proxy *proxy)
{
	enum { SOURCE_SIZE = 2 * (FERRY_ADDRESS_TEXT_SIZE + 16) };
	char frames[CONF_LISTENS * SOURCE_SIZE] = "'self'";
	struct ferry_address address;
	char text[FERRY_ADDRESS_TEXT_SIZE];
	struct demo *demo;
	for (unsigned int i = 0; i < proxy->conf.listen_count; i++) {
		if (ferry_address_set_own(&address, proxy->wanted.listens[i].fd) < 0 ||
		    !ferry_address_is_loopback(&address))
			continue;
		size_t used = strlen(frames);
		ferry_address_format(&address, text, sizeof(text));
		snprintf(frames + used, sizeof(frames) - used, " http://%s http://localhost%s", text,
		         strrchr(text, ':'));
	}
	int status = ferry_address_set_own(&address, proxy->wanted.admin.fd);
	if (status == 0)
		status = demo_new(&demo, &address, frames);
	if (status == 0)
		admin_set_demo(proxy->admin, demo);
	return status;
}

/* The admin gets a duplicate: both the admin and the set close their descriptor. */
static int start_admin(struct proxy *proxy)
{
	if (proxy->wanted.admin.name[0] == '\0')
		return 0;
	int fd = fcntl(proxy->wanted.admin.fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int status = admin_new(&proxy->admin, proxy->base, fd, fill_snapshot, proxy);
	if (status < 0) {
		close(fd);
		return status;
	}
	status = start_sampling(proxy);
	return status == 0 && proxy->conf.demo ? start_demo(proxy) : status;
}

/* ---- the beginning ---- */

static void print_address(const char *what, int fd)
{
	struct ferry_address address;
	char text[FERRY_ADDRESS_TEXT_SIZE];
	if (ferry_address_set_own(&address, fd) == 0)
		printf("%s %s\n", what, ferry_address_format(&address, text, sizeof(text)));
}

static void print_addresses(const struct proxy *proxy)
{
	if (proxy->wanted.admin.name[0] != '\0')
		print_address("admin", proxy->wanted.admin.fd);
	for (unsigned int i = 0; i < proxy->conf.listen_count; i++)
		print_address("listening", proxy->wanted.listens[i].fd);
	fflush(stdout);
}

static int accept_all(struct proxy *proxy)
{
	const struct conf *conf = &proxy->conf;
	int status = 0;
	for (unsigned int i = 0; i < conf->listen_count && status == 0; i++)
		status = clients_listen(proxy->clients, proxy->wanted.listens[i].fd, &conf->listens[i]);
	for (unsigned int i = 0; i < conf->service_count && status == 0; i++)
		if (conf->services[i].socket != NULL)
			status = services_listen(proxy->services, i, proxy->wanted.services[i].fd);
	if (status == 0)
		status = start_admin(proxy);
	if (status < 0) {
		program_log("cannot accept: %s", strerror(-status));
		return status;
	}
	proxy->state = SERVING;
	clients_accept(proxy->clients);
	return 0;
}

static void clients_returned(struct ferry_handoff *handoff, void *context)
{
	struct proxy *proxy = context;
	if (proxy->clients != NULL)
		clients_take_back(proxy->clients, handoff);
}

static void queue_has_room(void *context)
{
	struct proxy *proxy = context;
	clients_continue(proxy->clients);
}

static void queues_full(bool full, void *context)
{
	struct proxy *proxy = context;
	clients_set_full(proxy->clients, full);
}

/* This proxy accepts from now on. */
static void begin_to_serve(struct proxy *proxy)
{
	int status = accept_all(proxy);
	if (status == 0)
		status = upgrade_ready(proxy->upgrade);
	if (status < 0)
		end_proxy(proxy, true);
}

/* Only a proxy that takes over waits for its workers. One without a predecessor accepts before: its clients
 * wait in the proxy and not in the kernel's backlog. */
static void workers_ready(void *context)
{
	struct proxy *proxy = context;
	if (proxy->takes_over && proxy->state == STARTING)
		begin_to_serve(proxy);
}

static bool starts_no_workers(const struct conf *conf)
{
	for (unsigned int i = 0; i < conf->service_count; i++)
		if (conf->services[i].root != NULL && conf->services[i].workers > 0)
			return false;
	return true;
}

/* The workers, and the proxy at SIGUSR1, open the log by its path. */
static bool give_log(const struct conf *conf, int fd)
{
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return true;
	return fchown(fd, conf->uid, conf->gid) == 0;
}

/* The sockets are open. Their files and the logs can no longer be made or removed if only root may. */
static bool become_user(const struct proxy *proxy)
{
	const struct conf *conf = &proxy->conf;
	if (conf->user[0] == '\0')
		return true;
	if (geteuid() == conf->uid && getegid() == conf->gid) /* as the successor of one that has */
		return true;
	if (give_log(conf, proxy->access_log.fd) && give_log(conf, proxy->outcome_log) &&
	    initgroups(conf->user, conf->gid) == 0 && setgid(conf->gid) == 0 && setuid(conf->uid) == 0)
		return true;
	program_log("user %s: %s", conf->user, strerror(errno));
	return false;
}

static void error_output_changed(int fd, void *context)
{
	const struct proxy *proxy = context;
	services_set_error_output(proxy->services, fd);
}

static void sockets_received(struct ferry_socket_set *set, bool takes_over, void *context)
{
	struct proxy *proxy = context;
	proxy->takes_over = takes_over;
	if (listeners_open(&proxy->wanted, set, proxy->base) < 0) {
		end_proxy(proxy, true);
		return;
	}
	if (!become_user(proxy)) {
		end_proxy(proxy, true);
		return;
	}
	services_start(proxy->services);
	if (proxy->state == STARTING && (!takes_over || starts_no_workers(&proxy->conf)))
		begin_to_serve(proxy);
}

static void serves_alone(void *context)
{
	print_addresses(context);
}

static int start_proxy(struct proxy *proxy)
{
	static const struct upgrade_callbacks callbacks = {.error_output = error_output_changed,
	                                                   .started = sockets_received,
	                                                   .serving = serves_alone,
	                                                   .idle = keep_idle,
	                                                   .replaced = was_replaced};
	const struct upgrade_options options = {
	    .argv = proxy->argv, .take_over = proxy->conf.take_over, .wanted = &proxy->wanted};
	int status = listeners_init(&proxy->wanted, &proxy->conf);
	if (status < 0)
		return status;
	return upgrade_new(&proxy->upgrade, proxy->base, &options, &callbacks, proxy);
}

static int init_proxy(struct proxy *proxy)
{
	static const struct services_callbacks callbacks = {.idle = client_idles,
	                                                    .returned = clients_returned,
	                                                    .full_changed = queues_full,
	                                                    .has_room = queue_has_room,
	                                                    .ready = workers_ready};
	const struct services_options options = {.worker = proxy->worker,
	                                         .worker_argv = proxy->worker_argv,
	                                         .outcome_log = proxy->outcome_log};
	int status = init_events(proxy);
	if (status == 0)
		status =
		    services_new(&proxy->services, proxy->base, &proxy->conf, &options, &callbacks, proxy);
	if (status == 0)
		status = clients_new(&proxy->clients, proxy->base, &proxy->conf, proxy->conf.routes,
		                     proxy->services);
	if (status == 0 && proxy->conf.access_log != NULL)
		clients_set_access_log(proxy->clients, &proxy->access_log);
	if (status < 0)
		program_log("%s", strerror(-status));
	return status;
}

static void free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

/* The services return connections to the clients, which are therefore freed later. */
static void clear_proxy(struct proxy *proxy)
{
	admin_free(proxy->admin);
	if (proxy->clients != NULL)
		clients_stop_accepting(proxy->clients);
	services_free(proxy->services);
	clients_free(proxy->clients);
	upgrade_free(proxy->upgrade);
	program_signals_free(&proxy->signals);
	free_event(proxy->closing);
	free_event(proxy->lame_duck);
	free_event(proxy->sampling);
}

static int run_loop(struct proxy *proxy)
{
	proxy->base = event_base_new();
	if (proxy->base == NULL) {
		program_log("no event loop");
		return EXIT_FAILURE;
	}
	if (init_proxy(proxy) < 0 || start_proxy(proxy) < 0 || event_base_dispatch(proxy->base) < 0)
		proxy->failed = true;
	clear_proxy(proxy);
	program_free_base(proxy->base);
	return proxy->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the command line ---- */

/* The arguments before "--"; after it are the options of the workers. */
static int count_own_arguments(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return i;
	return argc;
}

/* The worker program is in the directory of this one, or in $PATH like this one. */
static char *find_worker(const char *self)
{
	static const char name[] = "ferry-worker";
	const char *slash = strrchr(self, '/');
	size_t length = slash != NULL ? (size_t)(slash - self) + 1 : 0;
	char *path = malloc(length + sizeof(name));
	if (path == NULL)
		return NULL;
	memcpy(path, self, length);
	memcpy(path + length, name, sizeof(name));
	return path;
}

static bool open_logs(struct proxy *proxy)
{
	const struct conf *conf = &proxy->conf;
	return program_reopen(&proxy->access_log.fd, conf->access_log) &&
	       program_reopen(&proxy->outcome_log, conf->outcome_log);
}

static int run_proxy(struct proxy *proxy)
{
	/* Clients are on stock bufferevents, whose writes raise SIGPIPE. */
	signal(SIGPIPE, SIG_IGN);
	program_print_ferry_log();
	evutil_gettimeofday(&proxy->started, NULL);
	set_scheduling(&proxy->conf);
	proxy->worker = find_worker(proxy->argv[0]);
	int result = EXIT_FAILURE;
	if (proxy->worker != NULL && open_logs(proxy))
		result = run_loop(proxy);
	free(proxy->worker);
	if (proxy->access_log.fd >= 0)
		close(proxy->access_log.fd);
	if (proxy->outcome_log >= 0)
		close(proxy->outcome_log);
	return result;
}

int main(int argc, char **argv)
{
	static struct proxy proxy;
	char error[CONF_ERROR_SIZE];
	int own = count_own_arguments(argc, argv), result = EXIT_SUCCESS;
	proxy.argv = argv;
	proxy.own_count = own;
	proxy.worker_argv = argv + own + (own < argc);
	proxy.outcome_log = -1;
	proxy.access_log.fd = -1;
	enum settings_result read = conf_read(&proxy.conf, own, argv, error);
	if (read == SETTINGS_BAD) {
		program_log("%s", error);
		result = 2;
	} else if (read == SETTINGS_READ && proxy.conf.check) {
		puts("the configuration is valid");
	} else if (read == SETTINGS_READ) {
		result = run_proxy(&proxy);
	}
	conf_free(&proxy.conf);
	return result;
}
