/* Attention and transformers against numbers of PyTorch 2.15, and against themselves. */
#include "tests/core/nn/wave_priv.h"

#include <flambeau/core/nn/transformer.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/view.h>

enum { T = 3, S = 5, N = 2, E = 4, H = 2 };

static fb_tensor *queries(fb_context *ctx)
{
    return fb_requires_grad(wave(ctx, FB_SHAPE(T, N, E), 1, 0.9, 0.2), true);
}

static fb_tensor *memories(fb_context *ctx, int64_t features)
{
    return fb_requires_grad(wave(ctx, FB_SHAPE(S, N, features), 1, 0.6, 1), true);
}

/* True where keys must not be looked at. */
static fb_tensor *padding(fb_context *ctx)
{
    const uint8_t pad[N * S] = {0, 0, 0, 0, 1, 0, 1, 0, 0, 0};
    return fb_from(ctx, FB_BOOL, FB_SHAPE(N, S), pad);
}

/* Digests of y and the weights, then of the gradients of two inputs and the parameters. */
static void expect(fb_module *m, fb_tensor *y, fb_tensor *w, fb_tensor *a, fb_tensor *b,
                   const double want[5], size_t at)
{
    check_ok(fb_nn_context(m));
    fb_tensor *loss = w ? fb_add(digested(y), digested(w)) : digested(y);
    assert_int_equal(fb_backward(loss), FB_OK);
    close_to(digest(y), want[0], "y", at);
    close_to(digest(w), want[1], "the weights", at);
    close_to(digest(fb_grad_of(a)), want[2], "the gradient of x", at);
    close_to(digest(b ? fb_grad_of(b) : NULL), want[3], "the gradient of the memory", at);
    close_to(gradient_digest(m), want[4], "the parameters' gradient", at);
}

static void attention_computes_what_pytorch_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const struct {
        fb_mha_options o;
        bool weights, pads, causal;
        double want[5];
    } cases[] = {
        {{.kdim = 0},
         false,
         false,
         false,
         {-3.1039618848, 0, -5.99092829352, 6.58351174814, -6.34030412512}},
        {{.kdim = 0},
         true,
         true,
         false,
         {-4.70751289523, -0.0945690527784, -5.6602759606, 8.66505731532, -6.42474699581}},
        {{.kdim = 3, .vdim = 5, .no_bias = true},
         false,
         false,
         true,
         {4.90114098858, 0, 0.260995886946, 0.740800274269, 6.69746815476}},
        {{.add_bias_kv = true, .add_zero_attn = true},
         true,
         true,
         true,
         {-8.81720056494, 2.16251312334, -0.393249582803, 7.70150865885, 4.20774037132}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FB_SCOPE(ctx);
        fb_module *m = waved(fb_nn_multihead_attention(ctx, E, H, &cases[i].o));
        fb_tensor *q = queries(ctx), *k = memories(ctx, cases[i].o.kdim ? cases[i].o.kdim : E);
        fb_tensor *v = cases[i].o.vdim ? memories(ctx, cases[i].o.vdim) : k, *w = NULL;
        fb_attend_options o = {.padding = cases[i].pads ? padding(ctx) : NULL,
                               .causal = cases[i].causal};
        fb_tensor *y = fb_nn_attend(m, q, k, v, &o, cases[i].weights ? &w : NULL);
        expect(m, y, w, q, k, cases[i].want, i);
        fb_nn_close(m);
    }
    check_close(ctx);
}

static void layers_compute_what_pytorch_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const fb_transformer_options post = {.ff = 6},
                                 pre = {.ff = 6, .norm_first = true, .gelu = true};
    const fb_attend_options causal = {.causal = true};
    const double encoded[2][5] = {{-1.22274132938, 0, 0.355793947835, 0, 3.87145519493},
                                  {-4.23558704886, 0, 14.6067285428, 0, -10.50731651}};
    const double decoded[2][5] = {
        {-1.79033882565, 0, -0.0358818109839, 1.12653153607, 1.86678157885},
        {5.88775012839, 0, 8.21887456295, 3.37851738271, 8.14230090325}};
    for (size_t i = 0; i < 2; i++) {
        FB_SCOPE(ctx);
        fb_module *e = waved(fb_nn_transformer_encoder_layer(ctx, E, H, i ? &pre : &post));
        fb_tensor *x = queries(ctx);
        expect(e, fb_nn_transformer_encode(e, x, i ? &causal : NULL), NULL, x, NULL, encoded[i], i);
        fb_module *d = waved(fb_nn_transformer_decoder_layer(ctx, E, H, i ? &pre : &post));
        fb_attend_options cross = {.padding = padding(ctx)};
        fb_tensor *memory = memories(ctx, E);
        x = queries(ctx);
        expect(d, fb_nn_transformer_decode(d, x, memory, &causal, &cross), NULL, x, memory,
               decoded[i], 2 + i);
        fb_nn_close(e);
        fb_nn_close(d);
    }
    fb_module *t = waved(fb_nn_transformer(ctx, E, H, 2, 1, &post));
    fb_tensor *source = memories(ctx, E), *target = queries(ctx);
    expect(t, fb_nn_transformer_apply(t, source, target, NULL, &causal, NULL), NULL, source, target,
           ((double[]){-0.0661921172619, 0, -3.38391176337e-06, -0.0918546994831, -0.664917503634}),
           4);
    check_close(ctx);
}

static double distance(fb_tensor *a, fb_tensor *b)
{
    return fb_item(fb_max(fb_abs(fb_sub(a, b))));
}

/* What makes no difference: the layout, the way to call, whether weights are stored. */
static void ways_to_call_agree(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = waved(fb_nn_multihead_attention(ctx, E, H, NULL));
    fb_module *first =
        waved(fb_nn_multihead_attention(ctx, E, H, FB_OPTS(fb_mha_options, .batch_first = true)));
    fb_tensor *q = wave(ctx, FB_SHAPE(T, N, E), 1, 0.9, 0.2),
              *k = wave(ctx, FB_SHAPE(S, N, E), 1, 0.6, 1);
    fb_tensor *mask = wave(ctx, FB_SHAPE(T, S), 1, 0.3, 0), *w = NULL, *each = NULL, *z = NULL;
    fb_attend_options o = {.mask = mask, .padding = padding(ctx)};
    fb_tensor *y = fb_nn_attend(m, q, k, k, &o, NULL);
    assert_true(distance(y, fb_nn_attend(m, q, k, k, &o, &w)) < 1e-12);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(q, k, k, o.padding, mask), FB_OUTS(&z)), FB_OK);
    assert_true(distance(y, z) == 0);
    fb_tensor *qt = fb_transpose(q, 0, 1), *kt = fb_transpose(k, 0, 1);
    z = fb_nn_attend(first, qt, kt, kt, &o, NULL);
    assert_true(distance(y, fb_transpose(z, 0, 1)) < 1e-12);
    o.per_head = true;
    assert_non_null(fb_nn_attend(m, q, k, k, &o, &each));
    assert_true(fb_shape_equal(fb_shape_of(each), FB_SHAPE(N, H, T, S)));
    assert_true(distance(w, fb_mean(each, FB_SHAPE(1), false)) < 1e-12);
    fb_attend_options one = {.mask = mask};
    fb_tensor *alone =
        fb_nn_attend(m, fb_select(q, 1, 1), fb_select(k, 1, 1), fb_select(k, 1, 1), &one, NULL);
    z = fb_nn_attend(m, q, k, k, &one, NULL);
    assert_true(distance(alone, fb_select(z, 1, 1)) < 1e-12);
    check_close(ctx);
}

/* Later positions do not reach earlier ones. */
static void a_causal_stack_does_not_look_ahead(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    fb_transformer_options o = {.ff = 8, .norm_first = true, .final_norm = true};
    fb_module *m = waved(fb_nn_transformer_encoder(ctx, E, H, 2, &o));
    fb_attend_options causal = {.causal = true};
    fb_tensor *x = wave(ctx, FB_SHAPE(S, N, E), 1, 0.9, 0.2);
    fb_tensor *y = fb_nn_transformer_encode(m, x, &causal);
    fb_tensor *less = fb_nn_transformer_encode(m, fb_narrow(x, 0, 0, 3), &causal);
    assert_true(distance(less, fb_narrow(y, 0, 0, 3)) < 1e-12);
    assert_true(distance(y, fb_nn_forward(m, x)) > 1e-3);
    fb_module *copy = fb_nn_clone(m);
    assert_true(distance(y, fb_nn_transformer_encode(copy, x, &causal)) == 0);
    check_close(ctx);
}

static void dropout_is_in_training_only(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *x = wave(ctx, FB_SHAPE(T, N, E), 1, 0.9, 0.2), *w = NULL;
    fb_module *m =
        waved(fb_nn_multihead_attention(ctx, E, H, FB_OPTS(fb_mha_options, .dropout = 1)));
    assert_non_null(fb_nn_attend(m, x, x, x, NULL, &w));
    assert_true(fb_item(fb_max(fb_abs(w))) == 0);
    fb_nn_eval(m);
    assert_non_null(fb_nn_attend(m, x, x, x, NULL, &w));
    assert_true(fabs(fb_item(fb_sum(w, FB_ALL, false)) - T * N) < 1e-9);
    fb_transformer_options o = {.ff = 8, .dropout = 1, .norm_first = true};
    m = waved(fb_nn_transformer_encoder_layer(ctx, E, H, &o));
    assert_true(distance(fb_nn_forward(m, x), x) == 0);
    fb_nn_eval(m);
    assert_true(distance(fb_nn_forward(m, x), x) > 1e-3);
    check_close(ctx);
}

typedef struct names {
    char text[2000];
} names;

static fb_status note(const char *name, fb_tensor *t, void *user)
{
    names *n = user;
    char shape[80];
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%s%s ", name,
             fb_shape_text(fb_shape_of(t), shape, sizeof shape));
    return FB_OK;
}

static void weights_have_pytorchs_names_and_first_values(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_transformer(ctx, E, H, 1, 1, FB_OPTS(fb_transformer_options, .ff = 6));
    names n = {""};
    assert_int_equal(fb_nn_each_param(m, note, &n), FB_OK);
    assert_string_equal(
        n.text,
        "encoder.layers.0.self_attn.in_proj_weight[12, 4] "
        "encoder.layers.0.self_attn.in_proj_bias[12] "
        "encoder.layers.0.self_attn.out_proj.weight[4, 4] "
        "encoder.layers.0.self_attn.out_proj.bias[4] "
        "encoder.layers.0.linear1.weight[6, 4] encoder.layers.0.linear1.bias[6] "
        "encoder.layers.0.linear2.weight[4, 6] encoder.layers.0.linear2.bias[4] "
        "encoder.layers.0.norm1.weight[4] encoder.layers.0.norm1.bias[4] "
        "encoder.layers.0.norm2.weight[4] encoder.layers.0.norm2.bias[4] encoder.norm.weight[4] "
        "encoder.norm.bias[4] decoder.layers.0.self_attn.in_proj_weight[12, 4] "
        "decoder.layers.0.self_attn.in_proj_bias[12] decoder.layers.0.self_attn.out_proj.weight[4, "
        "4] "
        "decoder.layers.0.self_attn.out_proj.bias[4] "
        "decoder.layers.0.multihead_attn.in_proj_weight[12, 4] "
        "decoder.layers.0.multihead_attn.in_proj_bias[12] "
        "decoder.layers.0.multihead_attn.out_proj.weight[4, 4] "
        "decoder.layers.0.multihead_attn.out_proj.bias[4] decoder.layers.0.linear1.weight[6, 4] "
        "decoder.layers.0.linear1.bias[6] decoder.layers.0.linear2.weight[4, 6] "
        "decoder.layers.0.linear2.bias[4] decoder.layers.0.norm1.weight[4] "
        "decoder.layers.0.norm1.bias[4] decoder.layers.0.norm2.weight[4] "
        "decoder.layers.0.norm2.bias[4] decoder.layers.0.norm3.weight[4] "
        "decoder.layers.0.norm3.bias[4] decoder.norm.weight[4] decoder.norm.bias[4] ");
    fb_module *a = fb_nn_multihead_attention(ctx, 64, 4, NULL);
    double most = fb_item(fb_max(fb_abs(fb_nn_param(a, "in_proj_weight"))));
    assert_true(most <= sqrt(6. / 256) && most > 0.99 * sqrt(6. / 256));
    assert_true(fb_item(fb_max(fb_abs(fb_nn_param(a, "in_proj_bias")))) == 0);
    assert_true(fb_item(fb_max(fb_abs(fb_nn_param(a, "out_proj.bias")))) == 0);
    fb_module *b = fb_nn_multihead_attention(ctx, 4, 2, FB_OPTS(fb_mha_options, .kdim = 3));
    n.text[0] = '\0';
    assert_int_equal(fb_nn_each_param(b, note, &n), FB_OK);
    assert_string_equal(n.text, "q_proj_weight[4, 4] k_proj_weight[4, 3] v_proj_weight[4, 4] "
                                "in_proj_bias[12] out_proj.weight[4, 4] out_proj.bias[4] ");
    check_close(ctx);
}

/* What nothing may look at gets zeros, not NaN. */
static void a_query_without_keys_gets_the_bias(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = waved(fb_nn_multihead_attention(ctx, E, H, NULL));
    fb_tensor *x = wave(ctx, FB_SHAPE(T, 1, E), 1, 0.9, 0.2), *w = NULL;
    fb_attend_options o = {.padding = fb_ones(ctx, FB_BOOL, FB_SHAPE(1, T))};
    fb_tensor *y = fb_nn_attend(m, x, x, x, &o, NULL), *bias = fb_nn_param(m, "out_proj.bias");
    assert_true(distance(y, fb_expand(bias, fb_shape_of(y))) == 0);
    assert_true(distance(fb_nn_attend(m, x, x, x, &o, &w), y) == 0);
    assert_true(fb_item(fb_max(fb_abs(w))) == 0);
    check_close(ctx);
}

/* In BF16, by autocast or by parameters that are, up to its 8 bits. */
static void halves_do_as_well(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_transformer_options o = {.ff = 8};
    for (int pass = 0; pass < 2; pass++) { /* 0: autocast */
        FB_SCOPE(ctx);
        fb_module *m = fb_nn_transformer_decoder_layer(ctx, E, H, &o);
        fb_module *a = fb_nn_multihead_attention(ctx, E, H, NULL);
        fb_tensor *x = fb_to(queries(ctx), FB_F32), *k = fb_to(memories(ctx, E), FB_F32);
        fb_tensor *w = NULL, *each = NULL;
        fb_attend_options self = {.causal = true}, cross = {.padding = padding(ctx)};
        fb_attend_options added = {.mask = fb_to(wave(ctx, FB_SHAPE(T, S), 1, 0.3, 0), FB_F32)};
        fb_tensor *want = fb_nn_transformer_decode(m, x, k, &self, &cross);
        fb_tensor *want_a = fb_nn_attend(a, x, k, k, &added, &w);
        if (pass) {
            fb_module *half = fb_nn_transformer_decoder_layer(ctx, E, H, &o);
            assert_int_equal(fb_nn_to(half, FB_BF16), FB_OK);
            fb_tensor *b =
                fb_nn_transformer_decode(half, fb_to(x, FB_BF16), fb_to(k, FB_BF16), &self, &cross);
            check_ok(ctx);
            assert_int_equal(fb_dtype_of(b), FB_BF16);
            assert_int_equal(fb_backward(fb_sum(b, FB_ALL, false)), FB_OK);
            continue;
        }
        fb_autocast(ctx, FB_BF16);
        fb_tensor *y = fb_nn_transformer_decode(m, x, k, &self, &cross);
        fb_tensor *plain = fb_nn_attend(a, x, k, k, &added, NULL);
        fb_tensor *stored = fb_nn_attend(a, x, k, k, &added, &each);
        check_ok(ctx);
        assert_true(distance(fb_to(y, FB_F32), want) < 0.1);
        assert_true(distance(fb_to(plain, FB_F32), want_a) < 0.05);
        assert_true(distance(fb_to(stored, FB_F32), want_a) < 0.05);
        assert_true(distance(fb_to(each, FB_F32), w) < 0.02);
        assert_int_equal(fb_backward(fb_sum(fb_to(y, FB_F32), FB_ALL, false)), FB_OK);
    }
    check_close(ctx);
}

static void makers_name_what_makes_no_sense(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_nn_multihead_attention(ctx, 10, 4, NULL));
    check_error(ctx, FB_E_ARG,
                "MultiheadAttention: 4 heads of 10 features: heads must divide them");
    assert_null(fb_nn_multihead_attention(ctx, 8, 0, NULL));
    check_error(ctx, FB_E_ARG, "MultiheadAttention: 0 heads of 8 features");
    assert_null(fb_nn_multihead_attention(ctx, 8, 2, FB_OPTS(fb_mha_options, .dropout = -1)));
    check_error(ctx, FB_E_ARG, "MultiheadAttention: dropout is -1, not within 0 .. 1");
    assert_null(fb_nn_transformer_encoder_layer(ctx, 10, 4, NULL));
    check_error(ctx, FB_E_ARG, "4 heads of 10 features");
    assert_null(
        fb_nn_transformer_encoder_layer(ctx, 8, 4, FB_OPTS(fb_transformer_options, .dropout = 2)));
    check_error(ctx, FB_E_ARG, "TransformerEncoderLayer: dropout is 2, not within 0 .. 1");
    assert_null(
        fb_nn_transformer_decoder_layer(ctx, 8, 4, FB_OPTS(fb_transformer_options, .ff = -1)));
    check_error(ctx, FB_E_ARG, "fb_nn_linear: 8 to -1 features");
    assert_null(fb_nn_transformer_decoder(ctx, 8, 4, 0, NULL));
    check_error(ctx, FB_E_ARG, "TransformerDecoder: 0 layers");
    assert_null(fb_nn_transformer(ctx, 8, 3, 1, 1, NULL));
    check_error(ctx, FB_E_ARG, "3 heads of 8 features");
    check_close(ctx);
}

static void calls_name_what_does_not_fit(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_multihead_attention(ctx, E, H, NULL);
    fb_tensor *q = fb_zeros(ctx, FB_F32, FB_SHAPE(T, N, E)),
              *k = fb_zeros(ctx, FB_F32, FB_SHAPE(S, N, E)), *y = NULL;
    const struct {
        fb_tensor *q, *k, *v;
        fb_attend_options o;
        fb_status status;
        const char *text;
    } bad[] = {
        {NULL, k, k, {.causal = false}, FB_E_ARG, "MultiheadAttention: q is NULL"},
        {q, NULL, k, {.causal = false}, FB_E_ARG, "MultiheadAttention: k is NULL"},
        {fb_zeros(ctx, FB_F32, FB_SHAPE(E)),
         k,
         k,
         {.causal = false},
         FB_E_SHAPE,
         "MultiheadAttention: q is [4]; it takes 3 dimensions, the last 4"},
        {q,
         fb_zeros(ctx, FB_F32, FB_SHAPE(S, N, 3)),
         k,
         {.causal = false},
         FB_E_SHAPE,
         "MultiheadAttention: k is [5, 2, 3]; it takes 3 dimensions, the last 4"},
        {q, k, q, {.causal = false}, FB_E_SHAPE, "k and v need the same length"},
        {q,
         k,
         k,
         {.padding = fb_zeros(ctx, FB_BOOL, FB_SHAPE(N, T))},
         FB_E_SHAPE,
         "MultiheadAttention: the padding mask is [2, 3], not [2, 5]"},
        {q,
         k,
         k,
         {.mask = fb_zeros(ctx, FB_BOOL, FB_SHAPE(T, T))},
         FB_E_SHAPE,
         "MultiheadAttention: the mask is [3, 3], not [3, 5] or [4, 3, 5]"},
        {q,
         k,
         k,
         {.mask = fb_zeros(ctx, FB_I64, FB_SHAPE(T, S))},
         FB_E_DTYPE,
         "MultiheadAttention: the mask is I64, not BOOL or a float"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(fb_nn_attend(m, bad[i].q, bad[i].k, bad[i].v, &bad[i].o, NULL));
        check_error(ctx, bad[i].status, bad[i].text);
    }
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(q, k), FB_OUTS(&y)), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "MultiheadAttention: called with 2 inputs and 1 outputs");
    fb_module *e = fb_nn_transformer_encoder_layer(ctx, E, H, NULL),
              *d = fb_nn_transformer_decoder_layer(ctx, E, H, NULL);
    assert_null(fb_nn_attend(e, q, k, k, NULL, NULL));
    check_error(ctx, FB_E_ARG, "fb_nn_attend: a TransformerEncoderLayer is no attention");
    assert_null(fb_nn_transformer_encode(d, q, NULL));
    check_error(ctx, FB_E_ARG,
                "fb_nn_transformer_encode: a TransformerDecoderLayer is neither a "
                "TransformerEncoder nor a layer of one");
    assert_null(fb_nn_transformer_apply(d, q, k, NULL, NULL, NULL));
    check_error(ctx, FB_E_ARG,
                "fb_nn_transformer_apply: a TransformerDecoderLayer is no Transformer");
    assert_null(fb_nn_forward(d, q));
    check_error(ctx, FB_E_ARG, "TransformerDecoderLayer: called with 1 inputs and 1 outputs");
    assert_null(fb_nn_transformer_decode(d, q, NULL, NULL, NULL));
    check_error(ctx, FB_E_ARG, "MultiheadAttention: k is NULL");
    assert_null(fb_nn_transformer_encode(e, NULL, NULL));
    check_error(ctx, FB_E_ARG, "TransformerEncoderLayer: x is NULL");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_computes_what_pytorch_does),
        cmocka_unit_test(layers_compute_what_pytorch_does),
        cmocka_unit_test(ways_to_call_agree),
        cmocka_unit_test(a_causal_stack_does_not_look_ahead),
        cmocka_unit_test(dropout_is_in_training_only),
        cmocka_unit_test(weights_have_pytorchs_names_and_first_values),
        cmocka_unit_test(a_query_without_keys_gets_the_bias),
        cmocka_unit_test(halves_do_as_well),
        cmocka_unit_test(makers_name_what_makes_no_sense),
        cmocka_unit_test(calls_name_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
