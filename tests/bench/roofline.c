/* What kernels reach of what this machine can do, both measured in the same run.
 *
 *     roofline [THREADS]           the table; THREADS: all cores that this process may use
 *     roofline --passes [THREADS]  of it, the passes over memory
 *     roofline --peaks [THREADS]   lines "NAME VALUE" for tests/bench/floors.py: gemm (GFLOP/s),
 *                                  stream and stream_cached (GB/s), cache_bytes
 *
 * FLOP are those of the plain sums (Winograd's convolutions need fewer and may pass 100 %); bytes
 * are what must be read and written once. Targets: 85 % of GEMM for products within steps of GPT,
 * 80 % of stream for what passes over memory once; a line that is below its target says so.
 *
 * What memory gives a virtual machine may double within seconds: a pass over memory, the stream and
 * a loop for the same arrays take turns, and the shares are medians of the pairs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "examples/chargpt/model.h"
#include "tests/bench/parts/parts.h"
#include "tests/bench/parts/peaks.h"

enum { WINDOWS = 5, PAIRS = 9, TURNS = 3, ROWS = 32768, WIDTH = 512, PASSED = ROWS * WIDTH * 4 };
#define GEMM_TARGET   0.85
#define STREAM_TARGET 0.8

static fb_context *ctx;
static int threads;

/* Peaks in GFLOP/s and GB/s. */
static struct {
    double fma, gemm, stream, cached;
} peak;

/* Bytes of the last cache that cores of this machine share: sysconf may know that of all sockets.
 */
static size_t cache_bytes(void)
{
    size_t kib = 0;
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (f && fscanf(f, "%zuK", &kib) != 1)
        kib = 0;
    if (f)
        fclose(f);
    return kib ? kib << 10 : 32 << 20;
}

/* --- one kernel --- */

/* Inputs of a kernel; the last one is the gradient of its result, for backward. */
typedef struct call {
    fb_tensor *in[4];
    int n;
    fb_tensor *(*forward)(const struct call *c);
    fb_shape shape; /* of what is normalised */
    fb_conv_options conv;
} call;

static void give(call *c, fb_tensor *t)
{
    fb_set(&c->in[c->n++], fb_requires_grad(t, true));
}

static void give_random(call *c, fb_shape shape)
{
    give(c, fb_randn(ctx, FB_F32, shape));
}

/* One that the model's convolutions would meet: NHWC, seen as NCHW. */
static void give_images(call *c, int64_t n, int64_t channels, int64_t size)
{
    give(c,
         fb_permute(fb_randn(ctx, FB_F32, FB_SHAPE(n, size, size, channels)), FB_DIMS(0, 3, 1, 2)));
}

static void once(const call *c, bool backward)
{
    FB_SCOPE(ctx);
    if (!backward)
        fb_no_grad(ctx);
    fb_tensor *y = c->forward(c);
    if (!backward)
        return;
    fb_tensor *grads[3];
    fb_gradients(FB_TENSORS(y), (fb_tensors){(fb_tensor **)c->in, c->n - 1},
                 FB_OPTS(fb_gradient_options, .seeds = FB_TENSORS(c->in[c->n - 1])), grads);
}

/* The least seconds of one, over several windows of some milliseconds. */
static double seconds_of(const call *c, bool backward)
{
    double least = 1e9;
    int64_t times = 1;
    once(c, backward);
    for (int w = 0; w < WINDOWS;) {
        double begun = bench_now();
        for (int64_t i = 0; i < times; i++)
            once(c, backward);
        double took = bench_now() - begun;
        if (took < 10e-3) {
            times *= 2;
            continue;
        }
        least = took / (double)times < least ? took / (double)times : least;
        w++;
    }
    return least;
}

/* --- beside a stream --- */

static peak_room room; /* what does not fit into the caches */

typedef struct share {
    double least, of_stream, of_loop; /* seconds; medians of pairs, 0: there is no loop */
    double pairs[2][PAIRS];
    int n;
} share;

static int upwards(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One pair: `seconds` for `bytes`, and what was measured beside it in GB/s. */
static void share_add(share *s, double bytes, double seconds, double stream, double loop)
{
    double speed = bytes / seconds * 1e-9;
    s->pairs[0][s->n] = speed / stream;
    s->pairs[1][s->n] = loop > 0 ? speed / loop : 0;
    s->least = !s->n || seconds < s->least ? seconds : s->least;
    s->n++;
}

static void share_end(share *s)
{
    for (int k = 0; k < 2; k++)
        qsort(s->pairs[k], (size_t)s->n, sizeof(double), upwards);
    s->of_stream = s->pairs[0][s->n / 2];
    s->of_loop = s->pairs[1][s->n / 2];
}

/* The best of some turns, for each. */
static share share_of(const call *c, bool backward, double bytes, const peak_stream_kind *loop)
{
    share s = {.n = 0};
    once(c, backward);
    for (int p = 0; p < PAIRS; p++) {
        double least = 1e9, stream = 0, same = 0;
        for (int t = 0; t < TURNS; t++) {
            double speed = peak_room_speed(&room, PEAK_TRIAD);
            stream = speed > stream ? speed : stream;
            speed = loop ? peak_room_speed(&room, *loop) : 0;
            same = speed > same ? speed : same;
            double begun = bench_now();
            once(c, backward);
            double took = bench_now() - begun;
            least = took < least ? took : least;
        }
        share_add(&s, bytes, least, stream, same);
    }
    share_end(&s);
    return s;
}

static void forget(call *c)
{
    for (int i = 0; i < c->n; i++)
        fb_set(&c->in[i], NULL);
}

/* Below its share of a peak; a target of 0 is none. */
static const char *remark(double reached, double target)
{
    return reached < target ? ", below its target" : "";
}

static void print_flop(const char *name, double flop, double seconds, double target)
{
    double speed = flop / seconds * 1e-9;
    printf("%-44s %9.3f ms %8.1f GFLOP/s %5.0f %% of GEMM %5.0f %% of FMA%s\n", name, seconds * 1e3,
           speed, speed / peak.gemm * 100, speed / peak.fma * 100,
           remark(speed / peak.gemm, target));
}

static void print_cached(const char *name, double bytes, double seconds)
{
    double speed = bytes / seconds * 1e-9;
    printf("%-44s %9.3f ms %8.1f GB/s    %5.0f %% of stream, in cache\n", name, seconds * 1e3,
           speed, speed / peak.cached * 100);
}

static void print_share(const char *name, double bytes, const share *s, double target)
{
    char loop[40] = "";
    if (s->of_loop > 0)
        snprintf(loop, sizeof loop, " %5.0f %% of a plain loop", s->of_loop * 100);
    printf("%-44s %9.3f ms %8.1f GB/s    %5.0f %% of stream%s%s\n", name, s->least * 1e3,
           bytes / s->least * 1e-9, s->of_stream * 100, loop, remark(s->of_stream, target));
}

/* --- products --- */

static fb_tensor *linear(const call *c)
{
    return fb_linear(c->in[0], c->in[1], NULL);
}

static fb_tensor *matmul(const call *c)
{
    return fb_matmul(c->in[0], c->in[1]);
}

static fb_tensor *transposed_matmul(const call *c)
{
    return fb_matmul(fb_t(c->in[0]), c->in[1]);
}

static double product_seconds(fb_tensor *(*forward)(const call *c), fb_shape a, fb_shape b)
{
    FB_SCOPE(ctx);
    call c = {.forward = forward};
    give_random(&c, a);
    give_random(&c, b);
    double seconds = seconds_of(&c, false);
    forget(&c);
    return seconds;
}

/* The three products of a linear layer, m samples from k to n: y = x W^T, dx = dy W, dW = dy^T x.
 */
static double layer_seconds(int which, int64_t m, int64_t k, int64_t n)
{
    fb_shape x = FB_SHAPE(m, k), w = FB_SHAPE(n, k), y = FB_SHAPE(m, n);
    return which == 0   ? product_seconds(linear, x, w)
           : which == 1 ? product_seconds(matmul, y, w)
                        : product_seconds(transposed_matmul, y, x);
}

static const struct {
    const char *of;
    int64_t m, k, n;
} products[] = {
    {"cube", 512, 512, 512},      {"cube", 1024, 1024, 1024},   {"cube", 2048, 2048, 2048},
    {"mlp", 128, 784, 256},       {"mlp", 128, 256, 256},       {"cnn", 64, 9216, 128},
    {"gpt", 1024, 256, 768},      {"gpt", 1024, 256, 256},      {"gpt", 1024, 256, 1024},
    {"gpt", 1024, 1024, 256},     {"nanogpt", 3072, 384, 1152}, {"nanogpt", 3072, 384, 384},
    {"nanogpt", 3072, 384, 1536}, {"nanogpt", 3072, 1536, 384}, {"lstm", 2048, 256, 1024},
    {"lstm", 32, 256, 1024},      {"lstm", 2048, 256, 65}};

enum { PRODUCTS = sizeof products / sizeof *products };
static double product_took[PRODUCTS][3];

static double product_flop(int i)
{
    return 2.0 * (double)(products[i].m * products[i].k * products[i].n);
}

/* The peak is the best of all: it need not be that of a cube. */
static void measure_products(void)
{
    for (int i = 0; i < PRODUCTS; i++)
        for (int which = 0; which < 3; which++) {
            double took = layer_seconds(which, products[i].m, products[i].k, products[i].n);
            double speed = product_flop(i) / took * 1e-9;
            product_took[i][which] = took;
            peak.gemm = speed > peak.gemm ? speed : peak.gemm;
        }
}

static void print_products(void)
{
    static const char *const what[] = {"y", "dx", "dW"};
    char name[80];
    puts("\nproducts of linear layers");
    for (int i = 0; i < PRODUCTS; i++)
        for (int which = 0; which < 3; which++) {
            snprintf(name, sizeof name, "%s %s: %lld samples, %lld to %lld", products[i].of,
                     what[which], (long long)products[i].m, (long long)products[i].k,
                     (long long)products[i].n);
            print_flop(name, product_flop(i), product_took[i][which], 0);
        }
}

/* --- a step of GPT: what its products reach there --- */

/* Seconds in operators, of any phase, whose name begins so; the profile is closed. */
static double seconds_in(fb_profile *profile, const char *begins)
{
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(profile, &rows);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (!strncmp(rows[i].name, begins, strlen(begins)))
            sum += rows[i].self_s;
    fb_profile_close(profile);
    return sum;
}

static void print_gpt(const char *name, int64_t layers, int64_t heads, int64_t width, int64_t time,
                      int64_t vocab, int64_t batch)
{
    enum { STEPS = 6 };
    FB_SCOPE(ctx);
    fb_module *m = gpt_open(
        ctx,
        &(gpt_config){
            .layers = layers, .heads = heads, .width = width, .context = time, .vocab = vocab});
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    fb_tensor *x = fb_randint(ctx, 0, vocab, FB_SHAPE(batch, time));
    fb_tensor *y = fb_randint(ctx, 0, vocab, FB_SHAPE(batch * time));
    double least = 1e9;
    for (int i = 0; i < STEPS; i++) {
        FB_SCOPE(ctx);
        fb_profile *profile = fb_profile_open(ctx, NULL);
        fb_backward(fb_cross_entropy(fb_flatten(fb_nn_forward(m, x), 0, 1), y, NULL));
        fb_optim_step(opt);
        double took = seconds_in(profile, "linear");
        least = i && took < least ? took : least;
    }
    /* Each weight is in three products of 2 FLOP, 12 width^2 in a block and the head. */
    double weights = (double)(layers * 12 * width * width + vocab * width);
    print_flop(name, 6 * weights * (double)(batch * time), least, GEMM_TARGET);
    fb_nn_close(m);
}

/* --- convolutions --- */

static fb_tensor *conv(const call *c)
{
    return fb_conv2d(c->in[0], c->in[1], NULL, &c->conv);
}

static void print_convolutions(void)
{
    static const struct {
        const char *name;
        int64_t n, in, out, size, k, stride, padding;
    } rows[] = {{"cnn 1 to 32, 3 x 3, 28 x 28", 64, 1, 32, 28, 3, 1, 0},
                {"cnn 32 to 64, 3 x 3, 26 x 26", 64, 32, 64, 26, 3, 1, 0},
                {"resnet18 3 to 64, 3 x 3, 32 x 32", 32, 3, 64, 32, 3, 1, 1},
                {"resnet18 64 to 64, 3 x 3, 32 x 32", 32, 64, 64, 32, 3, 1, 1},
                {"resnet18 64 to 128, 3 x 3 / 2, 32 x 32", 32, 64, 128, 32, 3, 2, 1},
                {"resnet18 64 to 128, 1 x 1 / 2, 32 x 32", 32, 64, 128, 32, 1, 2, 0},
                {"resnet18 128 to 128, 3 x 3, 16 x 16", 32, 128, 128, 16, 3, 1, 1},
                {"resnet18 128 to 256, 3 x 3 / 2, 16 x 16", 32, 128, 256, 16, 3, 2, 1},
                {"resnet18 256 to 256, 3 x 3, 8 x 8", 32, 256, 256, 8, 3, 1, 1},
                {"resnet18 512 to 512, 3 x 3, 4 x 4", 32, 512, 512, 4, 3, 1, 1}};
    puts("\nconvolutions: forward; forward and both gradients");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FB_SCOPE(ctx);
        int64_t out = (rows[i].size + 2 * rows[i].padding - rows[i].k) / rows[i].stride + 1;
        call c = {.forward = conv,
                  .conv = {.stride = {rows[i].stride}, .padding = {rows[i].padding}}};
        give_images(&c, rows[i].n, rows[i].in, rows[i].size);
        give_random(&c, FB_SHAPE(rows[i].out, rows[i].in, rows[i].k, rows[i].k));
        give_images(&c, rows[i].n, rows[i].out, out);
        double flop = 2.0 * (double)(rows[i].n * rows[i].out * out * out) *
                      (double)(rows[i].in * rows[i].k * rows[i].k);
        print_flop(rows[i].name, flop, seconds_of(&c, false), 0);
        print_flop("", 3 * flop, seconds_of(&c, true), 0);
        forget(&c);
    }
}

/* --- kernels bound by memory --- */

static fb_tensor *add(const call *c)
{
    return fb_add(c->in[0], c->in[1]);
}

static fb_tensor *mul(const call *c)
{
    return fb_mul(c->in[0], c->in[1]);
}

static fb_tensor *relu(const call *c)
{
    return fb_relu(c->in[0]);
}

static fb_tensor *gelu(const call *c)
{
    return fb_gelu(c->in[0]);
}

static fb_tensor *softmax(const call *c)
{
    return fb_softmax(c->in[0], -1);
}

static fb_tensor *layer_norm(const call *c)
{
    return fb_layer_norm(c->in[0], FB_SHAPE(fb_size(c->in[0], 1)), c->in[1], c->in[2], 1e-5);
}

static fb_tensor *batch_norm(const call *c)
{
    fb_tensor *mean = NULL, *var = NULL;
    return fb_batch_norm(c->in[0], c->in[1], c->in[2], 1e-5, &mean, &var);
}

/* Numbers of F32 per element that go to and from memory: forward, and forward with backward. */
static const struct {
    const char *name;
    fb_tensor *(*forward)(const call *c);
    int inputs;   /* as large as the result */
    bool weights; /* and two of the last dimension, or of the channels */
    int moved, both;
    double target; /* 0: it computes more than it passes */
} passes[] = {{"add", add, 2, false, 3, 0, STREAM_TARGET},
              {"mul", mul, 2, false, 3, 8, STREAM_TARGET},
              {"relu", relu, 1, false, 2, 5, STREAM_TARGET},
              {"gelu", gelu, 1, false, 2, 5, STREAM_TARGET},
              {"softmax", softmax, 1, false, 2, 5, 0},
              {"layer norm", layer_norm, 1, true, 2, 5, STREAM_TARGET},
              {"batch norm", batch_norm, 1, true, 3, 8, STREAM_TARGET}};

static void print_turn(const char *name, const call *c, size_t i, bool backward, double bytes,
                       bool cached)
{
    static const peak_stream_kind loops[] = {[2] = PEAK_COPY, [3] = PEAK_TRIAD};
    if (cached) {
        print_cached(name, bytes, seconds_of(c, backward));
        return;
    }
    share s = share_of(c, backward, bytes, backward ? NULL : &loops[passes[i].moved]);
    print_share(name, bytes, &s, passes[i].target);
}

static void print_pass(size_t i, int64_t rows, int64_t width, bool cached)
{
    FB_SCOPE(ctx);
    bench_use_memory(ctx, passes[i].inputs + 1, FB_SHAPE(rows, width));
    char name[80];
    call c = {.forward = passes[i].forward};
    double bytes = 4.0 * (double)(rows * width);
    for (int k = 0; k <= passes[i].inputs; k++) {
        if (k == passes[i].inputs && passes[i].weights)
            for (int w = 0; w < 2; w++)
                give_random(&c, FB_SHAPE(width));
        if (c.forward == batch_norm)
            give_images(&c, rows / 256, width, 16);
        else
            give_random(&c, FB_SHAPE(rows, width));
    }
    snprintf(name, sizeof name, "%s, %lld x %lld", passes[i].name, (long long)rows,
             (long long)width);
    print_turn(name, &c, i, false, passes[i].moved * bytes, cached);
    if (passes[i].both)
        print_turn("  and backward", &c, i, true, passes[i].both * bytes, cached);
    forget(&c);
}

/* Parameter and moments are read and written, the gradient is read. */
static void print_optimizer(const char *name, int64_t in, int64_t out, bool adam)
{
    enum { FIRST = 2 }; /* steps in which memory is new */
    FB_SCOPE(ctx);
    peak_stream_kind loop = adam ? PEAK_UPDATE3 : PEAK_UPDATE2;
    double bytes = 4.0 * (adam ? 7 : 5) * (double)(in * out);
    fb_module *m = fb_nn_linear(ctx, in, out, FB_OPTS(fb_linear_options, .no_bias = true));
    fb_optimizer *opt = adam ? fb_optim_adam(ctx, m, NULL)
                             : fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .momentum = 0.9));
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(1, in));
    share s = {.n = 0};
    for (int i = 0; i < FIRST + PAIRS; i++) {
        double least = 1e9, stream = 0, same = 0;
        for (int t = 0; t < TURNS; t++) {
            FB_SCOPE(ctx);
            double speed = peak_room_speed(&room, PEAK_TRIAD);
            stream = speed > stream ? speed : stream;
            speed = peak_room_speed(&room, loop);
            same = speed > same ? speed : same;
            fb_profile *profile = fb_profile_open(ctx, NULL);
            fb_backward(fb_sum(fb_nn_forward(m, x), FB_ALL, false));
            fb_optim_step(opt);
            double took = seconds_in(profile, "optim_step");
            least = took < least ? took : least;
        }
        if (i >= FIRST)
            share_add(&s, bytes, least, stream, same);
    }
    share_end(&s);
    fb_nn_close(m);
    if (bytes < (double)cache_bytes() / 2)
        print_cached(name, bytes, s.least);
    else
        print_share(name, bytes, &s, STREAM_TARGET);
}

/* --- attention --- */

static fb_tensor *attention(const call *c)
{
    return fb_scaled_dot_product_attention(c->in[0], c->in[1], c->in[2],
                                           FB_OPTS(fb_sdpa_options, .causal = true));
}

/* Half of the scores are needed: 2 products forward, 5 backward (the scores are made again). */
static void print_attention(const char *name, int64_t batch, int64_t heads, int64_t time)
{
    FB_SCOPE(ctx);
    call c = {.forward = attention};
    for (int i = 0; i < 4; i++)
        give_random(&c, FB_SHAPE(batch, heads, time, 64));
    double product = 2.0 * (double)(batch * heads * time) * (double)(time + 1) / 2 * 64;
    print_flop(name, 2 * product, seconds_of(&c, false), 0);
    print_flop("  and backward", 7 * product, seconds_of(&c, true), 0);
    forget(&c);
}

/* --- the whole --- */

static void measure_peaks(void)
{
    size_t past = PASSED + 4 * cache_bytes();
    for (int level = 2; level <= 4; level++) {
        double speed = peak_fma(level, threads);
        peak.fma = speed > peak.fma ? speed : peak.fma;
    }
    measure_products();
    peak.stream = peak_stream(past / (size_t)threads, threads);
}

static void print_peaks(void)
{
    static const size_t sizes[] = {24 << 10, 384 << 10, 4 << 20, 192 << 20};
    puts("peaks\nthreads   FMA v2    v3    v4 GFLOP/s   stream 24 KiB  384 KiB  4 MiB  192 MiB a "
         "thread, GB/s");
    for (int t = 1; t <= threads; t += t < threads ? threads - t : 1) {
        printf("%7d %8.0f %5.0f %5.0f          ", t, peak_fma(2, t), peak_fma(3, t),
               peak_fma(4, t));
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            printf(" %8.1f", peak_stream(sizes[i], t));
        putchar('\n');
    }
    printf("GEMM, the best of the products below: %.0f GFLOP/s, %.0f %% of FMA\n", peak.gemm,
           peak.gemm / peak.fma * 100);
}

static void print_passes(void)
{
    if (!peak_room_open(&room, PASSED / (size_t)threads, threads)) {
        fprintf(stderr, "roofline: no memory for arrays beyond the caches\n");
        exit(1);
    }
    puts("\npasses over memory");
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        print_pass(i, 512, 128, true);
        print_pass(i, ROWS, WIDTH, false);
    }
    print_optimizer("Adam, 64 Ki parameters", 256, 256, true);
    print_optimizer("Adam, 16 Mi parameters", 4096, 4096, true);
    print_optimizer("SGD with momentum, 16 Mi parameters", 4096, 4096, false);
    peak_room_close(&room);
}

static void print_table(void)
{
    print_peaks();
    print_products();
    puts("\nproducts within a training step");
    print_gpt("gpt", 4, 4, 256, 128, 256, 8);
    print_gpt("nanogpt", 6, 6, 384, 256, 65, 12);
    print_convolutions();
    print_passes();
    puts("\nattention, causal: forward; forward and backward");
    print_attention("gpt: 8 x 4 heads x 128 x 64", 8, 4, 128);
    print_attention("nanogpt: 12 x 6 heads x 256 x 64", 12, 6, 256);
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    bool only_peaks = !strcmp(part, "--peaks"), only_passes = !strcmp(part, "--passes");
    int at = only_peaks || only_passes ? 2 : 1;
    if (argc > at + 1 || (argc > at && atoi(argv[at]) < 1)) {
        fprintf(stderr, "usage: roofline [--peaks|--passes] [THREADS]\n");
        return 2;
    }
    ctx = fb_context_open(
        FB_OPTS(fb_context_options, .device = "cpu", .threads = argc > at ? atoi(argv[at]) : 0));
    threads = fb_context_threads(ctx);
    peak.cached = peak_stream(384 << 10, threads);
    if (!only_passes)
        measure_peaks();
    if (only_peaks)
        printf("gemm %.1f\nstream %.2f\nstream_cached %.2f\ncache_bytes %zu\n", peak.gemm,
               peak.stream, peak.cached, cache_bytes());
    else if (only_passes)
        print_passes();
    else
        print_table();
    return fb_context_close(ctx);
}
