/* An LSTM that reads a text piece by piece (truncated backpropagation): its state goes on from one
 * piece to the next, its gradient does not. */
#include <math.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { ROWS = 4, PIECE = 7, PIECES = 6, VOCAB = 5, WIDTH = 24, EPOCHS = 60 };

/* Letter t of row r: the period of a row is longer than a piece, so that only its state tells which
 * part of it comes next. */
static int64_t letter(int64_t r, int64_t t)
{
    static const char pattern[] = "abcdeabcdaabceaabdeabbcde";
    return pattern[(t + 6 * r) % (int64_t)strlen(pattern)] - 'a';
}

/* Sample i * ROWS + r is piece i of row r, so that a batch has the same piece of all rows. */
static int read_piece(void *user, int64_t i, void *const *out)
{
    int64_t *x = out[0], *y = out[1];
    (void)user;
    for (int64_t k = 0; k < PIECE; k++) {
        x[k] = letter(i % ROWS, i / ROWS * PIECE + k);
        y[k] = letter(i % ROWS, i / ROWS * PIECE + k + 1);
    }
    return 0;
}

static fb_loader *open_loader(fb_context *c)
{
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_I64, .shape = FB_SHAPE(PIECE)},
                                 {.name = "target", .dtype = FB_I64, .shape = FB_SHAPE(PIECE)}};
    fb_dataset *ds = fb_dataset_custom(c, ROWS * PIECES, fields, 2, read_piece, NULL);
    return fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = ROWS));
}

typedef struct model {
    fb_module *emb, *lstm, *head;
} model;

static const fb_field model_fields[] = {
    FB_CHILD(model, emb), FB_CHILD(model, lstm), FB_CHILD(model, head), {0}};
static const fb_module_type model_type = {
    .name = "Reader", .size = sizeof(model), .fields = model_fields};

/* The mean loss of one epoch. `carry`: the state goes on from piece to piece. */
static double epoch(fb_context *c, fb_loader *l, fb_module *whole, fb_optimizer *opt, bool carry)
{
    model *m = fb_nn_self(whole);
    fb_tensor *h = NULL, *s = NULL;
    fb_batch b;
    double sum = 0;
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(c);
        fb_tensor *y, *h1, *s1, *x = fb_nn_forward(m->emb, b.input);
        fb_tensors in = h ? FB_TENSORS(x, h, s) : FB_TENSORS(x);
        if (fb_nn_forward_n(m->lstm, in, FB_OUTS(&y, &h1, &s1)))
            break;
        fb_tensor *logits = fb_nn_forward(m->head, fb_flatten(y, 0, 1));
        fb_tensor *loss = fb_cross_entropy(logits, fb_flatten(b.target, 0, 1), NULL);
        fb_backward(loss);
        fb_optim_step(opt);
        sum += fb_item(loss) / PIECES;
        fb_set(&h, carry ? fb_detach(h1) : NULL);
        fb_set(&s, carry ? fb_detach(s1) : NULL);
    }
    fb_set(&h, NULL);
    fb_set(&s, NULL);
    return sum;
}

static double train(fb_context *c, bool carry, double *first)
{
    model m = {.emb = fb_nn_embedding(c, VOCAB, 8, NULL),
               .lstm = fb_nn_lstm(c, 8, WIDTH, FB_OPTS(fb_rnn_options, .batch_first = true)),
               .head = fb_nn_linear(c, WIDTH, VOCAB, NULL)};
    fb_module *whole = fb_nn_new(c, &model_type, &m);
    fb_optimizer *opt = fb_optim_adam(c, whole, FB_OPTS(fb_adam_options, .lr = 0.01));
    fb_loader *l = open_loader(c);
    double last = NAN;
    *first = NAN;
    while (fb_loader_epoch(l, EPOCHS)) {
        last = epoch(c, l, whole, opt, carry);
        if (isnan(*first))
            *first = last;
    }
    return last;
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    double first, alone_first;
    double last = train(c, true, &first), alone = train(c, false, &alone_first);
    expect(fabs(first - log(VOCAB)) < 0.3, "an untrained model knows nothing: %g", first);
    expect(last < 0.2, "the loss falls to %g", last);
    expect(last < 0.5 * alone, "without the state of the piece before only to %g", alone);
    fb_memory_stats stats;
    fb_memory_stats_of(c, &stats);
    expect(stats.nodes < 20, "no piece's graph is left: %lld nodes", (long long)stats.nodes);
    return fb_context_close(c) || failures;
}
