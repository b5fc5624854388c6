/* Every getter takes NULL: a pointer is NULL or to nothing, a count is 0, and an int is -EINVAL. */

#include <errno.h>

#include "ferry/ferry.h"
#include "test.h"

TEST(getters_that_return_a_pointer_return_null_for_null)
{
	size_t length = 1;

	ck_assert_ptr_null(ferry_channel_get_context(NULL));
	ck_assert_ptr_null(ferry_channel_get_transport(NULL));
	ck_assert_ptr_null(ferry_descriptor_get_info(NULL));
	ck_assert_str_eq(ferry_descriptor_get_name(NULL), ""); /* a name is never NULL */
	ck_assert_ptr_null(ferry_dispatcher_worker_get_context(NULL));
	ck_assert_ptr_null(ferry_dispatcher_worker_get_transport(NULL));
	ck_assert_ptr_nonnull(
	    ferry_handoff_get_blob(NULL, &length)); /* no bytes, as a handoff without */
	ck_assert_uint_eq(length, 0);
	length = 1;
	ck_assert_ptr_nonnull(ferry_handoff_get_bytes(NULL, &length));
	ck_assert_uint_eq(length, 0);
	ck_assert_ptr_null(ferry_line_stream_get_transport(NULL));
	ck_assert_ptr_null(ferry_message_stream_get_transport(NULL));
	ck_assert_ptr_null(ferry_poller_get_base(NULL));
	ck_assert_ptr_null(ferry_relay_get_transport(NULL, FERRY_RELAY_CLIENT));
	ck_assert_ptr_null(ferry_socket_set_get_name(NULL, 0));
	ck_assert_ptr_null(ferry_transport_get_bufferevent(NULL));
	ck_assert_ptr_null(ferry_worker_get_transport(NULL));
}

TEST(getters_that_return_a_result_return_einval_for_null)
{
	struct ferry_channel_event event = {.fd = -1};
	struct ferry_dispatcher_stats dispatcher;
	struct ferry_handoff_info handoff;
	struct ferry_listener_stats listener;
	struct ferry_parking_stats parking;
	struct ferry_relay_stats relay;
	struct ferry_supervisor_place_info place;
	struct ferry_supervisor_stats supervisor;
	struct ferry_supervisor_worker_info process;
	struct ferry_transport_stats transport;
	struct ferry_worker_stats worker;

	ck_assert_int_eq(ferry_channel_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_steal_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_get_stats(NULL, &dispatcher), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_get_stats(NULL, &dispatcher), -EINVAL);
	ck_assert_int_eq(ferry_file_producer_get_method(NULL), -EINVAL);
	ck_assert_int_eq(ferry_handoff_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_handoff_get_info(NULL, &handoff), -EINVAL);
	ck_assert_int_eq(ferry_handoff_steal_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_get_stats(NULL, &listener), -EINVAL);
	ck_assert_int_eq(ferry_parking_get_stats(NULL, &parking), -EINVAL);
	ck_assert_int_eq(ferry_poller_steal_fd(NULL, &event), -EINVAL);
	ck_assert_int_eq(ferry_relay_get_stats(NULL, &relay), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_find(NULL, "name"), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_get_fd(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_get_place(NULL, 0, &place), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_get_stats(NULL, &supervisor), -EINVAL);
	ck_assert_int_eq(ferry_supervisor_worker_get_info(NULL, &process), -EINVAL);
	ck_assert_ptr_null(ferry_supervisor_find_worker(NULL, NULL));
	ck_assert_ptr_null(ferry_supervisor_worker_get_context(NULL));
	ck_assert_int_eq(ferry_transport_get_stats(NULL, &transport), -EINVAL);
	ck_assert_int_eq(ferry_worker_get_stats(NULL, &worker), -EINVAL);
	ck_assert_uint_eq(ferry_socket_set_count(NULL), 0);
	ck_assert(!ferry_dispatcher_is_full(NULL));
	ferry_dispatcher_worker_set_context(NULL, NULL); /* nothing happens */
}
