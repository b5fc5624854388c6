#include "libevent/rearm.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/bufferevent_struct.h>
#include <event2/util.h>

#include "libevent/fields.h"
#include "libevent/segments.h"

/* The layout of a bufferevent does not change within a major.minor version of libevent. */
static bool libevent_is_known(void)
{
	return event_get_version_number() >> 16 == LIBEVENT_VERSION_NUMBER >> 16;
}

/* The marks of a socket bufferevent: its table of operations and its callbacks. All are constants inside libevent. */
static _Atomic(uintptr_t) stock_ops;
static _Atomic(event_callback_fn) stock_read, stock_write;
static _Atomic(ev_ssize_t) stock_max_read, stock_max_write;

/* Every socket bufferevent has the same ones, and they are looked up once. */
static int find_stock(struct event_base *base)
{
	if (atomic_load_explicit(&stock_ops, memory_order_acquire) != 0)
		return 0;
	struct bufferevent *probe = bufferevent_socket_new(base, -1, 0);
	if (probe == NULL)
		return -ENOMEM;
	atomic_store_explicit(&stock_read, event_get_callback(&probe->ev_read), memory_order_relaxed);
	atomic_store_explicit(&stock_write, event_get_callback(&probe->ev_write), memory_order_relaxed);
	atomic_store_explicit(&stock_max_read, bufferevent_get_max_single_read(probe),
	                      memory_order_relaxed);
	atomic_store_explicit(&stock_max_write, bufferevent_get_max_single_write(probe),
	                      memory_order_relaxed);
	atomic_store_explicit(&stock_ops, (uintptr_t)probe->be_ops, memory_order_release);
	bufferevent_free(probe);
	return 0;
}

/* Whether it is a socket bufferevent with a descriptor, of the libevent of the build. */
static int examine(struct bufferevent *bev)
{
	if (!libevent_is_known())
		return -ENOTSUP;
	if (bev->ev_base == NULL)
		return -EINVAL;
	int status = find_stock(bev->ev_base);
	if (status < 0)
		return status;
	if ((uintptr_t)bev->be_ops != atomic_load_explicit(&stock_ops, memory_order_relaxed))
		return -EINVAL;
	return event_get_fd(&bev->ev_read) >= 0 ? 0 : -EINVAL;
}

static event_callback_fn get_stock_read(void)
{
	return atomic_load_explicit(&stock_read, memory_order_relaxed);
}

static event_callback_fn get_stock_write(void)
{
	return atomic_load_explicit(&stock_write, memory_order_relaxed);
}

static const struct timeval *timeout_or_null(const struct timeval *timeout)
{
	return evutil_timerisset(timeout) ? timeout : NULL;
}

static void assign(struct event *event, struct event_base *base, int fd, short what,
                   event_callback_fn callback, void *argument)
{
	/* event_assign() resets the priority to the default. */
	int priority = event_get_priority(event);
	event_assign(event, base, fd, (short)(what | EV_PERSIST | EV_FINALIZE), callback, argument);
	event_priority_set(event, priority);
}

/* Gives both events, which are not armed, other callbacks. */
static void assign_both(struct bufferevent *bev, int write_fd, event_callback_fn on_read,
                        event_callback_fn on_write, void *argument)
{
	int read_fd = event_get_fd(&bev->ev_read);

	assign(&bev->ev_read, bev->ev_base, read_fd, EV_READ, on_read, argument);
	assign(&bev->ev_write, bev->ev_base, write_fd >= 0 ? write_fd : read_fd, EV_WRITE, on_write,
	       argument);
}

/* The same for events that may be armed, and stay so. */
static void swap_events(struct bufferevent *bev, int write_fd, event_callback_fn on_read,
                        event_callback_fn on_write, void *argument)
{
	bool reading = event_pending(&bev->ev_read, EV_READ, NULL) != 0;
	bool writing = event_pending(&bev->ev_write, EV_WRITE, NULL) != 0;

	event_del(&bev->ev_read);
	event_del(&bev->ev_write);
	assign_both(bev, write_fd, on_read, on_write, argument);
	if (reading)
		event_add(&bev->ev_read, timeout_or_null(&bev->timeout_read));
	if (writing)
		event_add(&bev->ev_write, timeout_or_null(&bev->timeout_write));
}

/* While a bufferevent connects, and only then, libevent leaves the write event pending when writing is
 * disabled. Its flag for connecting is private, and shows in no other way. */
static bool keeps_write_event(struct bufferevent *bev)
{
	short enabled = bev->enabled;

	bufferevent_disable(bev, EV_WRITE);
	bev->enabled = enabled;
	return event_pending(&bev->ev_write, EV_WRITE, NULL) != 0;
}

/* If connect(2) succeeds at once while writing is disabled or suspended, libevent reports that when writing
 * is enabled, and does not arm the write event before. An active event needs no system call. */
static bool connected_at_once(struct bufferevent *bev)
{
	if ((bev->enabled & EV_WRITE) != 0 && bufferevent_get_max_to_write(bev) > 0)
		return false;
	event_active(&bev->ev_write, EV_WRITE, 0);
	bool connecting = keeps_write_event(bev);
	event_del(&bev->ev_write);
	return connecting;
}

bool rearm_is_connecting(struct bufferevent *bev)
{
	if (event_pending(&bev->ev_write, EV_WRITE, NULL) == 0)
		return connected_at_once(bev);
	if (keeps_write_event(bev))
		return true;
	event_add(&bev->ev_write, timeout_or_null(&bev->timeout_write));
	return false;
}

static void take_events(struct rearm *rearm)
{
	rearm->connecting = rearm_is_connecting(rearm->bev);
	swap_events(rearm->bev, rearm->write_fd, rearm->steps->on_read, rearm->steps->on_write, rearm);
}

/* If the write event is pending and the bufferevent does not connect, the event's callback may be on the
 * stack, below the user's "connected" callback. */
static bool may_be_writing(const struct rearm *rearm)
{
	return event_pending(&rearm->bev->ev_write, EV_WRITE, NULL) && !rearm->connecting;
}

struct rearm_gate {
	struct bufferevent_rate_limit_group *group;
	struct ev_token_bucket_cfg *limit;
};

static void free_gate(struct rearm_gate *gate)
{
	if (gate->group != NULL)
		bufferevent_rate_limit_group_free(gate->group);
	if (gate->limit != NULL)
		ev_token_bucket_cfg_free(gate->limit);
	free(gate);
}

/* A rate limit group whose budget is spent. libevent offers its users no other suspension that
 * bufferevent_enable() leaves in force. */
static struct rearm_gate *new_gate(struct event_base *base)
{
	static const struct timeval long_tick = {.tv_sec = 3600};
	struct rearm_gate *gate = calloc(1, sizeof(*gate));

	if (gate == NULL)
		return NULL;
	gate->limit = ev_token_bucket_cfg_new(EV_RATE_LIMIT_MAX, EV_RATE_LIMIT_MAX, 1, 1, &long_tick);
	if (gate->limit != NULL)
		gate->group = bufferevent_rate_limit_group_new(base, gate->limit);
	if (gate->group == NULL) {
		free_gate(gate);
		return NULL;
	}
	bufferevent_rate_limit_group_decrement_write(gate->group, 2);
	return gate;
}

static int close_write_gate(struct rearm *rearm)
{
	struct rearm_gate *gate = new_gate(rearm->bev->ev_base);

	if (gate == NULL)
		return -ENOMEM;
	if (bufferevent_add_to_rate_limit_group(rearm->bev, gate->group) < 0) {
		free_gate(gate);
		return -ENOMEM;
	}
	/* If libevent's write step is on the stack, it finds writing suspended and deletes the event;
	 * rearm_open_write_gate() checks for that. */
	event_add(&rearm->bev->ev_write, timeout_or_null(&rearm->bev->timeout_write));
	rearm->write_gate = gate;
	return 0;
}

bool rearm_open_write_gate(struct rearm *rearm)
{
	if (rearm->write_gate == NULL)
		return false;
	bool waiting = event_pending(&rearm->bev->ev_write, EV_WRITE, NULL) != 0;
	bufferevent_remove_from_rate_limit_group(rearm->bev);
	free_gate(rearm->write_gate);
	rearm->write_gate = NULL;
	return waiting;
}

/* ---- rate limit groups ---- */

_Static_assert(sizeof(ev_ssize_t) == sizeof(size_t),
               "libevent's configure did not find ssize_t: build libevent again");

enum {
	OWN_LIMIT_SHIFT = 1
}; /* of EV_SSIZE_MAX: a limit that is overdrawn can then be raised in one step */

/* Whether a group limits reading, or writing. libevent has no getter for the group. It returns the least of
 * the bufferevent's own limit and of its share of the group: with the own one raised for a moment, the share
 * shows. */
static bool group_limits_reading(struct bufferevent *bev)
{
	const ev_ssize_t high = EV_SSIZE_MAX >> OWN_LIMIT_SHIFT;
	bool limited = bufferevent_get_token_bucket_cfg(bev) != NULL;
	ev_ssize_t own =
	    limited ? bufferevent_get_read_limit(bev) : bufferevent_get_max_single_read(bev);

	if (limited)
		bufferevent_decrement_read_limit(bev, own - high);
	else
		bufferevent_set_max_single_read(bev, (size_t)high);
	bool grouped = bufferevent_get_max_to_read(bev) < high;
	if (limited)
		bufferevent_decrement_read_limit(bev, high - own);
	else
		bufferevent_set_max_single_read(bev, (size_t)own);
	return grouped;
}

static bool group_limits_writing(struct bufferevent *bev)
{
	const ev_ssize_t high = EV_SSIZE_MAX >> OWN_LIMIT_SHIFT;
	bool limited = bufferevent_get_token_bucket_cfg(bev) != NULL;
	ev_ssize_t own =
	    limited ? bufferevent_get_write_limit(bev) : bufferevent_get_max_single_write(bev);

	if (limited)
		bufferevent_decrement_write_limit(bev, own - high);
	else
		bufferevent_set_max_single_write(bev, (size_t)high);
	bool grouped = bufferevent_get_max_to_write(bev) < high;
	if (limited)
		bufferevent_decrement_write_limit(bev, high - own);
	else
		bufferevent_set_max_single_write(bev, (size_t)own);
	return grouped;
}

int rearm_examine_new(struct bufferevent *bev)
{
	int status = examine(bev);

	return status == 0 ? segments_learn() : status;
}

int rearm_examine(const struct rearm *rearm)
{
	int status = rearm_examine_new(rearm->bev);

	if (status < 0)
		return status;
	if (event_get_callback(&rearm->bev->ev_read) == rearm->steps->on_read)
		return -EALREADY;
	return group_limits_reading(rearm->bev) || group_limits_writing(rearm->bev) ? -EBUSY : 0;
}

/* ---- the settings of before ---- */

struct rearm_before {
	bufferevent_data_cb on_readable, on_writable;
	bufferevent_event_cb on_event;
	void *argument;
	struct timeval read_timeout, write_timeout;
	size_t read_low, read_high, write_low, write_high;
	size_t max_single_read, max_single_write;
};

static void remember_settings(struct bufferevent *bev, struct rearm_before *before)
{
	bufferevent_getcb(bev, &before->on_readable, &before->on_writable, &before->on_event,
	                  &before->argument);
	before->read_timeout = bev->timeout_read;
	before->write_timeout = bev->timeout_write;
	before->read_low = bev->wm_read.low;
	before->read_high = bev->wm_read.high;
	before->write_low = bev->wm_write.low;
	before->write_high = bev->wm_write.high;
	before->max_single_read = (size_t)bufferevent_get_max_single_read(bev);
	before->max_single_write = (size_t)bufferevent_get_max_single_write(bev);
}

/* Those of a new bufferevent. */
static struct rearm_before stock_settings(void)
{
	return (struct rearm_before){.max_single_read = (size_t)atomic_load(&stock_max_read),
	                             .max_single_write = (size_t)atomic_load(&stock_max_write)};
}

static bool are_stock_settings(const struct rearm_before *before)
{
	const struct rearm_before stock = stock_settings();

	return before->on_readable == NULL && before->on_writable == NULL && before->on_event == NULL &&
	       before->argument == NULL && !evutil_timerisset(&before->read_timeout) &&
	       !evutil_timerisset(&before->write_timeout) && before->read_low == 0 &&
	       before->read_high == 0 && before->write_low == 0 && before->write_high == 0 &&
	       before->max_single_read == stock.max_single_read &&
	       before->max_single_write == stock.max_single_write;
}

/* Most bufferevents are new, and their settings take no memory. */
static int keep_settings(struct rearm *rearm)
{
	struct rearm_before before;

	remember_settings(rearm->bev, &before);
	rearm->enabled_before = rearm->bev->enabled;
	rearm->before = NULL;
	if (are_stock_settings(&before))
		return 0;
	rearm->before = malloc(sizeof(before));
	if (rearm->before == NULL)
		return -ENOMEM;
	*rearm->before = before;
	return 0;
}

static struct rearm_before settings_before(const struct rearm *rearm)
{
	return rearm->before != NULL ? *rearm->before : stock_settings();
}

/* Both directions are disabled. libevent allocates memory for a read high-water mark that was not there
 * before; one that ferry's user has not changed is left alone. */
static void restore_settings(struct bufferevent *bev, const struct rearm_before *before)
{
	bufferevent_setcb(bev, before->on_readable, before->on_writable, before->on_event,
	                  before->argument);
	if (bev->wm_read.low != before->read_low || bev->wm_read.high != before->read_high)
		bufferevent_setwatermark(bev, EV_READ, before->read_low, before->read_high);
	bufferevent_setwatermark(bev, EV_WRITE, before->write_low, before->write_high);
	bufferevent_set_max_single_read(bev, before->max_single_read);
	bufferevent_set_max_single_write(bev, before->max_single_write);
	bufferevent_set_timeouts(bev, timeout_or_null(&before->read_timeout),
	                         timeout_or_null(&before->write_timeout));
}

/* A write event for an empty output would run the write callback once. If the kernel has no memory to wait with, libevent
 * writes once without waiting: else nothing would send the output. */
static void restore_enabled(struct bufferevent *bev, short enabled)
{
	if ((enabled & EV_READ) != 0)
		bufferevent_enable(bev, EV_READ);
	if ((enabled & EV_WRITE) != 0 && evbuffer_get_length(bev->output) > 0) {
		if (bufferevent_enable(bev, EV_WRITE) < 0)
			event_active(&bev->ev_write, EV_WRITE, 1);
	} else
		bev->enabled = (short)(bev->enabled | (enabled & EV_WRITE));
}

int rearm_attach(struct rearm *rearm, evbuffer_cb_func on_output)
{
	struct bufferevent *bev = rearm->bev;
	struct evbuffer *output = bufferevent_get_output(bev);

	/* libevent's own output callback stays. ferry's callback was added later, and therefore runs first;
	 * it activates the write event. libevent's callback then finds the event pending and does nothing. */
	if (keep_settings(rearm) < 0)
		return -ENOMEM;
	rearm->output_cb = evbuffer_add_cb(output, on_output, rearm);
	if (rearm->output_cb == NULL)
		goto fail;

	take_events(rearm);

	if (may_be_writing(rearm) && close_write_gate(rearm) < 0) {
		swap_events(bev, -1, get_stock_read(), get_stock_write(), bev);
		evbuffer_remove_cb_entry(output, rearm->output_cb);
		goto fail;
	}
	bufferevent_incref(bev);
	return 0;

fail:
	free(rearm->before);
	rearm->before = NULL;
	return -ENOMEM;
}

/* Its events are not armed, and its settings are the stock ones. */
int rearm_attach_new(struct rearm *rearm, evbuffer_cb_func on_output)
{
	struct bufferevent *bev = rearm->bev;

	rearm->output_cb = evbuffer_add_cb(bev->output, on_output, rearm);
	if (rearm->output_cb == NULL)
		return -ENOMEM;
	rearm->enabled_before = bev->enabled;
	assign_both(bev, rearm->write_fd, rearm->steps->on_read, rearm->steps->on_write, rearm);
	bufferevent_incref(bev);
	return 0;
}

void rearm_set_limits(struct rearm *rearm, size_t max_read, size_t max_write)
{
	const struct rearm_before before = settings_before(rearm);

	if (before.max_single_read == (size_t)atomic_load(&stock_max_read))
		bufferevent_set_max_single_read(rearm->bev, max_read);
	if (before.max_single_write == (size_t)atomic_load(&stock_max_write))
		bufferevent_set_max_single_write(rearm->bev, max_write);
}

void rearm_detach(struct rearm *rearm)
{
	struct bufferevent *bev = rearm->bev;

	rearm_open_write_gate(rearm);
	/* The entry stays until rearm_free(): another callback on the output may be on the stack, and
	 * libevent then already points to the next entry. */
	evbuffer_cb_clear_flags(bev->output, rearm->output_cb, EVBUFFER_CB_ENABLED);
	/* libevent's own output callback may run next, and adds the write event if writing is enabled. */
	bufferevent_disable(bev, EV_READ | EV_WRITE);
	bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
	event_del(&bev->ev_read);
	event_del(&bev->ev_write);
	/* libevent's finaliser takes the event's argument for the bufferevent. */
	assign_both(bev, -1, get_stock_read(), get_stock_write(), bev);
}

void rearm_free(struct rearm *rearm)
{
	evbuffer_remove_cb_entry(rearm->bev->output, rearm->output_cb);
	free(rearm->before);
	/* Drops ferry's own reference, and then the one that the user passed to ferry. If the program has
	 * called bufferevent_free() itself, the second is already gone and the first was the last. */
	if (bufferevent_decref(rearm->bev) == 0 && !rearm->given_back)
		bufferevent_free(rearm->bev);
}

void rearm_forget_fds(struct rearm *rearm, short what)
{
	struct bufferevent *bev = rearm->bev;

	if ((what & EV_READ) != 0) {
		event_del(&bev->ev_read);
		assign(&bev->ev_read, bev->ev_base, -1, EV_READ, rearm->steps->on_read, rearm);
	}
	if ((what & EV_WRITE) != 0) {
		event_del(&bev->ev_write);
		assign(&bev->ev_write, bev->ev_base, -1, EV_WRITE, rearm->steps->on_write, rearm);
	}
}

void rearm_take_fd(struct bufferevent *bev)
{
	/* bufferevent_disable() would remove the events from the loop, and bufferevent_setfd() would try again. */
	bev->enabled = (short)(bev->enabled & ~(EV_READ | EV_WRITE));
	bufferevent_setfd(bev, -1);
}

bool rearm_check(struct rearm *rearm)
{
	if (fields_read_step(rearm->bev) == rearm->steps->on_read)
		return false;
	/* While its writing is suspended, a bufferevent does not show that it connects. */
	rearm_open_write_gate(rearm);
	take_events(rearm);
	if (may_be_writing(rearm))
		(void)close_write_gate(rearm); /* without memory for it bytes may overtake descriptors */
	return true;
}

int rearm_write_fd(const struct rearm *rearm)
{
	return rearm->bev->ev_write.ev_fd;
}

void rearm_run_write(struct rearm *rearm)
{
	struct event *event = &rearm->bev->ev_write;
	if ((fields_pending(event) & EV_WRITE) == 0)
		event_active(event, EV_WRITE, 0);
}

int rearm_wait_writable(struct rearm *rearm)
{
	struct bufferevent *bev = rearm->bev;
	if ((fields_pending(&bev->ev_write) & EV_WRITE) != 0)
		return 0;
	return event_add(&bev->ev_write, timeout_or_null(&bev->timeout_write)) == 0 ? 0 : -ENOMEM;
}

void rearm_stop_waiting(struct rearm *rearm)
{
	struct event *event = &rearm->bev->ev_write;
	if ((fields_pending(event) & (EV_WRITE | EV_TIMEOUT)) == 0)
		return;
	/* event_del() alone would leave the interval set, and each later event_active() would then add the
	 * event again to restart it. */
	event_remove_timer(event);
	event_del(event);
}

void rearm_hold_read_cb(struct rearm *rearm)
{
	if (rearm->bev->readcb == NULL)
		return;
	rearm->held_read_cb = rearm->bev->readcb;
	rearm->bev->readcb = NULL;
}

void rearm_release_read_cb(struct rearm *rearm)
{
	if (rearm->bev->readcb == NULL)
		rearm->bev->readcb = rearm->held_read_cb;
	rearm->held_read_cb = NULL;
}

bool rearm_awaits_write(const struct rearm *rearm)
{
	return (fields_pending(&rearm->bev->ev_write) & EV_WRITE) != 0;
}

bool rearm_is_reading(const struct rearm *rearm)
{
	return (fields_pending(&rearm->bev->ev_read) & EV_READ) != 0;
}

void rearm_stop_read_timeout(struct rearm *rearm)
{
	event_remove_timer(&rearm->bev->ev_read);
}

void rearm_stop_reading(struct rearm *rearm)
{
	event_del(&rearm->bev->ev_read);
}

const struct timeval *rearm_get_timeout(const struct rearm *rearm, short what)
{
	const struct bufferevent *bev = rearm->bev;

	return timeout_or_null(what == EV_READ ? &bev->timeout_read : &bev->timeout_write);
}

int rearm_restart_write_timeout(struct rearm *rearm)
{
	return event_add(&rearm->bev->ev_write, rearm_get_timeout(rearm, EV_WRITE)) == 0 ? 0 : -ENOMEM;
}

bool rearm_timeout_is_stale(struct rearm *rearm, short what)
{
	struct bufferevent *bev = rearm->bev;
	bool reading = what == EV_READ;

	if (evutil_timerisset(reading ? &bev->timeout_read : &bev->timeout_write))
		return false;
	event_remove_timer(reading ? &bev->ev_read : &bev->ev_write);
	return true;
}

struct record {
	short what;
	int error;
};

static void record_event(struct bufferevent *bev, short what, void *argument)
{
	(void)bev;
	struct record *record = argument;
	record->what = what;
	record->error = EVUTIL_SOCKET_ERROR();
}

bool rearm_finish_connecting(struct rearm *rearm, evutil_socket_t fd)
{
	struct bufferevent *bev = rearm->bev;
	struct record record = {0};

	/* After a failure libevent deletes the read event, after success it does not touch it. The event shows
	 * the result even when callbacks are deferred. */
	bool reading = event_pending(&bev->ev_read, EV_READ, NULL) != 0;
	if (!reading)
		event_add(&bev->ev_read, NULL);

	/* libevent's own write step finishes the attempt. With writing disabled it does nothing more. The
	 * user's callback runs below, when the bufferevent's fields are restored. (With deferred callbacks
	 * libevent only records the event, for the user's callback.) */
	bufferevent_event_cb user_cb = bev->errorcb;
	void *user_argument = bev->cbarg;
	short enabled = bev->enabled;
	if (user_cb != NULL)
		bev->errorcb = record_event;
	bev->cbarg = &record;
	bev->enabled = (short)(enabled & ~EV_WRITE);
	get_stock_write()(fd, EV_WRITE, bev);
	bev->enabled = enabled;
	bev->cbarg = user_argument;
	bev->errorcb = user_cb;

	rearm->connecting = event_pending(&bev->ev_write, EV_WRITE, NULL) != 0;
	bool failed = event_pending(&bev->ev_read, EV_READ, NULL) == 0;
	if (!reading)
		event_del(&bev->ev_read);
	if (record.what != 0) {
		EVUTIL_SET_SOCKET_ERROR(record.error);
		bufferevent_trigger_event(bev, record.what, 0);
	}
	return !rearm->connecting && !failed;
}

/* ---- input that ferry added ---- */

/* libevent has no callback for the moment when reading is enabled, but then it adds the read event. The
 * read event is armed for writing too, and therefore fires at once; if the socket is not writable, with
 * the next byte. */
static void on_reading(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct bufferevent *bev = argument;

	bufferevent_lock(bev);
	bool reading = event_pending(&bev->ev_read, EV_READ, NULL) != 0;
	event_del(&bev->ev_read);
	assign(&bev->ev_read, bev->ev_base, event_get_fd(&bev->ev_read), EV_READ, get_stock_read(),
	       bev);
	if (reading)
		event_add(&bev->ev_read, timeout_or_null(&bev->timeout_read));
	if (evbuffer_get_length(bev->input) > 0)
		bufferevent_trigger(bev, EV_READ, 0);
	bufferevent_unlock(bev);
}

int rearm_examine_stock(struct bufferevent *bev)
{
	int status = examine(bev);
	if (status < 0)
		return status;
	event_callback_fn callback = event_get_callback(&bev->ev_read);
	return callback == get_stock_read() || callback == on_reading ? 0 : -EINVAL;
}

/* Runs in the loop, or in event_base_free(). */
static void offer_pending_input(struct event *event, void *argument)
{
	(void)event;
	struct bufferevent *bev = argument;

	bufferevent_lock(bev);
	if (evbuffer_get_length(bev->input) > 0) {
		if ((bev->enabled & EV_READ) != 0) {
			bufferevent_trigger(bev, EV_READ, 0);
		} else if (rearm_examine_stock(bev) == 0) {
			event_del(&bev->ev_read);
			assign(&bev->ev_read, bev->ev_base, event_get_fd(&bev->ev_read), EV_READ | EV_WRITE,
			       on_reading, bev);
		}
	}
	bufferevent_unlock(bev);
	bufferevent_decref(bev);
}

static void ignore_finalizer_event(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

static int schedule_offer(struct bufferevent *bev)
{
	/* Only a finaliser is certain to be called: event_base_free() calls it too. */
	struct event *event = event_new(bev->ev_base, -1, 0, ignore_finalizer_event, bev);
	if (event == NULL)
		return -ENOMEM;
	bufferevent_incref(bev);
	event_free_finalize(0, event, offer_pending_input);
	return 0;
}

int rearm_offer_input(struct bufferevent *bev)
{
	int status = rearm_examine_stock(bev);
	return status < 0 ? status : schedule_offer(bev);
}

/* ---- giving back ---- */

int rearm_give_back(struct rearm *rearm)
{
	struct bufferevent *bev = rearm->bev;
	bool connecting = rearm->connecting;

	if (evbuffer_get_length(bev->input) > 0 && schedule_offer(bev) < 0)
		return -ENOMEM;
	rearm_detach(rearm);
	rearm->given_back = true;
	/* With writing enabled this would add the write event, which would run the write callback. */
	bufferevent_remove_from_rate_limit_group(bev);
	const struct rearm_before before = settings_before(rearm);
	restore_settings(bev, &before);
	restore_enabled(bev, rearm->enabled_before);
	if (connecting)
		event_add(&bev->ev_write, timeout_or_null(&bev->timeout_write));
	return 0;
}
