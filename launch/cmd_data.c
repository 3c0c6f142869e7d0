/* flambeau data import|show|check|split|stats: datasets in and out of HDF5. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/dataset_priv.h"
#include "launch/commands_priv.h"
#include "launch/data_stats_priv.h"
#include "launch/import_priv.h"

static const char usage[] =
    "usage: flambeau data import idx|csv|npy|images|sound|text|hdf5 ... OUT.h5\n"
    "       flambeau data show FILE.h5     fields, samples, shards, splits\n"
    "       flambeau data check FILE.h5    compare every shard with its checksum\n"
    "       flambeau data stats FILE.h5    least and largest values, mean, labels of each field\n"
    "       flambeau data split [--seed S] FILE.h5 NAME=SHARE ...\n"
    "                                      e.g. train=0.8 valid=0.1 test=0.1: parts of a seeded\n"
    "                                      order (1); 0: of the order of samples; no NAMEs: none\n"
    "\n";

/* A context for a command: its errors are printed when it is closed. */
static fb_context *open_context(void)
{
    return fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
}

static void print_field(const fb_dataset *ds, const fb_dataset_field *f)
{
    char stored[128], delivered[128];
    printf("  %-12s %s %s", f->name, fb_dtype_name(f->dtype),
           fb_shape_text(f->shape, stored, sizeof stored));
    if (f->varies)
        printf(", up to %" PRId64 " of them", f->longest);
    if (f->scale != 0)
        printf(", loaded as F32 %s, x * %g + %g",
               fb_shape_text(fbi_dataset_deliver_shape(f), delivered, sizeof delivered), f->scale,
               f->shift);
    if (f->n_labels)
        printf(", %" PRId64 " labels: %s%s%s", f->n_labels, fb_dataset_label(ds, f->name, 0),
               f->n_labels > 1 ? ", " : "",
               f->n_labels > 2   ? "..."
               : f->n_labels > 1 ? fb_dataset_label(ds, f->name, 1)
                                 : "");
    printf("\n");
}

static void print_splits(const fb_dataset *ds)
{
    for (int i = 0; i < fb_dataset_split_count(ds); i++) {
        fb_dataset_split s = fb_dataset_split_at(ds, i);
        printf("  split %-6s %" PRId64 " samples", s.name, s.n);
        if (s.seed)
            printf(", seed %" PRIu64 "\n", s.seed);
        else
            printf(" from %" PRId64 " on\n", s.begin);
    }
}

int fbi_data_show(const char *path)
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
        print_field(ds, &field);
    }
    print_splits(ds);
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

static int stats(const char *path)
{
    fb_context *ctx = open_context();
    fb_dataset *ds = fb_dataset_open(ctx, path);
    if (ds)
        fbi_data_stats(ds);
    return fb_context_close(ctx) ? FBI_EXIT_FAILED : FBI_EXIT_OK;
}

/* --- split --- */

/* "train=0.8": the share becomes a number of samples when their number is known. */
static bool parse_share(char *text, fb_dataset_split *split, double *share)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        fprintf(stderr, "data split: %s: NAME=SHARE is needed, e.g. train=0.8\n", text);
        return false;
    }
    if (!fbi_parse_number("data split", "NAME=SHARE", equals + 1, share))
        return false;
    if (*share <= 0 || *share > 1) {
        fprintf(stderr, "data split: %s: a share is above 0 and at most 1\n", text);
        return false;
    }
    *equals = '\0';
    split->name = text;
    return true;
}

static int write_splits(const char *path, fb_dataset_split *splits, const double *shares, int n)
{
    fb_context *ctx = open_context();
    fb_dataset *ds = fb_dataset_extend(ctx, path, NULL);
    double sum = 0;
    for (int i = 0; i < n && ds; i++) {
        double size = (double)fb_dataset_size(ds);
        splits[i].begin = (int64_t)(sum * size + 0.5);
        sum += shares[i];
        splits[i].n = (int64_t)(sum * size + 0.5) - splits[i].begin;
    }
    if (ds && !fb_dataset_set_splits(ds, splits, n))
        fb_dataset_finish(ds);
    if (fb_context_close(ctx))
        return FBI_EXIT_FAILED;
    return fbi_data_show(path);
}

static int split(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'}, {0}};
    fb_dataset_split splits[FBI_MAX_SPLITS] = {{0}};
    double shares[FBI_MAX_SPLITS], sum = 0;
    int64_t seed = 1;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c != 's' || !fbi_parse_count("data split", "--seed", optarg, 0, INT64_MAX, &seed))
            return FBI_EXIT_USAGE;
    int n = argc - optind - 1;
    if (n < 0 || n > FBI_MAX_SPLITS)
        return FBI_EXIT_USAGE;
    for (int i = 0; i < n; i++) {
        if (!parse_share(argv[optind + 1 + i], &splits[i], &shares[i]))
            return FBI_EXIT_USAGE;
        splits[i].seed = (uint64_t)seed;
        sum += shares[i];
    }
    if (sum > 1 + 1e-9) {
        fprintf(stderr, "data split: the shares are %g together: at most 1 is possible\n", sum);
        return FBI_EXIT_USAGE;
    }
    return write_splits(argv[optind], splits, shares, n);
}

/* --- */

int fbi_cmd_data(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const char *path);
    } on_a_file[] = {{"show", fbi_data_show}, {"check", check}, {"stats", stats}};
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        fputs(fbi_import_usage, stdout);
        return FBI_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof on_a_file / sizeof *on_a_file; i++)
        if (argc == 3 && !strcmp(argv[1], on_a_file[i].name))
            return on_a_file[i].run(argv[2]);
    int rc = FBI_EXIT_USAGE;
    if (argc > 2 && !strcmp(argv[1], "split"))
        rc = split(argc - 1, argv + 1);
    if (argc > 2 && !strcmp(argv[1], "import"))
        rc = fbi_cmd_import(argc - 2, argv + 2);
    if (rc == FBI_EXIT_USAGE)
        fputs("flambeau data import FORMAT ..., show|check|stats FILE.h5 or split FILE.h5 ...: "
              "`flambeau data --help` tells more\n",
              stderr);
    return rc;
}
