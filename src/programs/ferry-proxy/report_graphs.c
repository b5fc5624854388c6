/* The graphs of the status page: a curve that fills the width of its card, with its numbers beside it as text. */

#include "programs/ferry-proxy/report_graphs.h"

#include <stdio.h>

/* The coordinates of the picture; the page stretches it. */
enum { WIDTH = 298, HEIGHT = 50 };

static const struct {
	const char *name;
	const char *unit;
	double divisor;
} graphs[HISTORY_SERIES] = {
    [HISTORY_REQUESTS] = {"Requests", "/s", 1},
    [HISTORY_HANDOFFS] = {"Handoffs", "/s", 1},
    [HISTORY_CLAIMS] = {"Claims", "/s", 1},
    [HISTORY_RETRIES] = {"Retries", "/s", 1},
    [HISTORY_QUEUE] = {"Queue", "", 1},
    [HISTORY_MEMORY] = {"Memory", "MiB", 1024.0 * 1024.0},
};

/* "0", "0.5", "12.3", "1234". */
static void add_value(struct text *text, enum history_series series, double value)
{
	double shown = value / graphs[series].divisor;
	bool whole = shown >= 1000 || shown - (double)(long long)shown < 0.05;
	text_add(text, whole ? "%.0f" : "%.1f", shown);
	if (graphs[series].unit[0] != '\0')
		text_add(text, " %s", graphs[series].unit);
}

/* The newest point is at the right edge. */
static void add_points(struct text *text, const double *points, unsigned int count, double most)
{
	for (unsigned int i = 0; i < count; i++)
		text_add(text, "%s%u,%.1f", i > 0 ? " " : "",
		         (HISTORY_SAMPLES - count + i) * WIDTH / (HISTORY_SAMPLES - 1),
		         HEIGHT - points[i] / most * (HEIGHT - 2));
}

static void add_curve(struct text *text, const double *points, unsigned int count, double most)
{
	unsigned int left = (HISTORY_SAMPLES - count) * WIDTH / (HISTORY_SAMPLES - 1);
	text_add(text, "<polygon class=\"area\" points=\"%u,%d ", left, HEIGHT);
	add_points(text, points, count, most);
	text_add(text, " %d,%d\"></polygon>\n<polyline class=\"curve\" points=\"", WIDTH, HEIGHT);
	add_points(text, points, count, most);
	text_add(text, "\"></polyline>\n");
}

static void add_graph(struct text *text, enum history_series series, const double *points,
                      unsigned int count)
{
	double most = 0;
	for (unsigned int i = 0; i < count; i++)
		most = points[i] > most ? points[i] : most;
	double now = count > 0 ? points[count - 1] : 0;
	text_add(text, "<li class=\"card graph\">\n<h3>%s <span class=\"number\">",
	         graphs[series].name);
	add_value(text, series, now);
	text_add(text,
	         "</span></h3>\n<svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" "
	         "aria-hidden=\"true\">\n<line class=\"floor\" x1=\"0\" y1=\"%d\" x2=\"%d\" "
	         "y2=\"%d\"></line>\n",
	         WIDTH, HEIGHT, HEIGHT, WIDTH, HEIGHT);
	if (count > 1)
		add_curve(text, points, count, most > 0 ? most : 1);
	text_add(text, "</svg>\n<small><span>5 minutes</span><span>most ");
	add_value(text, series, most);
	text_add(text, "</span></small>\n</li>\n");
}

void report_add_graphs(struct text *text, const struct history *history)
{
	double points[HISTORY_SAMPLES] = {0};
	text_add(text, "<section>\n<h2>The last minutes</h2>\n<ul class=\"cards wide\">\n");
	for (unsigned int i = 0; i < HISTORY_SERIES; i++)
		add_graph(text, i, points, history_points(history, i, points));
	text_add(text, "</ul>\n</section>\n");
}
