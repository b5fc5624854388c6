#ifndef FERRY_PROGRAMS_FERRY_PROXY_REPORT_GRAPHS_H
#define FERRY_PROGRAMS_FERRY_PROXY_REPORT_GRAPHS_H

#include "programs/ferry-proxy/history.h"
#include "programs/ferry-proxy/report_text.h"

/* Adds a card with a curve for each series. With fewer than two points there is no curve yet. */
void report_add_graphs(struct text *text, const struct history *history);

#endif
