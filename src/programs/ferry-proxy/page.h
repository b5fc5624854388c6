#ifndef FERRY_PROGRAMS_FERRY_PROXY_PAGE_H
#define FERRY_PROGRAMS_FERRY_PROXY_PAGE_H

/* What the pages of the admin address share: their begin and end, and the files that they refer to. The files lie in
 * page/ and are part of the program. */

#include "programs/ferry-proxy/report_text.h"

/* One of the files. */
struct page_file {
	const char *path; /* "/-/style.css" */
	const char *type; /* for the Content-Type field */
	const unsigned char *bytes;
	const size_t *length;
};

/* The file of that path, or NULL. */
const struct page_file *page_find_file(const char *path);

/* Adds all before the content. `current`: the path of the page, which is marked in the links; NULL: the page is for a
 * frame, and has no links. */
void page_begin(struct text *text, const char *title, const char *current);

/* Adds all after the content. */
void page_end(struct text *text);

/* Adds a text of others: no character of it is markup. */
void page_add_text(struct text *text, const char *value);

/* "3 d 4 h", "5 min 6 s": the two largest units. */
void page_add_duration(struct text *text, struct timeval from, struct timeval to);

/* A name and a number of a list of figures. */
void page_add_figure(struct text *text, const char *name, uint64_t value);

#endif
