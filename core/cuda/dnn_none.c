/* The build had no cuDNN headers: our own kernels serve. */
#include <stdio.h>

#include "core/cuda/dnn_priv.h"
#include "core/cuda/library_priv.h"

const bool fbi_dnn_built = false;

static void say(fbi_dnn_text *why)
{
    snprintf(
        why->text, sizeof why->text,
        "cuDNN is not used: this build has found no cudnn.h: install cuDNN's headers and build "
        "again; without it %s",
        fbi_cuda_cudnn.without);
}

fbi_dnn_library *fbi_dnn_open(void *stream, fbi_dnn_text *why)
{
    (void)stream;
    say(why);
    return NULL;
}

void fbi_dnn_close(fbi_dnn_library *l)
{
    (void)l;
}

fbi_dnn_plan *fbi_dnn_plan_new(fbi_dnn_library *l, const fbi_dnn_problem *p, size_t memory,
                               fbi_dnn_text *why)
{
    (void)l, (void)p, (void)memory;
    say(why);
    return NULL;
}

void fbi_dnn_plan_free(fbi_dnn_plan *plan)
{
    (void)plan;
}

size_t fbi_dnn_plan_workspace(const fbi_dnn_plan *plan)
{
    (void)plan;
    return 0;
}

bool fbi_dnn_plan_run(fbi_dnn_plan *plan, void *const *operands, void *workspace, fbi_dnn_text *why)
{
    (void)plan, (void)operands, (void)workspace;
    say(why);
    return false;
}
