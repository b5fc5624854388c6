#include "programs/ferry-proxy/page.h"

#include <stdio.h>
#include <string.h>

/* From page/, by src/cmake/EmbedFiles.cmake. */
PAGE_PIECE(begin);
PAGE_PIECE(end);
extern const unsigned char page_icon_svg[], page_status_js[], page_style_css[];
extern const size_t page_icon_svg_length, page_status_js_length, page_style_css_length;

static const struct page_file files[] = {
    {"/-/icon.svg", "image/svg+xml", page_icon_svg, &page_icon_svg_length},
    {"/-/status.js", "text/javascript; charset=utf-8", page_status_js, &page_status_js_length},
    {"/-/style.css", "text/css; charset=utf-8", page_style_css, &page_style_css_length},
};

const struct page_file *page_find_file(const char *path)
{
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(files[i].path, path) == 0)
			return &files[i];
	return NULL;
}

void page_add(struct text *text, const unsigned char *piece, size_t length,
              const struct template_value *values, size_t count)
{
	if (!text->failed && template_add(text->out, (const char *)piece, length, values, count) < 0)
		text->failed = true;
}

void page_begin(struct text *text, const char *title, bool framed)
{
	const struct template_value values[] = {
	    {"title", .text = title}, {"framed", .number = framed}, {"links", .number = !framed}};
	PAGE_ADD(text, begin, values);
}

void page_end(struct text *text)
{
	text_add_bytes(text, (const char *)page_end_html, page_end_html_length);
}

const char *page_format_duration(char *out, struct timeval from, struct timeval to)
{
	long long seconds = (long long)to.tv_sec - (long long)from.tv_sec;
	if (seconds < 0) /* the clock was set back */
		seconds = 0;
	if (seconds >= 86400)
		snprintf(out, PAGE_DURATION, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
	else if (seconds >= 3600)
		snprintf(out, PAGE_DURATION, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
	else if (seconds >= 60)
		snprintf(out, PAGE_DURATION, "%lld min %lld s", seconds / 60, seconds % 60);
	else
		snprintf(out, PAGE_DURATION, "%lld s", seconds);
	return out;
}
