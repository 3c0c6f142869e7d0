/* A program's own options beside those of the trainer: from YAML files and the command line. */
#ifndef FLAMBEAU_LAUNCH_OPTIONS_H
#define FLAMBEAU_LAUNCH_OPTIONS_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** What an option's field is, and how its text is read. */
typedef enum fb_option_kind {
    FB_OPTION_COUNT = 1, /**< int64_t: a whole number */
    FB_OPTION_NUMBER,    /**< double */
    FB_OPTION_TIME,      /**< double, seconds: 90, 1:30 or 2:00:00 */
    FB_OPTION_TEXT,      /**< const char *: a copy that lives as long as the trainer; empty: NULL */
    FB_OPTION_FLAG,      /**< bool: true, false, yes, no, on or off */
    FB_OPTION_CHOICE     /**< int: number of a word of `words`, from 1; 0: none was chosen */
} fb_option_kind;

/** One option: a field of a struct. */
typedef struct fb_option {
    const char *name; /**< "width"; NULL ends a table */
    fb_option_kind kind;
    size_t offset;      /**< of the field in the struct */
    double least, most; /**< of COUNT, NUMBER and TIME; most = 0: no limit */
    const char *words;  /**< of CHOICE, with a blank between two */
    const char *about;  /**< a line for --help */
} fb_option;

/**
 * Options of one name: those of "model" are given as `model: {width: 64}` in a YAML file, and as
 * `--set model.width=64` on the command line, which wins. What is in the struct before is the
 * default.
 */
typedef struct fb_option_group {
    const char *name; /**< "model"; NULL ends a list of groups */
    const fb_option *rows;
    void *values; /**< the struct that the rows describe */
} fb_option_group;

/** The rows of fb_loader_options (io/loader.h) that a configuration can have, for a group of the
 * program: with {"data", fb_loader_option_rows(), &options} it takes `--set data.shuffle=true`. */
FB_API const fb_option *fb_loader_option_rows(void);

FB_END
#endif
