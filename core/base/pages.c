/* See pages_priv.h. */
#include "core/base/pages_priv.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, COLLAPSE = 25 }; /* MADV_COLLAPSE, which glibc 2.36 does not name */

void fbi_pages_join(void *p, size_t n)
{
    uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uintptr_t to = ((uintptr_t)p + n) / HUGE_PAGE * HUGE_PAGE;
    int before = errno;
    if (from < to)
        madvise((void *)from, to - from, COLLAPSE);
    errno = before;
}
