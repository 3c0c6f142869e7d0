/* Pages of memory that is used again and again. */
#ifndef FLAMBEAU_CORE_BASE_PAGES_PRIV_H
#define FLAMBEAU_CORE_BASE_PAGES_PRIV_H

#include <stddef.h>

/* Make huge pages (2 MiB) of those of n bytes at p, which keep their values, where they fill some.
 * A wish: Linux before 6.1 and systems without such pages leave all as it is. */
void fbi_pages_join(void *p, size_t n);

#endif
