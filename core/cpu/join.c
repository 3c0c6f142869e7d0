/* Kernel of cat. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"

fb_status FBI_KERNEL(cat)(const fbi_call *c)
{
    int64_t dim = ((const fbi_attrs_cat *)c->attrs)->dim;
    fbi_line whole = fbi_line_of(c->out[0], dim);
    size_t bytes = fb_dtype_size((fb_dtype)c->out[0]->dtype);
    size_t pitch = (size_t)(whole.n * whole.inner) * bytes;
    char *out = fbi_ptr(c->out[0]);
    for (int i = 0; i < c->n_in; i++) {
        fbi_flat f;
        if (!fbi_flat_of(c, c->in[i], &f))
            return FB_E_NOMEM;
        fbi_line l = fbi_line_of(c->in[i], dim);
        size_t row = (size_t)(l.n * l.inner) * bytes;
        int team = fbi_team(c, c->in[i]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
        for (int64_t o = 0; o < l.outer; o++)
            memcpy(out + (size_t)o * pitch, (const char *)f.p + (size_t)o * row, row);
        out += row;
        fbi_flat_free(&f);
    }
    return FB_OK;
}
