#include "launch/checkpoint_diff_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/access_priv.h"
#include "io/stored_priv.h"
#include "launch/commands_priv.h"

typedef struct side {
    const char *path;
    json_t *root;
    fbi_stored stored;
    bool open;
    char text[512];
} side;

typedef struct comparison {
    side a, b;
    int64_t differ, equal;
    bool failed; /* one could not be read */
} comparison;

static json_t *entries(const side *s, const char *what)
{
    return json_object_get(s->root, what);
}

static void only_in(comparison *c, const char *key, const side *s)
{
    printf("  %-40s only in %s\n", key, s->path);
    c->differ++;
}

static void *values_of(comparison *c, side *s, const char *key, const fbi_stored_tensor *t)
{
    void *data = malloc((size_t)t->bytes + 1);
    if (data && fbi_stored_read(&s->stored, key, t, data))
        return data;
    fprintf(stderr, "flambeau checkpoint: %s: %s\n", s->path, data ? s->text : "no memory");
    c->failed = true;
    free(data);
    return NULL;
}

/* Elements whose bits differ, and the largest difference of two numbers. */
static void compare_elements(comparison *c, const char *key, const fbi_stored_tensor *t,
                             const char *x, const char *y)
{
    int64_t n = 0;
    double largest = 0;
    size_t size = fb_dtype_size(t->dtype);
    for (int64_t i = 0; i < t->numel; i++) {
        if (!memcmp(x + (size_t)i * size, y + (size_t)i * size, size))
            continue;
        double d = fabs(fbi_element_f64(t->dtype, x, i) - fbi_element_f64(t->dtype, y, i));
        n++;
        if (d > largest)
            largest = d;
    }
    if (n)
        printf("  %-40s %" PRId64 " of %" PRId64 " elements differ, by at most %g\n", key, n,
               t->numel, largest);
    c->differ += n > 0;
    c->equal += n == 0;
}

static void compare_tensors(comparison *c, const char *key, json_t *in_a, json_t *in_b)
{
    fbi_stored_tensor a, b;
    char one[96], other[96];
    if (!fbi_stored_tensor_of(in_a, &a) || !fbi_stored_tensor_of(in_b, &b)) {
        fprintf(stderr, "flambeau checkpoint: %s is described by nonsense\n", key);
        c->failed = true;
        return;
    }
    if (strcmp(a.kind, b.kind) != 0 || !fb_shape_equal(a.shape, b.shape)) {
        printf("  %-40s %s %s, and %s %s\n", key, a.kind, fb_shape_text(a.shape, one, sizeof one),
               b.kind, fb_shape_text(b.shape, other, sizeof other));
        c->differ++;
        return;
    }
    char *x = values_of(c, &c->a, key, &a), *y = x ? values_of(c, &c->b, key, &b) : NULL;
    if (y)
        compare_elements(c, key, &a, x, y);
    free(x);
    free(y);
}

static double number_of(json_t *value)
{
    return json_is_integer(value) ? (double)json_integer_value(value)
                                  : strtod(json_string_value(value), NULL);
}

static void compare_values(comparison *c, const char *key, json_t *a, json_t *b)
{
    if (json_equal(a, b)) {
        c->equal++;
        return;
    }
    printf("  %-40s %.17g, and %.17g\n", key, number_of(a), number_of(b));
    c->differ++;
}

static void compare_all(comparison *c, const char *what,
                        void (*compare)(comparison *, const char *, json_t *, json_t *))
{
    const char *key;
    json_t *value;
    json_object_foreach(entries(&c->a, what), key, value)
    {
        json_t *other = json_object_get(entries(&c->b, what), key);
        if (other)
            compare(c, key, value, other);
        else
            only_in(c, key, &c->a);
    }
    json_object_foreach(entries(&c->b, what), key, value)
    {
        if (!json_object_get(entries(&c->a, what), key))
            only_in(c, key, &c->b);
    }
}

static bool open_side(side *s)
{
    s->open = fbi_stored_open(&s->stored, s->path, s->root, s->text, sizeof s->text);
    if (!s->open)
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", s->path, s->text);
    return s->open;
}

int fbi_checkpoint_diff(const char *path_a, json_t *a, const char *path_b, json_t *b)
{
    comparison c = {.a = {.path = path_a, .root = a}, .b = {.path = path_b, .root = b}};
    char run[1024];
    c.failed = !open_side(&c.a) || !open_side(&c.b);
    if (!c.failed) {
        if (fbi_run_differs(json_object_get(a, "run"), json_object_get(b, "run"), run, sizeof run))
            printf("  run: %s\n", run);
        compare_all(&c, "tensors", compare_tensors);
        compare_all(&c, "values", compare_values);
    }
    if (c.a.open)
        fbi_stored_close(&c.a.stored);
    if (c.b.open)
        fbi_stored_close(&c.b.stored);
    if (c.failed)
        return FBI_EXIT_FAILED;
    printf("%s and %s: %" PRId64 " entries differ, %" PRId64 " are equal\n", path_a, path_b,
           c.differ, c.equal);
    return c.differ ? FBI_EXIT_FAILED : FBI_EXIT_OK;
}
