/* Makes cuDNN's plans for every shape of the examples, on a card that is only described, and says
 * which there are: see test_plans.sh. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/core/tensor/dtype.h>

#include "core/cuda/cudnn_priv.h"

/* Of an H100 SXM, as NVIDIA's data sheet and programming guide have them. */
static const char card[] =
    "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
    "\"regsPerBlock\":65536,\"multiProcessorCount\":132,\"warpSize\":32,"
    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
    "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"isTccDriver\":0,"
    "\"supportCoopLaunch\":1,\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,"
    "\"l2CacheSize\":52428800,\"deviceName\":\"NVIDIA H100\",\"cudaDeviceId\":0,"
    "\"deviceVer\":900,\"driverVer\":13000,\"totalGlobalMem\":85520809984,\"pciDeviceId\":0}";

static fbi_dnn_library library;
static int made, refused;

static bool describe_card(fbi_dnn_text *why)
{
    const fbi_cudnn_api *api = &library.api;
    fbi_cudnn_graph g = {.api = api};
    library.properties = FBI_CUDNN_NEW(&g, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    FBI_CUDNN_SET(&g, library.properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                  CUDNN_TYPE_CHAR, (int64_t)sizeof card - 1, card);
    fbi_cudnn_finalize(&g, library.properties, "cudnnBackendFinalize of a card");
    *why = g.error;
    return !g.status;
}

static const char *name_of(int32_t dtype)
{
    return dtype == FB_F32 ? "F32" : dtype == FB_F16 ? "F16" : "BF16";
}

static void plan(const char *what, const fbi_dnn_problem *p)
{
    static const char *const kinds[] = {"", " data", " weight", "", " backward"};
    fbi_dnn_text why;
    fbi_dnn_plan *made_one = fbi_dnn_plan_new(&library, p, (size_t)4 << 30, &why);
    if (made_one)
        printf("plan: %s%s %s%s: %zu bytes of workspace\n", what, kinds[p->kind], name_of(p->dtype),
               p->tf32 ? " TF32" : "", fbi_dnn_plan_workspace(made_one));
    else
        printf("none: %s%s %s%s: %s\n", what, kinds[p->kind], name_of(p->dtype),
               p->tf32 ? " TF32" : "", why.text);
    fflush(stdout);
    *(made_one ? &made : &refused) += 1;
    fbi_dnn_plan_free(made_one);
}

/* --- convolutions --- */

typedef struct conv {
    int64_t n, c, size, k, kernel, stride;
    bool bias, first, relu; /* first: nobody wants the gradient of its images */
} conv;

static conv seen[128];
static int n_seen;

static void convolution(conv v)
{
    for (int i = 0; i < n_seen; i++)
        if (!memcmp(&seen[i], &v, sizeof v))
            return;
    seen[n_seen++] = v;
    for (int d = 0; d < 4; d++) {
        static const int32_t dtypes[] = {FB_BF16, FB_F16, FB_F32, FB_F32};
        for (int kind = FBI_DNN_CONV; kind <= FBI_DNN_CONV_WEIGHT; kind++) {
            if ((kind == FBI_DNN_CONV_DATA && v.first) || (kind != FBI_DNN_CONV && v.relu))
                continue;
            fbi_dnn_problem p = {.kind = kind, .dtype = dtypes[d], .tf32 = d == 3};
            int64_t pad = v.kernel / 2, out = (v.size + 2 * pad - v.kernel) / v.stride + 1;
            p.u.conv = (fbi_dnn_conv){.n = v.n,
                                      .c = v.c,
                                      .h = v.size,
                                      .w = v.size,
                                      .k = v.k,
                                      .oh = out,
                                      .ow = out,
                                      .r = v.kernel,
                                      .s = v.kernel,
                                      .groups = 1,
                                      .stride = {v.stride, v.stride},
                                      .pad = {pad, pad},
                                      .dil = {1, 1},
                                      .bias = kind == FBI_DNN_CONV && v.bias,
                                      .relu = kind == FBI_DNN_CONV && v.relu};
            char what[128];
            snprintf(what, sizeof what, "conv %lldx%lldx%lld, %lld of %lld/%lld%s%s",
                     (long long)v.n, (long long)v.c, (long long)v.size, (long long)v.k,
                     (long long)v.kernel, (long long)v.stride, p.u.conv.bias ? " + bias" : "",
                     p.u.conv.relu ? ", relu" : "");
            plan(what, &p);
        }
    }
}

static void fashion(void)
{
    for (int relu = 0; relu < 2; relu++) {
        convolution((conv){64, 1, 28, 32, 3, 1, true, true, relu});
        convolution((conv){64, 32, 14, 64, 3, 1, true, false, relu});
    }
}

/* bottleneck: ResNet-50's blocks, else ResNet-18's. Stride lies on the 3 x 3 convolution. */
static void resnet(int64_t batch, bool bottleneck)
{
    int64_t in = 64, size = 56;
    convolution((conv){batch, 3, 224, 64, 7, 2, false, true, false});
    for (int64_t width = 64; width <= 512; width *= 2) {
        int64_t stride = width > 64 ? 2 : 1, out = bottleneck ? 4 * width : width;
        int64_t half = size / stride;
        for (int block = 0; block < 2; block++) {
            int64_t s = block ? 1 : stride, c = block ? out : in, at = block ? half : size;
            if (bottleneck) {
                convolution((conv){batch, c, at, width, 1, 1, false, false, false});
                convolution((conv){batch, width, at, width, 3, s, false, false, false});
                convolution((conv){batch, width, half, out, 1, 1, false, false, false});
            } else {
                convolution((conv){batch, c, at, width, 3, s, false, false, false});
                convolution((conv){batch, width, half, width, 3, 1, false, false, false});
            }
            if (!block && (s > 1 || c != out))
                convolution((conv){batch, c, at, out, 1, s, false, false, false});
        }
        in = out;
        size = half;
    }
}

/* --- attention --- */

typedef struct heads {
    int64_t b, h, h_k, t, s, d;
    bool causal;
    int64_t bias_b, bias_h; /* of a mask; 0: none */
} heads;

/* q, k and v are slices of one [b, t, (h + 2 h_k) d] where there are as many keys as queries, as a
 * transformer has them. */
static void attention(heads v, int32_t dtype)
{
    for (int kind = FBI_DNN_ATTENTION; kind <= FBI_DNN_ATTENTION_BWD; kind++) {
        fbi_dnn_problem p = {.kind = kind, .dtype = dtype};
        p.u.attention = (fbi_dnn_attention){.b = v.b,
                                            .h = v.h,
                                            .h_k = v.h_k,
                                            .t = v.t,
                                            .s = v.s,
                                            .d = v.d,
                                            .e = v.d,
                                            .causal = v.causal,
                                            .bias_b = v.bias_b,
                                            .bias_h = v.bias_h,
                                            .bias_row = v.bias_b ? (v.s + 7) / 8 * 8 : 0,
                                            .scale = 0.125};
        for (int i = 0; i < (kind == FBI_DNN_ATTENTION ? 4 : FBI_DNN_ATTENTION_TENSORS); i++) {
            bool keys = i == 1 || i == 2 || i > 5, sliced = i < 3 && v.t == v.s;
            int64_t row = (sliced ? v.h + 2 * v.h_k : keys ? v.h_k : v.h) * v.d;
            int64_t *s = p.u.attention.stride[i];
            s[0] = (keys ? v.s : v.t) * row, s[1] = v.d, s[2] = row;
        }
        char what[128];
        snprintf(what, sizeof what, "attention %lldx%lld/%lldx%lldx%lldx%lld%s%s", (long long)v.b,
                 (long long)v.h, (long long)v.h_k, (long long)v.t, (long long)v.s, (long long)v.d,
                 v.causal ? " causal" : "", v.bias_b ? " mask" : "");
        plan(what, &p);
    }
}

/* Every kind that fb_scaled_dot_product_attention hands over: masks of all, of each sequence, of
 * each head; grouped heads. */
static void kinds(void)
{
    static const heads all[] = {{8, 12, 12, 512, 512, 64, false, 1, 1},
                                {8, 12, 12, 384, 500, 64, false, 8, 1},
                                {8, 12, 12, 512, 512, 64, false, 1, 12},
                                {4, 32, 8, 1024, 1024, 128, true, 0, 0},
                                {4, 32, 1, 512, 1024, 128, false, 4, 1}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        attention(all[i], i == 1 ? FB_F16 : FB_BF16);
}

int main(int argc, char **argv)
{
    fbi_dnn_text why;
    const char *part = argc > 1 ? argv[1] : "";
    if (!fbi_cudnn_load(&library.api, why.text, sizeof why.text) || !describe_card(&why)) {
        printf("%s\n", why.text);
        return 77;
    }
    if (!strcmp(part, "fashion"))
        fashion();
    else if (!strcmp(part, "resnet18"))
        resnet(32, false);
    else if (!strcmp(part, "resnet50"))
        resnet(128, true); /* as in tests/bench */
    else if (!strcmp(part, "chargpt"))
        for (int32_t dtype = FB_F16; dtype <= FB_BF16; dtype++)
            attention((heads){64, 4, 4, 64, 64, 32, true, 0, 0}, dtype);
    else if (!strcmp(part, "gpt2"))
        attention((heads){64, 12, 12, 1024, 1024, 64, true, 0, 0}, FB_BF16);
    else if (!strcmp(part, "kinds"))
        kinds();
    else
        return 2;
    printf("%d plans, %d refused\n", made, refused);
    return 0;
}
