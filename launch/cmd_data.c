/* flambeau data import|show|check: datasets in and out of HDF5. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset_priv.h"
#include "launch/commands_priv.h"
#include "launch/import_priv.h"

static const char usage[] =
    "usage: flambeau data import idx --images FILE --labels FILE [--scale X] [--shift Y] OUT.h5\n"
    "       flambeau data import csv --target COLUMN [--labels-are int|float] FILE OUT.h5\n"
    "       flambeau data import npy --input FILE --target FILE OUT.h5\n"
    "       flambeau data show FILE.h5     fields, samples, shards\n"
    "       flambeau data check FILE.h5    compare every shard with its checksum\n"
    "\n"
    "import writes OUT.h5 and shards OUT-<id>-00000.h5 beside it, with the fields \"input\" and\n"
    "\"target\"; a dataset that is there already is replaced when the new one is complete.\n"
    "  --shard-samples N   samples of a shard (64 MiB worth)\n"
    "idx: the format of MNIST, may be compressed with gzip; images become [1, height, width],\n"
    "x * scale + shift on loading\n"
    "  --scale X           1/255\n"
    "  --shift Y           0\n"
    "csv: numbers under a line of column names; all columns but the target are the input\n"
    "  --labels-are KIND   int: class numbers, as I64 (default); float: F32, for regression\n"
    "npy: two arrays of the same first size, in any dtype, C or Fortran order\n";

/* A context for a command: its errors are printed when it is closed. */
static fb_context *open_context(void)
{
    return fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
}

static void print_field(const fb_dataset_field *f)
{
    char stored[128], delivered[128];
    printf("  %-12s %s %s", f->name, fb_dtype_name(f->dtype),
           fb_shape_text(f->shape, stored, sizeof stored));
    if (f->scale != 0)
        printf(", loaded as F32 %s, x * %g + %g",
               fb_shape_text(fbi_dataset_deliver_shape(f), delivered, sizeof delivered), f->scale,
               f->shift);
    printf("\n");
}

static int show(const char *path)
{
    fb_context *ctx = open_context();
    fb_dataset *ds = fb_dataset_open(ctx, path);
    if (ds) {
        int64_t bytes = 0;
        for (int s = 0; s < ds->n_shards; s++)
            bytes += ds->shards[s].bytes;
        printf("dataset %s: %" PRId64 " samples, %d shard%s of together %.1f MiB, id %s\n", path,
               fb_dataset_size(ds), ds->n_shards, ds->n_shards == 1 ? "" : "s",
               (double)bytes / (1 << 20), ds->id);
    }
    for (int i = 0; i < fb_dataset_field_count(ds); i++) {
        fb_dataset_field field = fb_dataset_field_at(ds, i);
        print_field(&field);
    }
    return fb_context_close(ctx) ? FBI_EXIT_FAILED : FBI_EXIT_OK;
}

static int check(const char *path)
{
    fb_context *ctx = open_context();
    fb_dataset *ds = fb_dataset_open(ctx, path);
    if (ds && !fb_dataset_check(ds))
        printf("dataset %s: every shard is as it was written\n", path);
    return fb_context_close(ctx) ? FBI_EXIT_FAILED : FBI_EXIT_OK;
}

/* --- import --- */

enum { INPUT = 256, TARGET, SCALE, SHIFT, SHARD, KIND };
static const struct option idx_options[] = {
    {"images", required_argument, NULL, INPUT},        {"labels", required_argument, NULL, TARGET},
    {"scale", required_argument, NULL, SCALE},         {"shift", required_argument, NULL, SHIFT},
    {"shard-samples", required_argument, NULL, SHARD}, {0}};
static const struct option csv_options[] = {{"target", required_argument, NULL, TARGET},
                                            {"labels-are", required_argument, NULL, KIND},
                                            {"shard-samples", required_argument, NULL, SHARD},
                                            {0}};
static const struct option npy_options[] = {{"input", required_argument, NULL, INPUT},
                                            {"target", required_argument, NULL, TARGET},
                                            {"shard-samples", required_argument, NULL, SHARD},
                                            {0}};

static const struct format {
    const char *name;
    int (*run)(const fbi_import *job, fb_context *ctx);
    const struct option *options;
    const char *needs; /* what a command line must have */
    bool named;        /* the input is the argument before the last */
} formats[] = {
    {"idx", fbi_import_idx, idx_options, "--images FILE, --labels FILE and OUT.h5", false},
    {"csv", fbi_import_csv, csv_options, "--target COLUMN, FILE and OUT.h5", true},
    {"npy", fbi_import_npy, npy_options, "--input FILE, --target FILE and OUT.h5", false},
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

static bool take_option(int option, const char *text, fbi_import *job)
{
    switch (option) {
    case INPUT:
        job->input = text;
        return true;
    case TARGET:
        job->target = text;
        return true;
    case SCALE:
        return fbi_parse_number("data import", "--scale", text, &job->scale);
    case SHIFT:
        return fbi_parse_number("data import", "--shift", text, &job->shift);
    case SHARD:
        return fbi_parse_count("data import", "--shard-samples", text, 1, INT64_MAX,
                               &job->shard_samples);
    case KIND:
        job->float_target = !strcmp(text, "float");
        if (job->float_target || !strcmp(text, "int"))
            return true;
        fprintf(stderr, "data import: --labels-are %s: int or float is needed\n", text);
        return false;
    }
    return false; /* getopt has said what is wrong */
}

static bool parse(const struct format *format, int argc, char **argv, fbi_import *job)
{
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", format->options, NULL)) != -1;)
        if (!take_option(c, optarg, job))
            return false;
    if (format->named && optind < argc)
        job->input = argv[optind++];
    if (optind != argc - 1 || !job->input || !job->target) {
        fprintf(stderr, "data import %s: %s are needed\n", format->name, format->needs);
        return false;
    }
    job->out = argv[optind];
    return true;
}

/* argv[0] is the format. */
static int import(int argc, char **argv)
{
    const struct format *format = NULL;
    for (int i = 0; i < N_FORMATS; i++)
        if (!strcmp(formats[i].name, argv[0]))
            format = &formats[i];
    if (!format) {
        fprintf(stderr, "data import %s: idx, csv and npy can be imported\n", argv[0]);
        return FBI_EXIT_USAGE;
    }
    fbi_import job = {.scale = 1.0 / 255};
    if (!parse(format, argc, argv, &job))
        return FBI_EXIT_USAGE;
    fb_context *ctx = open_context();
    int rc = ctx ? format->run(&job, ctx) : 1;
    if (fb_context_close(ctx) || rc)
        return FBI_EXIT_FAILED;
    return show(job.out);
}

int fbi_cmd_data(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return FBI_EXIT_OK;
    }
    if (argc == 3 && !strcmp(argv[1], "show"))
        return show(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "check"))
        return check(argv[2]);
    int rc = FBI_EXIT_USAGE;
    if (argc > 2 && !strcmp(argv[1], "import"))
        rc = import(argc - 2, argv + 2);
    if (rc == FBI_EXIT_USAGE)
        fputs("flambeau data import idx|csv|npy ..., show FILE.h5 or check FILE.h5: "
              "`flambeau data --help` tells more\n",
              stderr);
    return rc;
}
