/* Collecting samples. */
#include "core/ops/sample_priv.h"

#include <string.h>

void fbi_sample_bad(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in,
                    fb_status status, const char *text)
{
    if (s->n == FBI_SAMPLES_MAX || n_in > FBI_SAMPLE_INPUTS ||
        s->op->attrs_bytes > FBI_SAMPLE_ATTRS)
        return;
    fbi_sample *to = &s->s[s->n++];
    if (attrs)
        memcpy(to->attrs, attrs, s->op->attrs_bytes);
    to->n_in = n_in;
    for (int i = 0; i < n_in; i++)
        to->in[i] = in[i];
    to->status = status;
    to->text = text;
}

void fbi_sample_add(fbi_samples *s, const void *attrs, int n_in, const fbi_sample_in *in)
{
    fbi_sample_bad(s, attrs, n_in, in, FB_OK, "");
}
