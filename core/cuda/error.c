/* Errors of the CUDA libraries: name, text, call, place, and what to do. */
#include "core/cuda/cuda_priv.h"

static const struct {
    cudaError_t error;
    const char *text;
} advice[] = {
    {cudaErrorMemoryAllocation, "use a smaller micro-batch, more ranks or fb_checkpoint_call; "
                                "nvidia-smi names other programs that have the card's memory"},
    {cudaErrorNoDevice, "no card is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES"},
    {cudaErrorInsufficientDriver,
     "the driver is older than this build's CUDA: install a newer one"},
    {cudaErrorSystemDriverMismatch,
     "driver and libcuda differ: restart the machine or the container"},
    {cudaErrorDevicesUnavailable,
     "the card is busy or in exclusive mode: nvidia-smi names the process that has it; wait for "
     "it, choose another card with CUDA_VISIBLE_DEVICES, allow sharing with nvidia-smi -c DEFAULT, "
     "or use the CPU (FLAMBEAU_DEVICE=cpu)"},
    {cudaErrorStubLibrary,
     "the libcuda.so.1 found is the toolkit's stub, which is for linking: take "
     "its folder out of LD_LIBRARY_PATH"},
    {cudaErrorCompatNotSupportedOnDevice, "a compatibility libcuda (cuda-compat) is found that "
                                          "this card does not permit: take it out of "
                                          "LD_LIBRARY_PATH, or install a newer driver"},
    {cudaErrorMpsConnectionFailed,
     "CUDA's multi-process service does not answer: start nvidia-cuda-mps-control, or unset "
     "CUDA_MPS_PIPE_DIRECTORY"},
    {cudaErrorSystemNotReady, "the driver is not ready: on machines with NVSwitch start "
                              "nvidia-fabricmanager"},
    {cudaErrorOperatingSystem,
     "the driver's files /dev/nvidia* cannot be opened: look at their rights, or start the "
     "container with --gpus all"},
    {cudaErrorNoKernelImageForDevice,
     "this build has no kernels for the card: configure with its FLAMBEAU_CUDA_ARCHITECTURES"},
    {cudaErrorIllegalAddress,
     "a kernel touched memory that is not its own; the card's context is lost, start again"},
    {cudaErrorLaunchFailure, "a kernel failed; the card's context is lost, start again"},
    {cudaErrorECCUncorrectable, "the card's memory is damaged: take the machine out of service"},
};

const char *fbi_cuda_advice(cudaError_t e)
{
    for (size_t i = 0; i < sizeof advice / sizeof advice[0]; i++)
        if (advice[i].error == e)
            return advice[i].text;
    return "";
}

/* A kernel's error is only seen by a later call. */
static bool is_of_a_kernel(cudaError_t e)
{
    return e == cudaErrorIllegalAddress || e == cudaErrorLaunchFailure ||
           e == cudaErrorMisalignedAddress || e == cudaErrorIllegalInstruction ||
           e == cudaErrorAssert;
}

fb_status fbi_cuda_failed(fb_context *ctx, cudaError_t e, const char *call, const char *file,
                          int line)
{
    fb_status st = e == cudaErrorMemoryAllocation ? FB_E_NOMEM : FB_E_DEVICE;
    const char *what = fbi_cuda_advice(e);
    bool find = is_of_a_kernel(e) && !fbi_cuda_of(ctx)->blocking_all;
    (void)cudaGetLastError(); /* the next launch must not report it again */
    return fbi_cuda_of(ctx)->core->fail(
        ctx, st, "%s: %s%s%s (%s) of %s at %s:%d%s%s%s", ctx->device_name,
        ctx->doing ? ctx->doing : "", ctx->doing ? ": " : "", cudaGetErrorName(e),
        cudaGetErrorString(e), call, file, line, *what ? ": " : "", what,
        find ? "; with FLAMBEAU_CUDA_BLOCKING=all the operator is named that it came from" : "");
}

static const char *lt_advice(cublasStatus_t e)
{
    static const struct {
        cublasStatus_t error;
        const char *text;
    } known[] = {
        {CUBLAS_STATUS_NOT_INITIALIZED,
         ": the card's memory may be full, or this cuBLASLt too new for the driver"},
        {CUBLAS_STATUS_ALLOC_FAILED,
         ": use a smaller micro-batch, more ranks or fb_checkpoint_call"},
        {CUBLAS_STATUS_ARCH_MISMATCH,
         ": this cuBLASLt does not know the card: install a newer one"},
        {CUBLAS_STATUS_EXECUTION_FAILED,
         ": an earlier kernel may have failed; with FLAMBEAU_CUDA_BLOCKING=all the operator is "
         "named that it came from"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].error == e)
            return known[i].text;
    return "";
}

fb_status fbi_cuda_lt_failed(fb_context *ctx, cublasStatus_t e, const char *call, const char *file,
                             int line)
{
    fb_status st = e == CUBLAS_STATUS_ALLOC_FAILED ? FB_E_NOMEM : FB_E_DEVICE;
    return fbi_cuda_of(ctx)->core->fail(ctx, st, "%s: %s%s%s (%s) of %s at %s:%d%s",
                                        ctx->device_name, ctx->doing ? ctx->doing : "",
                                        ctx->doing ? ": " : "", cublasLtGetStatusName(e),
                                        cublasLtGetStatusString(e), call, file, line, lt_advice(e));
}
