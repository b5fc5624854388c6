#ifndef FERRY_PROGRAMS_FERRY_PROXY_PAGE_H
#define FERRY_PROGRAMS_FERRY_PROXY_PAGE_H

/* What the pages of the admin address share. Their files and the pieces of their HTML lie in page/, and are part of the
 * program. */

#include "programs/ferry-proxy/report_text.h"
#include "programs/shared/template.h"

/* One of the files. */
struct page_file {
	const char *path; /* "/-/style.css" */
	const char *type; /* for the Content-Type field */
	const unsigned char *bytes;
	const size_t *length;
};

/* The file of that path, or NULL. */
const struct page_file *page_find_file(const char *path);

/* PAGE_PIECE(worker) declares page/worker.html; PAGE_ADD(text, worker, values) adds it with an array of values. */
#define PAGE_PIECE(name)                             \
	extern const unsigned char page_##name##_html[]; \
	extern const size_t page_##name##_html_length
#define PAGE_ADD(text, name, values)                                      \
	page_add(text, page_##name##_html, page_##name##_html_length, values, \
	         sizeof(values) / sizeof((values)[0]))
void page_add(struct text *text, const unsigned char *piece, size_t length,
              const struct template_value *values, size_t count);

/* Adds all before the content. A page for a frame has no links to the others. */
void page_begin(struct text *text, const char *title, bool framed);

/* Adds all after the content. */
void page_end(struct text *text);

/* "3 d 4 h", "5 min 6 s": the two largest units. Returns `out`, which has PAGE_DURATION bytes. */
enum { PAGE_DURATION = 64 };
const char *page_format_duration(char *out, struct timeval from, struct timeval to);

#endif
