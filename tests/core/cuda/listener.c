/* A profiler for test_nvtx.sh: hangs itself into NVTX (NVTX_INJECTION64_PATH), prints each range
 * with its depth, and at the end how many are still open. */
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

static int depth;

static int NVTX_API push(const char *name)
{
    fprintf(stderr, "range %d %s\n", depth, name);
    return depth++;
}

static int NVTX_API pop(void)
{
    return --depth;
}

static void at_end(void)
{
    fprintf(stderr, "ranges left open: %d\n", depth);
}

int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get);

int NVTX_API InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get)
{
    NvtxFunctionTable table = NULL;
    unsigned size = 0;
    const NvtxExportTableCallbacks *callbacks = get(NVTX_ETID_CALLBACKS);
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) ||
        size <= NVTX_CBID_CORE_RangePop)
        return 0;
    *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    atexit(at_end);
    return 1;
}
