/* For test_cuda_calls.py, never compiled: wrong_x has one mistake, right_x none. */

void wrong_bare(cudaStream_t s)
{
    cudaStreamSynchronize(s);
}

void wrong_pointer(struct library *l)
{
    of(l->x[1])->api.ncclGroupStart();
}

void wrong_behind_if(void *p)
{
    if (p)
        cudaFree(p);
}

void wrong_behind_else(void *p)
{
    if (!p)
        return;
    else
        cudnnDestroy(p);
}

void wrong_assigned(void *p)
{
    cudaError_t e = cudaFree(p);
}

int wrong_overwritten(void *p, void *q)
{
    cudaError_t e = cudaFree(p);
    e = cudaFree(q);
    return e == cudaSuccess;
}

void wrong_ignored(void *p)
{
    (void)cudaFree(p);
}

void wrong_to_somebody(void *p)
{
    printf("%d\n", cudaFree(p));
}

void wrong_comma(void *p)
{
    int i = 0;
    i++, cudaFree(p);
}

void wrong_launch(float *x)
{
    LAUNCH(kernel, 1, 1, 0, 0, x);
}

void wrong_launch_of_nvcc(float *x)
{
    kernel<<<1, 1>>>(x);
}

void wrong_driver(CUstream s)
{
    cuStreamSynchronize(s); /* cuBLASLt is a word, and "cudaFree(p)" a string */
}

/* cudaFree(p); in a comment */
cudaError_t cudaDeclared(void *p);

fb_status right_checked(fb_context *ctx, void *p)
{
    FBI_CUDA_TRY(ctx, cudaMemcpyAsync(p, p, (size_t)4, cudaMemcpyDefault, 0));
    return status_of(ctx, NULL, of(ctx)->api.ncclGroupEnd(), "ncclGroupEnd");
}

int right_compared(void *p)
{
    if (cudaFree(p) != cudaSuccess || (p && cudaFree(p) != cudaSuccess))
        return 0;
    return cudaFree(p) == cudaSuccess;
}

int right_assigned(struct probe *p)
{
    cudaError_t e = p ? cudaEventQuery(p->event) : cudaStreamQuery(p->queue);
    p->e = cudaGetLastError();
    if (p->e)
        printf("%s\n", cudaGetErrorString(e));
    return e == cudaSuccess;
}

int right_branches(void *p)
{
    cudaError_t e;
    if (p)
        e = cudaFree(p);
    else
        e = cudaGetLastError();
    e = e == cudaSuccess ? cudaFree(p) : e;
    return e == cudaSuccess;
}

void right_ignored(void *p)
{
    (void)cudaFree(p); /* nothing is left to do about it */
    /* closing */
    (void)cudaStreamDestroy(p);
}

/* A card that is given up. Errors have nobody
 * to go to: there is no context any more. */
void right_closing(void *p)
{
    if (p)
        (void)cudaFree(p);
    (void)cudaDeviceReset();
}

void wrong_closing(void *p)
{
    (void)cudaFree(p);
}
