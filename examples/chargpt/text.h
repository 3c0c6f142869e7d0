/* A text file as numbers, and windows of it as a dataset. */
#ifndef EXAMPLES_CHARGPT_TEXT_H
#define EXAMPLES_CHARGPT_TEXT_H

#include <flambeau/flambeau.h>

typedef struct text {
    int64_t n, vocab;         /* characters; different ones */
    int64_t *ids;             /* [n] */
    unsigned char chars[256]; /* of each id */
} text;

/* Windows of a part of a text: input [context], and target the same one character later. */
typedef struct windows {
    const text *text;
    int64_t begin, end, stride, context;
} windows;

/* Reads a file; false after a message. */
bool text_read(const char *path, text *t);
void text_free(text *t);
int64_t windows_count(const windows *w);
/* A dataset that reads from `w`, which must outlive it. */
fb_dataset *windows_open(fb_context *ctx, windows *w);

#endif
