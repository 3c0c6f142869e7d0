#include <flambeau/core/base/status.h>

FB_API const char *fb_status_name(fb_status status)
{
    switch (status) {
    case FB_OK:
        return "FB_OK";
    case FB_E_ARG:
        return "FB_E_ARG";
    case FB_E_SHAPE:
        return "FB_E_SHAPE";
    case FB_E_DTYPE:
        return "FB_E_DTYPE";
    case FB_E_NOMEM:
        return "FB_E_NOMEM";
    case FB_E_IO:
        return "FB_E_IO";
    case FB_E_NOT_FOUND:
        return "FB_E_NOT_FOUND";
    case FB_E_COMM:
        return "FB_E_COMM";
    case FB_E_DEVICE:
        return "FB_E_DEVICE";
    case FB_E_STALE:
        return "FB_E_STALE";
    case FB_E_UNSUPPORTED:
        return "FB_E_UNSUPPORTED";
    case FB_E_USER:
        return "FB_E_USER";
    case FB_E_STATE:
        return "FB_E_STATE";
    case FB_AGAIN:
        return "FB_AGAIN";
    }
    return "unknown status";
}
