/* Every macro for users, from C++20: tests/house/test_headers.py compiles this and looks for each.
 */
#include <flambeau/flambeau.h>

#include <cstddef>

struct block {
    fb_module *inner;
    fb_tensor *scale, *mean, *state;
};

static const fb_field block_fields[] = {
    FB_CHILD(block, inner), FB_PARAM(block, scale),     FB_BUFFER(block, mean),
    FB_SLOT(block, state),  {FB_FIELD_END, nullptr, 0},
};

int main()
{
    static_assert(FB_COUNT(1, 2, 3) == 3, "three arguments");
    fb_context *ctx = fb_context_open(nullptr);
    FB_SCOPE(ctx);
    fb_tensor *a = nullptr, *b = nullptr, **place = &a;
    fb_shape shapes[] = {FB_SHAPE(2, 3), FB_DIMS(0, 1), FB_SCALAR, FB_ALL};
    fb_tensors list = FB_TENSORS(a, b);
    fb_outs outs = FB_OUTS(place, &b);
    fb_modules modules = FB_MODULES(nullptr, nullptr);
    const fb_context_options *options = FB_OPTS(fb_context_options, .device = "cpu", .threads = 2);
    fb_transforms transforms = FB_TRANSFORMS(nullptr, nullptr);
    fb_module *model = fb_nn_sequential(ctx, nullptr, nullptr);
    fb_state *state = fb_state_open(ctx);
    int64_t steps = 0;
    double best = 0;
    fb_state_add(state, "model", model);
    fb_state_add(state, "average", a);
    fb_state_add(state, "steps", &steps);
    fb_state_add(state, "best", &best);
    return shapes[0].n + list.n + outs.n + modules.n + transforms.n + options->threads +
           (model != nullptr) + (block_fields[0].name != nullptr);
}
