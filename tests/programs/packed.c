/* Documents of any length are packed whole into windows: a transformer that looks at segments and
 * positions gives each document the logits that it has alone, and learns to continue it. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { DOCUMENTS = 150, LETTERS = 11, STEPS = 3, VOCAB = 1 + LETTERS + STEPS, LONGEST = 12 };
enum { WINDOW = 24, WIDTH = 32, HEADS = 2, BATCH = 8 };

/* Document i: its step d as a mark, then letters, each d behind the one before. 0 is padding. */
static int64_t write_document(int64_t i, int32_t *tokens)
{
    int64_t n = 3 + i * 7 % (LONGEST - 2), d = 1 + i % STEPS;
    tokens[0] = (int32_t)(LETTERS + d);
    for (int64_t k = 1; k < n; k++)
        tokens[k] = (int32_t)(1 + (i * 5 + k * d) % LETTERS);
    return n;
}

static fb_dataset *write_documents(fb_context *c, const char *folder)
{
    char path[256];
    fb_dataset_field field = {.name = "text", .dtype = FB_I32, .shape = FB_SCALAR, .varies = true};
    snprintf(path, sizeof path, "%s/documents.h5", folder);
    fb_dataset *ds = fb_dataset_create(c, path, &field, 1, NULL);
    for (int64_t i = 0; i < DOCUMENTS; i++) {
        int32_t tokens[LONGEST];
        int64_t n = write_document(i, tokens);
        fb_dataset_append_rows(ds, 1, (const void *const[]){tokens}, (const int64_t *const[]){&n});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    return fb_dataset_open(c, path);
}

/* --- the model --- */

typedef struct net {
    fb_module *token, *place, *ln1, *qkv, *proj, *ln2, *fc, *out, *head;
} net;

static const fb_field net_fields[] = {FB_CHILD(net, token), FB_CHILD(net, place),
                                      FB_CHILD(net, ln1),   FB_CHILD(net, qkv),
                                      FB_CHILD(net, proj),  FB_CHILD(net, ln2),
                                      FB_CHILD(net, fc),    FB_CHILD(net, out),
                                      FB_CHILD(net, head),  {0}};

typedef struct window {
    fb_tensor *tokens, *segment, *position; /* [n, T] */
} window;

static fb_tensor *heads(fb_tensor *x)
{
    fb_shape by_head = FB_SHAPE(fb_size(x, 0), fb_size(x, 1), HEADS, WIDTH / HEADS);
    return fb_permute(fb_reshape(x, by_head), FB_DIMS(0, 2, 1, 3));
}

/* [n, 1, T, T]: to earlier tokens of the same segment. */
static fb_tensor *mask_of(const window *w)
{
    fb_tensor *same = fb_eq(fb_unsqueeze(w->segment, 2), fb_unsqueeze(w->segment, 1));
    int64_t n = fb_size(w->segment, 1);
    fb_tensor *past = fb_tril(fb_ones(fb_context_of(same), FB_BOOL, FB_SHAPE(n, n)), 0);
    return fb_unsqueeze(fb_logical_and(same, past), 1);
}

static fb_tensor *net_call(fb_module *m, void *args)
{
    net *g = fb_nn_self(m);
    const window *w = args;
    fb_tensor *qkv[3];
    fb_tensor *x = fb_add(fb_nn_forward(g->token, w->tokens), fb_nn_forward(g->place, w->position));
    fb_chunk(fb_nn_forward(g->qkv, fb_nn_forward(g->ln1, x)), 3, 2, qkv);
    fb_tensor *y = fb_scaled_dot_product_attention(heads(qkv[0]), heads(qkv[1]), heads(qkv[2]),
                                                   FB_OPTS(fb_sdpa_options, .mask = mask_of(w)));
    y = fb_flatten(fb_permute(y, FB_DIMS(0, 2, 1, 3)), 2, 3);
    x = fb_add(x, fb_nn_forward(g->proj, y));
    y = fb_gelu(fb_nn_forward(g->fc, fb_nn_forward(g->ln2, x)));
    return fb_nn_forward(g->head, fb_add(x, fb_nn_forward(g->out, y)));
}

static fb_module *net_open(fb_context *c)
{
    static const fb_module_type type = {.name = "Net", .size = sizeof(net), .fields = net_fields};
    net g = {.token = fb_nn_embedding(c, VOCAB, WIDTH, NULL),
             .place = fb_nn_embedding(c, WINDOW, WIDTH, NULL),
             .ln1 = fb_nn_layer_norm(c, FB_SHAPE(WIDTH), NULL),
             .qkv = fb_nn_linear(c, WIDTH, 3 * WIDTH, NULL),
             .proj = fb_nn_linear(c, WIDTH, WIDTH, NULL),
             .ln2 = fb_nn_layer_norm(c, FB_SHAPE(WIDTH), NULL),
             .fc = fb_nn_linear(c, WIDTH, 4 * WIDTH, NULL),
             .out = fb_nn_linear(c, 4 * WIDTH, WIDTH, NULL),
             .head = fb_nn_linear(c, WIDTH, VOCAB, NULL)};
    return fb_nn_new(c, &type, &g);
}

/* --- packed --- */

static window window_of(fb_loader *l, const fb_batch *b)
{
    return (window){b->input, fb_loader_field(l, "segment"), fb_loader_field(l, "position")};
}

static double train(fb_context *c, fb_loader *l, fb_module *m, int64_t epochs)
{
    fb_optimizer *opt = fb_optim_adamw(c, m, FB_OPTS(fb_adamw_options, .lr = 3e-3));
    fb_meter *mean = fb_meter_open(c, "loss");
    while (fb_loader_epoch(l, epochs)) {
        fb_batch b;
        fb_meter_reset(mean);
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(c);
            window w = window_of(l, &b);
            fb_tensor *logits = fb_flatten(fb_nn_call(m, net_call, &w), 0, 1);
            fb_tensor *loss = fb_cross_entropy(logits, fb_flatten(b.target, 0, 1), NULL);
            fb_backward(loss);
            fb_optim_step(opt);
            fb_meter_add(mean, loss, (double)b.n);
        }
    }
    return fb_meter_mean(mean);
}

/* How far the logits of a piece of a window are from those of the same tokens alone. */
static double alone_differs(fb_context *c, fb_module *m, const window *w, fb_tensor *logits,
                            int64_t begin, int64_t n)
{
    fb_tensor *zeros = fb_zeros(c, FB_I32, FB_SHAPE(1, n));
    window one = {fb_narrow(w->tokens, 1, begin, n), zeros,
                  fb_unsqueeze(fb_arange(c, FB_I32, 0, (double)n, 1), 0)};
    fb_tensor *alone = fb_nn_call(m, net_call, &one);
    return fb_item(fb_max(fb_abs(fb_sub(fb_narrow(logits, 1, begin, n), alone))));
}

typedef struct judged {
    int64_t pieces, right, asked;
    double apart;
} judged;

/* The documents of one window. */
static void judge_window(fb_context *c, fb_module *m, const window *w, fb_tensor *target,
                         judged *to)
{
    fb_tensor *logits = fb_nn_call(m, net_call, (void *)w);
    const int32_t *segment = fb_data(fb_contiguous(w->segment));
    const int32_t *wanted = fb_data(fb_contiguous(target));
    const int64_t *said = fb_data(fb_contiguous(fb_argmax(logits, 2, false)));
    for (int64_t at = 0, n; at < WINDOW && segment[at] >= 0; at += n) {
        for (n = 1; at + n < WINDOW && segment[at + n] == segment[at];)
            n++;
        to->apart = fmax(to->apart, alone_differs(c, m, w, logits, at, n));
        to->pieces++;
        for (int64_t k = at + 1; k < at + n - 1; k++, to->asked++) /* from the first letter on */
            to->right += said[k] == wanted[k];
    }
}

static judged judge(fb_context *c, fb_loader *l, fb_module *m)
{
    judged to = {0};
    fb_batch b;
    fb_nn_eval(m);
    for (fb_loader_rewind(l); fb_loader_next(l, &b);)
        for (int64_t i = 0; i < b.n; i++) {
            FB_SCOPE(c);
            fb_no_grad(c);
            window all = window_of(l, &b);
            window w = {fb_narrow(all.tokens, 0, i, 1), fb_narrow(all.segment, 0, i, 1),
                        fb_narrow(all.position, 0, i, 1)};
            judge_window(c, m, &w, fb_narrow(b.target, 0, i, 1), &to);
        }
    return to;
}

int main(void)
{
    char folder[] = "/tmp/flambeau-packed-XXXXXX", path[300];
    if (!mkdtemp(folder))
        return 1;
    fb_context *c = fb_context_open(NULL);
    fb_dataset *ds = write_documents(c, folder);
    fb_dataset *pack = fb_dataset_pack(ds, WINDOW,
                                       FB_OPTS(fb_pack_options, .field = "text", .shuffle = true,
                                               .separate = true, .whole = true));
    fb_loader *l = fb_loader_open(
        NULL, pack, FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true));
    fb_module *m = net_open(c);
    double loss = train(c, l, m, 60);
    judged got = judge(c, l, m);
    expect(fb_dataset_padding(pack) < 0.2, "%.1f %% of the windows are padding",
           100 * fb_dataset_padding(pack));
    expect(got.pieces == DOCUMENTS, "%lld documents, each in one piece", (long long)got.pieces);
    expect(got.apart < 1e-4, "each has the logits that it has alone: %g apart", got.apart);
    expect((double)got.right > 0.98 * (double)got.asked,
           "%lld of %lld letters are continued rightly, the loss is %.3f", (long long)got.right,
           (long long)got.asked, loss);
    int status = fb_context_close(c) || failures;
    snprintf(path, sizeof path, "rm -rf '%s'", folder);
    return system(path) || status;
}
