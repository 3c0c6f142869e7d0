/* `flambeau ops`: the table of operators, as the library reads it (core/ops/ops.def) and as it
 * runs: what dtypes a row takes and how often it can be differentiated is found by calling it with
 * its samples. */
#include "launch/commands_priv.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/op.h>

#include "core/ops/sample_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUTS = 16, VALUES = 4096 };

typedef struct row {
    const fbi_opdef *def;
    fbi_samples *samples; /* NULL: of a row that only backwards use */
    int good, bad;
    unsigned dtypes; /* bit d: it takes dtype d */
    int orders;      /* of derivatives: 0, 1, 2 (there are two of them) */
} row;

static const struct {
    fb_dtype dtype;
    const char *name;
} dtypes[] = {{FB_F32, "F32"}, {FB_F64, "F64"}, {FB_F16, "F16"},  {FB_BF16, "BF16"},
              {FB_I64, "I64"}, {FB_I32, "I32"}, {FB_I16, "I16"},  {FB_I8, "I8"},
              {FB_U16, "U16"}, {FB_U8, "U8"},   {FB_BOOL, "BOOL"}};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0], FLOATS = 4, INTEGERS = 10 };

/* Why a row has no kernel on cards; NULL: it has. */
static const char *missing_on_cards(const fbi_opdef *def)
{
    if (!(def->flags & FBI_LAPACK))
        return NULL;
    return def->compose ? "LAPACK does some of what it is made of" : "LAPACK does it";
}

/* --- calling samples --- */

static fb_tensor *input(fb_context *ctx, const fbi_sample_in *in, fb_dtype dtype, uint32_t *seed)
{
    static double v[VALUES];
    if (fb_shape_numel(in->shape) > VALUES)
        return NULL;
    fbi_sample_values(in, fb_dtype_is_float(dtype), v, seed);
    fb_tensor *t = fb_from(ctx, FB_F64, in->shape, v);
    return t ? fb_detach(fb_to(t, dtype)) : NULL;
}

/* The dtype of the inputs that a sample leaves open, or else of its first one: what is looked at.
 */
static fb_dtype varied(const fbi_sample *s)
{
    for (int i = 0; i < s->n_in; i++)
        if (!s->in[i].absent && !s->in[i].dtype)
            return (fb_dtype)0;
    return s->in[0].dtype;
}

/* Inputs of the sample; those that are looked at get `dtype`. */
static bool inputs(fb_context *ctx, const fbi_sample *s, fb_dtype dtype, fb_tensor **in)
{
    uint32_t seed = 1;
    for (int i = 0; i < s->n_in; i++) {
        const fbi_sample_in *d = &s->in[i];
        in[i] = NULL;
        if (d->absent)
            continue;
        in[i] = input(ctx, d, d->dtype == varied(s) ? dtype : d->dtype, &seed);
        if (!in[i])
            return false;
    }
    return true;
}

static void forget_error(fb_context *ctx)
{
    char text[8];
    (void)fb_error_take(ctx, text, sizeof text);
}

static bool takes(fb_context *ctx, const row *r, const fbi_sample *s, fb_dtype dtype)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS], *out[OUTPUTS];
    bool fine;
    {
        FB_SCOPE(ctx);
        fine = inputs(ctx, s, dtype, in) &&
               fbi_run(ctx, r->def->op, s->attrs, in, s->n_in, out) == FB_OK;
    }
    forget_error(ctx);
    return fine;
}

/* The gradients of the floats among `of` with respect to those of `wrt`, as what replaces `of`; how
 * many there are. */
static int differentiate(fb_context *ctx, fb_tensor **of, int n, fb_tensor **wrt, int m)
{
    fb_tensor *y[OUTPUTS + FBI_SAMPLE_INPUTS], *seeds[OUTPUTS + FBI_SAMPLE_INPUTS];
    fb_tensor *g[FBI_SAMPLE_INPUTS] = {NULL};
    int k = 0, found = 0;
    for (int i = 0; i < n; i++) {
        if (!of[i] || !fb_needs_grad(of[i]))
            continue;
        fbi_attrs_full_like one = {.value = 1};
        y[k] = of[i];
        if (fbi_run(ctx, FBI_OP_full_like, &one, &of[i], 1, &seeds[k]))
            return 0;
        k++;
    }
    fb_gradient_options o = {.seeds = {seeds, k}, .create_graph = true, .allow_unused = true};
    if (!k || fb_gradients((fb_tensors){y, k}, (fb_tensors){wrt, m}, &o, g))
        return 0;
    for (int i = 0; i < m; i++)
        if (g[i])
            of[found++] = g[i];
    return found;
}

/* How often the sample can be differentiated: 0, 1 or 2. A gradient that does not depend on the
 * inputs is 0 from then on. */
static int orders_of(fb_context *ctx, const row *r, const fbi_sample *s)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS], *out[OUTPUTS + FBI_SAMPLE_INPUTS], *wrt[FBI_SAMPLE_INPUTS];
    int m = 0, n = r->def->n_out, order = 0;
    FB_SCOPE(ctx);
    if (!inputs(ctx, s, FB_F64, in))
        return 0;
    for (int i = 0; i < s->n_in; i++)
        if (in[i] && fb_dtype_of(in[i]) == FB_F64 && !s->in[i].constant)
            wrt[m++] = fb_requires_grad(in[i], true);
    if (!m || fbi_run(ctx, r->def->op, s->attrs, in, s->n_in, out))
        return 0;
    n = differentiate(ctx, out, n, wrt, m);
    order = n > 0;
    if (order && (differentiate(ctx, out, n, wrt, m) > 0 || fb_ok(ctx)))
        order = 2;
    return order;
}

static void look_at(fb_context *ctx, row *r)
{
    for (int i = 0; i < r->samples->n; i++) {
        const fbi_sample *s = &r->samples->s[i];
        if (s->status) {
            r->bad++;
            continue;
        }
        r->good++;
        for (int d = 0; d < DTYPES && s->n_in; d++)
            if (!(r->dtypes & 1u << d) && takes(ctx, r, s, dtypes[d].dtype))
                r->dtypes |= 1u << d;
        int orders = r->orders < 2 ? orders_of(ctx, r, s) : 2;
        forget_error(ctx);
        r->orders = orders > r->orders ? orders : r->orders;
    }
}

/* --- printing --- */

static void print_dtypes(const row *r)
{
    char text[64] = "";
    size_t at = 0;
    unsigned floats = (1u << FLOATS) - 1, integers = (1u << INTEGERS) - 1 - floats;
    unsigned left = r->dtypes;
    bool runs = !(r->def->flags & FBI_LAPACK) || fbi_cpu_has_lapack();
    if ((left & floats) == floats) {
        at += (size_t)snprintf(text + at, sizeof text - at, "floats ");
        left &= ~floats;
    }
    if ((left & integers) == integers) {
        at += (size_t)snprintf(text + at, sizeof text - at, "integers ");
        left &= ~integers;
    }
    for (int d = 0; d < DTYPES; d++)
        if (left & 1u << d)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s ", dtypes[d].name);
    if (!r->dtypes)
        snprintf(text, sizeof text, "%s", !runs ? "no LAPACK" : "as asked");
    printf(" %-22s", text);
}

static void print_row(const row *r)
{
    static const char *const derivatives[] = {"none", "once", "twice"};
    const fbi_opdef *def = r->def;
    char inputs[8] = "any";
    if (!(def->flags & FBI_VARIADIC))
        snprintf(inputs, sizeof inputs, "%d", def->n_in);
    printf("%-32s %-3s %-3d %-8s", def->name, inputs, def->n_out,
           missing_on_cards(def) ? "cpu" : "cpu cuda");
    if (r->samples) {
        print_dtypes(r);
        printf(" %-6s %3d %3d ", derivatives[r->orders], r->good, r->bad);
    } else {
        printf(" %-22s %-6s %3s %3s ", "", "", "", "");
    }
    printf("%s%s%s%s%s\n", def->compose ? " composed" : "", def->flags & FBI_VIEW ? " view" : "",
           def->flags & FBI_RANDOM ? " random" : "",
           def->flags & FBI_COUPLES ? " couples-samples" : "",
           def->flags & FBI_THREAD_BITS ? " bits-by-thread-count" : "");
}

static void print_missing(bool inner)
{
    int n = 0;
    printf("\nwithout a kernel on cards:\n");
    for (int i = 1; i < FBI_OP_COUNT; i++) {
        const fbi_opdef *def = &fbi_opdefs[i];
        const char *why = (def->flags & FBI_INNER) && !inner ? NULL : missing_on_cards(def);
        if (why)
            printf("%-32s %s\n", def->name, why);
        n += why != NULL;
    }
    printf("%d operators\n", n);
}

static int print_all(fb_context *ctx, bool inner)
{
    fbi_samples *samples = malloc(sizeof *samples);
    int n = 0;
    if (!samples)
        return FBI_EXIT_FAILED;
    printf("%-32s %-3s %-3s %-8s %-22s %-6s %3s %3s  %s\n", "operator", "in", "out", "devices",
           "dtypes", "deriv.", "ok", "bad", "traits");
    for (int i = 1; i < FBI_OP_COUNT; i++) {
        row r = {.def = &fbi_opdefs[i]};
        if ((r.def->flags & FBI_INNER) && !inner)
            continue;
        if (r.def->sample) {
            memset(samples, 0, sizeof *samples);
            samples->op = r.def;
            r.def->sample(samples);
            r.samples = samples;
            look_at(ctx, &r);
        }
        print_row(&r);
        n++;
    }
    free(samples);
    printf("%d operators\n", n);
    print_missing(inner);
    return FBI_EXIT_OK;
}

int fbi_cmd_ops(int argc, char **argv)
{
    bool inner = argc == 2 && !strcmp(argv[1], "--inner");
    if (argc == 2 && !strcmp(argv[1], "--count")) {
        printf("%d\n", fb_op_count());
        return FBI_EXIT_OK;
    }
    if (argc > 1 && !inner) {
        printf(
            "flambeau ops [--inner | --count]: of every operator its name, inputs, outputs and "
            "devices; the\ndtypes that it computes with and whether it can be differentiated "
            "twice, "
            "both as its samples find\nthem here; how many samples the tests have that must "
            "work (ok) and must be refused (bad).\n--inner adds those that only backwards use\n");
        return strcmp(argv[1], "--help") ? FBI_EXIT_USAGE : FBI_EXIT_OK;
    }
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 1));
    if (!ctx)
        return FBI_EXIT_FAILED;
    int code = print_all(ctx, inner);
    fb_context_close(ctx);
    return code;
}
