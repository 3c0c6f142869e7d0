/* What a plug-in exports, and the stamp that core and plug-in must agree on. */
#ifndef FLAMBEAU_CORE_OPS_PLUGIN_PRIV_H
#define FLAMBEAU_CORE_OPS_PLUGIN_PRIV_H

#include "core/ops/op_priv.h"

/* Names, attributes and flags of every row: the order of the kernel table and the structs of its
 * attributes follow from them. */
#define FBI_STAMP(name, ...) #name "(" #__VA_ARGS__ ")"
static const char fbi_rows_stamp[] = ""
#define UNARY          FBI_STAMP
#define UNARY_S        FBI_STAMP
#define BINARY         FBI_STAMP
#define COMPARE        FBI_STAMP
#define PREDICATE      FBI_STAMP
#define BITS           FBI_STAMP
#define OP             FBI_STAMP
#define OP_SLOW        FBI_STAMP
#define OP_NODIFF      FBI_STAMP
#define OP_FUSED       FBI_STAMP
#define OP_FUSED_INNER FBI_STAMP
#define UNARY_INT      FBI_STAMP
#define BINARY_INT     FBI_STAMP
#define OP_INNER       FBI_STAMP
#define OP_INNER_DIFF  FBI_STAMP
#define OP_VIEW        FBI_STAMP
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
    ;

typedef struct fbi_stamp {
    int abi, version, ops;
    uint32_t context, tensor, call, backend, plugin; /* sizes of structs */
    const char *rows;
} fbi_stamp;

#define FBI_STAMP_HERE                                                                  \
    {                                                                                   \
        FBI_BACKEND_ABI, FB_VERSION, FBI_OP_COUNT, (uint32_t)sizeof(fb_context),        \
            (uint32_t)sizeof(fb_tensor), (uint32_t)sizeof(fbi_call),                    \
            (uint32_t)sizeof(fbi_backend), (uint32_t)sizeof(fbi_plugin), fbi_rows_stamp \
    }

/* The plug-in's only symbol is `const fbi_plugin fbi_plugin_symbol`. */
#define FBI_PLUGIN_SYMBOL "fbi_plugin_symbol"
typedef struct fbi_plugin {
    fbi_stamp stamp;
    const fbi_backend *backend;
    /* Where lines for the user go. */
    void (*listen)(void (*logline)(const char *fmt, ...));
    /* Devices that can be used; 0: none, and `why` says so and what to do. */
    int (*count)(char *why, size_t size);
    /* A name of device number i that is the same in every process of the machine. */
    uint64_t (*name)(int i);
    /* Versions of driver and libraries, and the devices, for `flambeau doctor`: one a line, with
     * '+' in front of what is well and '-' of what is not. */
    void (*describe)(char *text, size_t size);
} fbi_plugin;

/* lib/libflambeau_NAME.so, opened once and never closed. NULL: `why` says what is wrong. */
const fbi_plugin *fbi_plugin_open(const char *name, char *why, size_t size);

#endif
