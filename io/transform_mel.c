/* Mel spectrograms: short-time Fourier transforms, summed by triangles on a scale of pitches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/fft_priv.h"
#include "io/transform_priv.h"

/* One triangle: bins first .. first + n - 1, weights from `at` on. */
typedef struct triangle {
    int64_t first, n, at;
} triangle;

typedef struct mel {
    fb_transform base;
    fb_mel_options o;
    int64_t n_bins;
    fbi_fft fft;
    float *window; /* [n_fft] */
    triangle *triangles;
    float *weights;
} mel;

/* --- scales --- */

/* Linear below 1 kHz, 27 steps an octave-like factor of 6.4 above: Slaney's Auditory Toolbox. */
static const double slaney_step = 200.0 / 3, slaney_knee = 1000, slaney_log = 0.06875177742094912;

static double to_mel(const mel *m, double hz)
{
    if (!m->o.slaney_scale)
        return 2595 * log10(1 + hz / 700);
    double knee = slaney_knee / slaney_step;
    return hz < slaney_knee ? hz / slaney_step : knee + log(hz / slaney_knee) / slaney_log;
}

static double to_hz(const mel *m, double x)
{
    if (!m->o.slaney_scale)
        return 700 * (pow(10, x / 2595) - 1);
    double knee = slaney_knee / slaney_step;
    return x < knee ? x * slaney_step : slaney_knee * exp(slaney_log * (x - knee));
}

static double edge(const mel *m, int64_t i)
{
    double low = to_mel(m, m->o.f_min), high = to_mel(m, m->o.f_max);
    return to_hz(m, low + (high - low) * (double)i / (double)(m->o.n_mels + 1));
}

static float triangle_weight(const mel *m, const double edges[3], int64_t bin)
{
    double hz = (double)bin * m->o.sample_rate / (double)m->o.n_fft;
    double up = (hz - edges[0]) / (edges[1] - edges[0]);
    double down = (edges[2] - hz) / (edges[2] - edges[1]);
    double w = fmax(0, fmin(up, down));
    return (float)(m->o.slaney_norm ? w * 2 / (edges[2] - edges[0]) : w);
}

static bool make_triangles(mel *m)
{
    int64_t used = 0;
    m->triangles = malloc((size_t)m->o.n_mels * sizeof *m->triangles);
    m->weights = malloc((size_t)(2 * m->n_bins + m->o.n_mels) * sizeof *m->weights);
    if (!m->triangles || !m->weights)
        return false;
    for (int64_t i = 0; i < m->o.n_mels; i++) {
        double edges[3] = {edge(m, i), edge(m, i + 1), edge(m, i + 2)};
        triangle *t = &m->triangles[i];
        *t = (triangle){.at = used};
        for (int64_t bin = 0; bin < m->n_bins; bin++) {
            float w = triangle_weight(m, edges, bin);
            if (w <= 0)
                continue;
            t->first = t->n ? t->first : bin;
            t->n++;
            m->weights[used++] = w; /* a bin lies in two triangles at most */
        }
    }
    return true;
}

static bool make_window(mel *m)
{
    int64_t left = (m->o.n_fft - m->o.window) / 2;
    m->window = calloc((size_t)m->o.n_fft, sizeof *m->window);
    for (int64_t i = 0; m->window && i < m->o.window; i++) /* periodic */
        m->window[left + i] =
            (float)(0.5 - 0.5 * cos(6.283185307179586477 * (double)i / (double)m->o.window));
    return m->window != NULL;
}

/* --- running --- */

static int64_t frames_of(const mel *m, int64_t rows)
{
    if (!m->o.no_center)
        return rows > 0 ? 1 + rows / m->o.hop : 0;
    return rows >= m->o.n_fft ? 1 + (rows - m->o.n_fft) / m->o.hop : 0;
}

static fb_status mel_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                           char *text, size_t size)
{
    const mel *m = (const mel *)t;
    fbi_field *field = &fields->f[f];
    if (field->dtype != FB_F32) {
        snprintf(text, size, "F32 is needed: use fb_transform_to_float before it");
        return FB_E_DTYPE;
    }
    if (field->shape.n != 1 && field->shape.n != 2) {
        snprintf(text, size, "sound [time] or [time, channels] is needed");
        return FB_E_SHAPE;
    }
    int64_t frames = frames_of(m, field->shape.d[0]);
    if (frames < 1) {
        snprintf(text, size, "it is shorter than n_fft = %lld", (long long)m->o.n_fft);
        return FB_E_SHAPE;
    }
    bool channels = field->shape.n == 2;
    int64_t c = channels ? field->shape.d[1] : 1, bands = m->o.n_mels;
    if (field->varies)
        field->shape = channels ? FB_SHAPE(frames, c, bands) : FB_SHAPE(frames, bands);
    else
        field->shape = channels ? FB_SHAPE(c, bands, frames) : FB_SHAPE(bands, frames);
    step->scratch =
        (size_t)m->o.n_fft * 3 * sizeof(fbi_complex) + 2 * (size_t)m->n_bins * sizeof(float);
    return FB_OK;
}

/* Which of n elements place i is, mirrored at both ends as often as it takes. */
static int64_t reflect(int64_t i, int64_t n)
{
    if (n == 1)
        return 0;
    int64_t period = 2 * (n - 1);
    i = (i % period + period) % period;
    return i < n ? i : period - i;
}

/* Element `i` of a windowed frame. */
static float windowed(const mel *m, const float *x, int64_t rows, int64_t channels, int64_t begin,
                      int64_t i)
{
    int64_t at = begin + i;
    if (at < 0 || at >= rows)
        at = reflect(at, rows);
    return x[at * channels] * m->window[i];
}

/* Powers of two neighbouring frames by one transform: real and imaginary part. */
static void spectra(const mel *m, const float *x, int64_t rows, int64_t channels, int64_t frame,
                    bool second, fbi_complex *scratch, float *powers)
{
    int64_t n = m->o.n_fft, begin = frame * m->o.hop - (m->o.no_center ? 0 : n / 2);
    fbi_complex *z = scratch, *y = z + n;
    for (int64_t i = 0; i < n; i++)
        z[i] = (fbi_complex){windowed(m, x, rows, channels, begin, i),
                             second ? windowed(m, x, rows, channels, begin + m->o.hop, i) : 0};
    fbi_fft_run(&m->fft, z, y, y + n);
    for (int64_t k = 0; k < m->n_bins; k++) {
        fbi_complex a = y[k], b = y[k ? n - k : 0];
        float re1 = (a.re + b.re) / 2, im1 = (a.im - b.im) / 2;
        float re2 = (a.im + b.im) / 2, im2 = (b.re - a.re) / 2;
        powers[k] = re1 * re1 + im1 * im1;
        powers[m->n_bins + k] = re2 * re2 + im2 * im2;
    }
    for (int64_t k = 0; m->o.power != 2 && k < 2 * m->n_bins; k++)
        powers[k] = m->o.power == 1 ? sqrtf(powers[k]) : powf(powers[k], (float)m->o.power / 2);
}

static float loudness(const mel *m, float x)
{
    float least = (float)m->o.floor, y = x > least ? x : least;
    switch ((fb_mel_log)m->o.log) {
    case FB_MEL_POWER:
        break;
    case FB_MEL_LN:
        return logf(y);
    case FB_MEL_DB:
        return (float)(20 / m->o.power) * log10f(y);
    }
    return x;
}

static void write_frame(const mel *m, const float *powers, float *out, int64_t step)
{
    for (int64_t i = 0; i < m->o.n_mels; i++) {
        const triangle *t = &m->triangles[i];
        float sum = 0;
        for (int64_t k = 0; k < t->n; k++)
            sum += m->weights[t->at + k] * powers[t->first + k];
        out[i * step] = loudness(m, sum);
    }
}

static fb_status mel_run(const fb_transform *t, fbi_call *call)
{
    const mel *m = (const mel *)t;
    const fb_value *in = call->in[0];
    fb_value *out = call->out[0];
    int64_t channels = in->shape.n == 2 ? in->shape.d[1] : 1;
    int64_t rows = fbi_value_rows(in), frames = frames_of(m, rows), bands = m->o.n_mels;
    /* From a frame, channel or band to the next: time is last, but first if it varies. */
    int64_t room = out->shape.d[out->shape.n - 1];
    int64_t frame_step = in->varies ? channels * bands : 1, band_step = in->varies ? 1 : room;
    int64_t channel_step = in->varies ? bands : bands * room;
    float *powers = (float *)((fbi_complex *)call->scratch + 3 * m->o.n_fft);
    memset(out->data, 0, fbi_value_bytes(out));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t frame = 0; frame < frames; frame += 2) {
            float *to = (float *)out->data + c * channel_step + frame * frame_step;
            bool second = frame + 1 < frames;
            spectra(m, (const float *)in->data + c, rows, channels, frame, second, call->scratch,
                    powers);
            write_frame(m, powers, to, band_step);
            if (second)
                write_frame(m, powers + m->n_bins, to + frame_step, band_step);
        }
    out->rows = frames;
    return FB_OK;
}

static void mel_free(fb_transform *t)
{
    mel *m = (mel *)t;
    fbi_fft_close(&m->fft);
    free(m->window);
    free(m->triangles);
    free(m->weights);
}

static const fbi_transform_kind mel_kind = {
    .name = "mel_spectrogram", .infer = mel_infer, .run = mel_run, .free = mel_free};

static void fill_defaults(fb_mel_options *o)
{
    o->sample_rate = o->sample_rate == 0 ? 16000 : o->sample_rate;
    o->n_fft = o->n_fft ? o->n_fft : 400;
    o->window = o->window ? o->window : o->n_fft;
    o->hop = o->hop ? o->hop : o->window / 2;
    o->n_mels = o->n_mels ? o->n_mels : 128;
    o->f_max = o->f_max == 0 ? o->sample_rate / 2 : o->f_max;
    o->power = o->power == 0 ? 2 : o->power;
    o->floor = o->floor == 0 ? 1e-10 : o->floor;
}

static const char *wrong_with(const fb_mel_options *o)
{
    if (!(o->sample_rate > 0 && o->sample_rate < 1e12))
        return "sample_rate must be positive";
    if (o->n_fft < 2 || o->n_fft > 1 << 20 || o->window < 1 || o->window > o->n_fft)
        return "n_fft must be in 2 .. 1048576, window in 1 .. n_fft";
    if (o->hop < 1 || o->n_mels < 1 || o->n_mels > 1 << 16)
        return "hop and n_mels must be at least 1";
    if (!(o->f_min >= 0 && o->f_min < o->f_max && o->f_max <= o->sample_rate / 2))
        return "0 <= f_min < f_max <= sample_rate / 2 is needed";
    if (!(o->power > 0 && o->power < 100) || !(o->floor > 0))
        return "power and floor must be positive";
    return o->log < 0 || o->log > FB_MEL_DB ? "there is no such log" : NULL;
}

fb_transform *fb_transform_mel_spectrogram(fb_context *ctx, const fb_mel_options *opts)
{
    FBI_ENTRY(ctx);
    fb_mel_options o = opts ? *opts : (fb_mel_options){0};
    fill_defaults(&o);
    const char *wrong = wrong_with(&o);
    if (wrong)
        return fbi_transform_refuse(ctx, &mel_kind, "%s", wrong);
    mel *m = fbi_transform_new(ctx, &mel_kind, sizeof *m);
    if (!m)
        return NULL;
    m->o = o;
    FBI_NOTE(&m->base, o.sample_rate, (double)o.n_fft, (double)o.window, (double)o.hop,
             (double)o.n_mels, o.f_min, o.f_max, o.power, o.slaney_scale, o.slaney_norm,
             o.no_center, o.log, o.floor);
    m->n_bins = o.n_fft / 2 + 1;
    if (fbi_fft_open(&m->fft, o.n_fft) && make_window(m) && make_triangles(m))
        return &m->base;
    fbi_fail(ctx, FB_E_NOMEM, "transform mel_spectrogram: no memory for n_fft = %lld",
             (long long)o.n_fft);
    fb_transform_close(&m->base);
    return NULL;
}
