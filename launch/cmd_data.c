/* flambeau data import|show|check: datasets in and out of HDF5. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/io/dataset.h>

#include "launch/commands_priv.h"
#include "launch/import_priv.h"

static const char usage[] =
    "usage: flambeau data import idx --images FILE --labels FILE [--scale X --shift Y] OUT.h5\n"
    "       flambeau data import csv --target COLUMN [--labels-are int|float] FILE OUT.h5\n"
    "       flambeau data import npy --input FILE --target FILE OUT.h5\n"
    "       flambeau data show FILE.h5\n"
    "       flambeau data check FILE.h5\n"
    "options of import: --shard-samples N   samples of a shard file (default: 64 MiB worth)\n"
    "idx files may be compressed with gzip; images become [1, height, width], x / 255 on "
    "loading.\n";

/* A context for a command: its errors are printed when it is closed. */
static fb_context *open_context(void)
{
    return fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
}

static int show(const char *path)
{
    fb_context *ctx = open_context();
    fb_dataset *ds = fb_dataset_open(ctx, path);
    if (ds)
        printf("dataset %s: %" PRId64 " samples\n", path, fb_dataset_size(ds));
    for (int i = 0; i < fb_dataset_field_count(ds); i++) {
        fb_dataset_field f = fb_dataset_field_at(ds, i);
        char stored[128], delivered[128];
        printf("  %-12s %s %s", f.name, fb_dtype_name(f.dtype),
               fb_shape_text(f.shape, stored, sizeof stored));
        if (f.scale != 0)
            printf(", loaded as F32 %s, x * %g + %g",
                   fb_shape_text(f.deliver.n ? f.deliver : f.shape, delivered, sizeof delivered),
                   f.scale, f.shift);
        printf("\n");
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

static int import(int argc, char **argv)
{
    enum { IMAGES = 256, LABELS, INPUT, TARGET, SCALE, SHIFT, SHARD, KIND };
    static const struct option options[] = {{"images", required_argument, NULL, IMAGES},
                                            {"labels", required_argument, NULL, LABELS},
                                            {"input", required_argument, NULL, INPUT},
                                            {"target", required_argument, NULL, TARGET},
                                            {"scale", required_argument, NULL, SCALE},
                                            {"shift", required_argument, NULL, SHIFT},
                                            {"shard-samples", required_argument, NULL, SHARD},
                                            {"labels-are", required_argument, NULL, KIND},
                                            {0}};
    if (argc < 2)
        return FBI_EXIT_USAGE;
    fbi_import job = {.format = argv[1], .scale = 1.0 / 255};
    optind = 2;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case IMAGES:
        case INPUT:
            job.input = optarg;
            break;
        case LABELS:
        case TARGET:
            job.target = optarg;
            break;
        case SCALE:
            job.scale = strtod(optarg, NULL);
            break;
        case SHIFT:
            job.shift = strtod(optarg, NULL);
            break;
        case KIND:
            job.float_target = !strcmp(optarg, "float");
            break;
        case SHARD:
            if (!fbi_parse_count("data import", "--shard-samples", optarg, 1, INT64_MAX,
                                 &job.shard_samples))
                return FBI_EXIT_USAGE;
            break;
        default:
            return FBI_EXIT_USAGE;
        }
    }
    bool csv = !strcmp(job.format, "csv");
    if (csv && optind < argc)
        job.input = argv[optind++];
    if (optind != argc - 1 || !job.input || !job.target)
        return FBI_EXIT_USAGE;
    job.out = argv[optind];
    int (*run)(const fbi_import *, fb_context *) = !strcmp(job.format, "idx")   ? fbi_import_idx
                                                   : csv                        ? fbi_import_csv
                                                   : !strcmp(job.format, "npy") ? fbi_import_npy
                                                                                : NULL;
    if (!run)
        return FBI_EXIT_USAGE;
    fb_context *ctx = open_context();
    int rc = ctx ? run(&job, ctx) : 1;
    if (fb_context_close(ctx) || rc)
        return FBI_EXIT_FAILED;
    return show(job.out);
}

int fbi_cmd_data(int argc, char **argv)
{
    int rc = FBI_EXIT_USAGE;
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return FBI_EXIT_OK;
    }
    if (argc == 3 && !strcmp(argv[1], "show"))
        rc = show(argv[2]);
    else if (argc == 3 && !strcmp(argv[1], "check"))
        rc = check(argv[2]);
    else if (argc > 3 && !strcmp(argv[1], "import"))
        rc = import(argc - 1, argv + 1);
    if (rc == FBI_EXIT_USAGE)
        fputs(usage, stderr);
    return rc;
}
