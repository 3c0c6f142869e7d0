/* Texts as tokens of GPT-2's byte-level encoding: a sample is a document, or a number of tokens of
 * the stream of all documents with those that follow as target. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/bpe_priv.h"
#include "launch/import_priv.h"

/* What is converted, and where it goes. */
typedef struct text_job {
    const fbi_import *job;
    fb_context *ctx;
    fbi_bpe *bpe;
    fb_dataset *ds;
    fbi_tokens tokens;
    int64_t n, begin, end; /* documents so far; those of this rank */
} text_job;

static bool open_bpe(text_job *t)
{
    char text[256];
    size_t bytes;
    char *vocab = fbi_read_file(t->ctx, t->job->vocab, &bytes);
    char *merges = vocab ? fbi_read_file(t->ctx, t->job->merges, &bytes) : NULL;
    if (merges && !(t->bpe = fbi_bpe_new(vocab, merges, text, sizeof text)))
        fb_fail(t->ctx, FB_E_IO, "import %s, %s: %s", t->job->vocab, t->job->merges, text);
    free(vocab);
    free(merges);
    if (t->bpe && t->job->length && fbi_bpe_end(t->bpe) < 0)
        fb_fail(t->ctx, FB_E_IO, "import %s: has no token <|endoftext|> to put between documents",
                t->job->vocab);
    return t->bpe && fb_ok(t->ctx);
}

/* Samples of `length` tokens that the stream has, with the one behind each. */
static bool add_windows(text_job *t)
{
    int64_t length = t->job->length, n = (t->tokens.n - 1) / length;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t *at = t->tokens.token + i * length;
        if (fb_dataset_append(t->ds, 1, (const void *const[]){at, at + 1}))
            return false;
    }
    if (n > 0) { /* the rest waits for the next document */
        memmove(t->tokens.token, t->tokens.token + n * length,
                (size_t)(t->tokens.n - n * length) * sizeof *t->tokens.token);
        t->tokens.n -= n * length;
    }
    return true;
}

static bool add_document(text_job *t, const char *text, size_t bytes)
{
    int64_t number = t->n++;
    if (number < t->begin || number >= t->end)
        return true;
    bool good = fbi_bpe_encode(t->bpe, text, bytes, &t->tokens) &&
                (!t->job->length || fbi_tokens_add(&t->tokens, fbi_bpe_end(t->bpe)));
    if (!good) {
        fb_fail(t->ctx, FB_E_NOMEM, "import: no memory for the tokens of a document");
        return false;
    }
    fbi_progress_add(t->job->progress, 1);
    if (t->job->length)
        return add_windows(t);
    good = !fb_dataset_append_rows(t->ds, 1, (const void *const[]){t->tokens.token},
                                   (const int64_t *const[]){&t->tokens.n});
    t->tokens.n = 0;
    return good;
}

/* Where a document ends, and where the next one begins. */
static const char *end_of(const char *at, const char *end, const char *kind, const char **next)
{
    const char *mark = !strcmp(kind, "line") ? "\n" : "\n\n";
    const char *stop = memmem(at, (size_t)(end - at), mark, strlen(mark));
    *next = stop ? stop + strlen(mark) : end;
    while (stop && *next < end && **next == '\n')
        ++*next;
    return stop ? stop : end;
}

/* Adds every document of a file, or only counts them. */
static bool each_document(text_job *t, const char *path, bool count)
{
    const char *kind = t->job->documents ? t->job->documents : "file";
    size_t bytes;
    char *text = fbi_read_file(t->ctx, path, &bytes);
    bool good = text != NULL;
    const char *end = good ? text + bytes : NULL, *stop, *next;
    for (const char *at = text; good && at < end; at = next) {
        stop = next = end;
        if (strcmp(kind, "file"))
            stop = end_of(at, end, kind, &next);
        if (count)
            t->n += stop > at;
        else if (stop > at)
            good = add_document(t, at, (size_t)(stop - at));
    }
    free(text);
    return good;
}

static bool each_file(text_job *t, bool count)
{
    bool good = true;
    t->n = 0;
    for (int i = 0; good && i < t->job->n_inputs; i++)
        good = each_document(t, t->job->inputs[i], count);
    return good;
}

int fbi_import_text(const fbi_import *job, fb_context *ctx)
{
    text_job t = {.job = job, .ctx = ctx};
    bool good = open_bpe(&t) && each_file(&t, true);
    const fb_dataset_field documents = {.name = "input", .dtype = FB_U16, .varies = true};
    const fb_dataset_field windows[] = {
        {.name = "input", .dtype = FB_U16, .shape = FB_SHAPE(job->length)},
        {.name = "target", .dtype = FB_U16, .shape = FB_SHAPE(job->length)}};
    t.ds = fbi_import_create(job, ctx, job->length ? windows : &documents, job->length ? 2 : 1);
    fbi_import_range(job, t.n, &t.begin, &t.end);
    if (t.ds && job->rank == 0)
        fbi_progress_begin(job->progress, "documents", t.end - t.begin);
    if (good && t.ds)
        each_file(&t, false);
    free(t.tokens.token);
    fbi_bpe_free(t.bpe);
    return fbi_import_finish(t.ds);
}
