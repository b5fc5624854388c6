#include "programs/ferry-proxy/page.h"

#include <inttypes.h>
#include <string.h>

/* From page/, by src/cmake/EmbedFiles.cmake. */
extern const unsigned char page_icon_svg[], page_status_js[], page_style_css[];
extern const size_t page_icon_svg_length, page_status_js_length, page_style_css_length;

static const struct page_file files[] = {
    {"/-/icon.svg", "image/svg+xml", page_icon_svg, &page_icon_svg_length},
    {"/-/status.js", "text/javascript; charset=utf-8", page_status_js, &page_status_js_length},
    {"/-/style.css", "text/css; charset=utf-8", page_style_css, &page_style_css_length},
};

static const struct {
	const char *path;
	const char *name;
} links[] = {
    {"/-/status", "Status"},
    {"/-/metrics", "Metrics"},
    {"/-/healthz", "Health"},
};

const struct page_file *page_find_file(const char *path)
{
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(files[i].path, path) == 0)
			return &files[i];
	return NULL;
}

static void add_links(struct text *text, const char *current)
{
	text_add(
	    text,
	    "<header class=\"top\"><div>\n<a class=\"brand\" href=\"/-/status\">"
	    "<svg viewBox=\"0 0 32 32\" aria-hidden=\"true\" fill=\"none\" stroke=\"currentColor\" "
	    "stroke-width=\"2.4\" stroke-linecap=\"round\" stroke-linejoin=\"round\">"
	    "<path d=\"M4 17h24l-3 7H7zM9 17v-5h14v5M13 12V7h6v5\"></path>"
	    "<path d=\"M2 28c3 0 3-1.6 6-1.6S11 28 14 28s3-1.6 6-1.6S23 28 26 28s2-1 4-1.4\"></path>"
	    "</svg>ferry-proxy</a>\n<nav aria-label=\"Pages\">\n");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		text_add(text, "<a href=\"%s\"%s>%s</a>\n", links[i].path,
		         strcmp(links[i].path, current) == 0 ? " aria-current=\"page\"" : "",
		         links[i].name);
	text_add(text, "</nav>\n</div></header>\n");
}

void page_begin(struct text *text, const char *title, const char *current)
{
	text_add(text,
	         "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	         "<meta name=\"color-scheme\" content=\"light dark\">\n<title>%s</title>\n"
	         "<link rel=\"icon\" href=\"/-/icon.svg\">\n"
	         "<link rel=\"stylesheet\" href=\"/-/style.css\">\n"
	         "<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n"
	         "<script src=\"/-/status.js\" defer=\"defer\"></script>\n</head>\n<body%s>\n",
	         title, current == NULL ? " class=\"framed\"" : "");
	if (current != NULL)
		add_links(text, current);
	text_add(text, "<main>\n");
}

void page_end(struct text *text)
{
	text_add(text, "</main>\n</body>\n</html>\n");
}

void page_add_text(struct text *text, const char *value)
{
	for (size_t start = 0; value[start] != '\0';) {
		size_t plain = strcspn(value + start, "&<>\"'");
		text_add_bytes(text, value + start, plain);
		start += plain;
		if (value[start] == '\0')
			return;
		text_add(text, "&#%d;", value[start]);
		start++;
	}
}

void page_add_duration(struct text *text, struct timeval from, struct timeval to)
{
	long long seconds = (long long)to.tv_sec - (long long)from.tv_sec;
	if (seconds < 0) /* the clock was set back */
		seconds = 0;
	if (seconds >= 86400)
		text_add(text, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
	else if (seconds >= 3600)
		text_add(text, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
	else if (seconds >= 60)
		text_add(text, "%lld min %lld s", seconds / 60, seconds % 60);
	else
		text_add(text, "%lld s", seconds);
}

void page_add_figure(struct text *text, const char *name, uint64_t value)
{
	text_add(text, "<div><dt>%s</dt><dd>%" PRIu64 "</dd></div>\n", name, value);
}
