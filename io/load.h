/* What to do with names when values come from a file of another run or program. */
#ifndef FLAMBEAU_IO_LOAD_H
#define FLAMBEAU_IO_LOAD_H

#include <stdint.h>

#include <flambeau/core/base/status.h>

FB_BEGIN

/** A rule for names of the file. `from` and `to` may have one '*' each, which stands for the same
 * text in both: {"encoder.*", "model/0.*"}. `to` NULL: such entries are left out. */
typedef struct fb_rename {
    const char *from, *to;
} fb_rename;

/** What a load found. */
typedef struct fb_load_report {
    int64_t loaded, missing, unexpected; /**< entries; missing: in the program, not in the file */
} fb_load_report;

/** Zero is the default of every field: all names as they are, and every one must be there. */
typedef struct fb_load_options {
    const fb_rename *rename;   /**< ended by {0}; the first rule that matches a name counts */
    const char *allow_missing; /**< entries of the program that need not be in the file: a glob */
    const char *allow_unexpected; /**< entries of the file, renamed, that the program need not have:
                                       a glob */
    fb_load_report *report;       /**< is filled; NULL: not wanted */
} fb_load_options;

FB_END
#endif
