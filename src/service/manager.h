#ifndef FERRY_SERVICE_MANAGER_FIELDS_H
#define FERRY_SERVICE_MANAGER_FIELDS_H

/* The part of a service manager that other folders use. */

#include "ferry/service_manager.h"

/* The variables that the next process of the service needs, "NOTIFY_SOCKET=…" and "WATCHDOG_USEC=…"; NULL: there is
 * no such variable. WATCHDOG_PID would name this process, and without it the next process takes WATCHDOG_USEC for its
 * own. */
const char *service_manager_get_socket_variable(const struct ferry_service_manager *manager);
const char *service_manager_get_watchdog_variable(const struct ferry_service_manager *manager);

#endif
