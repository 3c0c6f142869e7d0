/* flambeau data import: the formats, their options, and what they share. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/comm/world.h>

#include "launch/commands_priv.h"
#include "launch/import_priv.h"

const char fbi_import_usage[] =
    "import FORMAT ... OUT.h5 writes OUT.h5 and shards OUT-<id>-00000.h5 beside it; a dataset "
    "that\n"
    "is there already is replaced when the new one is complete. Under mpirun every rank converts\n"
    "its part. Fields are called \"input\" and \"target\" unless something else is said.\n"
    "  --append            to the dataset that is there, which has the same fields\n"
    "  --shard-samples N   samples of a shard\n"
    "  --shard-mib N       size of a shard (512), where the number of samples is not given\n"
    "idx --images FILE --labels FILE: the format of MNIST, may be compressed with gzip; images\n"
    "  become [1, height, width], x * scale + shift on loading\n"
    "  --scale X           1/255\n"
    "  --shift Y           0\n"
    "csv --target COLUMN FILE: a line of column names, then numbers; all other columns are the\n"
    "  input. Columns of words become categories, each a field of its own name, as I64 numbers "
    "with\n"
    "  their words as labels\n"
    "  --labels-are KIND   int: class numbers, as I64 (default); float: F32, for regression\n"
    "  --category COLUMN   numbers in this column are names, too (repeatable)\n"
    "  --ignore COLUMN     leave it out (repeatable)\n"
    "  --missing WHAT      empty cells, NA, nan, null and ?: error (default); nan; mean of the\n"
    "                      column; skip the line\n"
    "  --separator C       between cells: \",\" (default), \";\", tab, or any other character\n"
    "npy --input FILE --target FILE: arrays of the same first size, any dtype, C or Fortran "
    "order;\n"
    "  FILE.npy, or FILE.npz:NAME\n"
    "images FOLDER: FOLDER/CLASS/*.png, *.jpg, *.jpeg; U8 [channels, height, width]\n"
    "  --size HxW          resize all of them to this; else all must have the first one's size\n"
    "  --fit HOW           stretch (default); crop: keep the ratio, cut the middle out\n"
    "  --channels N        1 or 3 (default)\n"
    "  --scale X --shift Y as for idx\n"
    "sound FOLDER: FOLDER/CLASS/*.wav, *.flac, *.ogg; I16 frames of one channel, of any length,\n"
    "  x / 32768 on loading\n"
    "  --seconds S         cut or fill all of them to this length\n"
    "  --channels N        1 (default): the mean of the channels; more: as many, [frames, N]\n"
    "text --vocab FILE --merges FILE FILES...: tokens of GPT-2's byte-level BPE (encoder.json,\n"
    "  vocab.bpe), as U16 of any length, a sample for each document\n"
    "  --documents WHAT    file (default); line; blank: they are separated by empty lines\n"
    "  --length N          samples of N tokens from all documents, with <|endoftext|> between\n"
    "                      them, and as target the tokens that follow\n"
    "hdf5 --input /PATH [--target /PATH] FILE: datasets of one HDF5 file, in any layout\n"
    "  --field NAME=/PATH  a field of any name (repeatable)\n"
    "  --scale X --shift Y of the input\n";

enum {
    APPEND = 255,
    INPUT,
    TARGET,
    SCALE,
    SHIFT,
    SHARD,
    SHARD_MIB,
    KIND,
    CATEGORY,
    IGNORE,
    MISSING,
    SEPARATOR,
    SIZE,
    FIT,
    CHANNELS,
    SECONDS,
    VOCAB,
    MERGES,
    DOCUMENTS,
    LENGTH,
    FIELD
};

/* What every format has. */
#define COMMON                                                                                \
    {"append", no_argument, NULL, APPEND}, {"shard-samples", required_argument, NULL, SHARD}, \
    {                                                                                         \
        "shard-mib", required_argument, NULL, SHARD_MIB                                       \
    }
#define SCALES                                  \
    {"scale", required_argument, NULL, SCALE},  \
    {                                           \
        "shift", required_argument, NULL, SHIFT \
    }

static const struct option idx_options[] = {{"images", required_argument, NULL, INPUT},
                                            {"labels", required_argument, NULL, TARGET},
                                            SCALES,
                                            COMMON,
                                            {0}};
static const struct option csv_options[] = {{"target", required_argument, NULL, TARGET},
                                            {"labels-are", required_argument, NULL, KIND},
                                            {"category", required_argument, NULL, CATEGORY},
                                            {"ignore", required_argument, NULL, IGNORE},
                                            {"missing", required_argument, NULL, MISSING},
                                            {"separator", required_argument, NULL, SEPARATOR},
                                            COMMON,
                                            {0}};
static const struct option npy_options[] = {{"input", required_argument, NULL, INPUT},
                                            {"target", required_argument, NULL, TARGET},
                                            COMMON,
                                            {0}};
static const struct option image_options[] = {{"size", required_argument, NULL, SIZE},
                                              {"fit", required_argument, NULL, FIT},
                                              {"channels", required_argument, NULL, CHANNELS},
                                              SCALES,
                                              COMMON,
                                              {0}};
static const struct option sound_options[] = {{"seconds", required_argument, NULL, SECONDS},
                                              {"channels", required_argument, NULL, CHANNELS},
                                              COMMON,
                                              {0}};
static const struct option text_options[] = {{"vocab", required_argument, NULL, VOCAB},
                                             {"merges", required_argument, NULL, MERGES},
                                             {"documents", required_argument, NULL, DOCUMENTS},
                                             {"length", required_argument, NULL, LENGTH},
                                             COMMON,
                                             {0}};
static const struct option hdf5_options[] = {{"input", required_argument, NULL, INPUT},
                                             {"target", required_argument, NULL, TARGET},
                                             {"field", required_argument, NULL, FIELD},
                                             SCALES,
                                             COMMON,
                                             {0}};

/* What a command line must have beside OUT.h5. */
enum { NEEDS_INPUT = 1, NEEDS_TARGET = 2, NEEDS_TOKENS = 4, NEEDS_FIELD = 8 };

static const struct format {
    const char *name;
    int (*run)(const fbi_import *job, fb_context *ctx);
    const struct option *options;
    int least, most; /* arguments before OUT.h5 */
    int needs;
    const char *text;
    double scale; /* unless --scale is there */
} formats[] = {
    {"idx", fbi_import_idx, idx_options, 0, 0, NEEDS_INPUT | NEEDS_TARGET,
     "--images FILE, --labels FILE and OUT.h5", 1.0 / 255},
    {"csv", fbi_import_csv, csv_options, 1, 1, NEEDS_TARGET, "--target COLUMN, FILE and OUT.h5", 0},
    {"npy", fbi_import_npy, npy_options, 0, 0, NEEDS_INPUT | NEEDS_TARGET,
     "--input FILE, --target FILE and OUT.h5", 0},
    {"images", fbi_import_images, image_options, 1, 1, 0, "FOLDER and OUT.h5", 1.0 / 255},
    {"sound", fbi_import_sound, sound_options, 1, 1, 0, "FOLDER and OUT.h5", 0},
    {"text", fbi_import_text, text_options, 1, 1 << 20, NEEDS_TOKENS,
     "--vocab FILE, --merges FILE, FILES and OUT.h5", 0},
    {"hdf5", fbi_import_hdf5, hdf5_options, 1, 1, NEEDS_FIELD,
     "--input /PATH or --field NAME=/PATH, FILE and OUT.h5", 0},
};
enum { N_FORMATS = sizeof formats / sizeof formats[0] };

/* --- the command line --- */

static bool add_name(const char *option, const char *text, fbi_names *names)
{
    if (names->n == FBI_IMPORT_NAMES) {
        fprintf(stderr, "data import: %s is there more than %d times\n", option, FBI_IMPORT_NAMES);
        return false;
    }
    names->name[names->n++] = text;
    return true;
}

static bool parse_size(const char *text, fbi_import *job)
{
    int end = 0;
    int height, width;
    if (sscanf(text, "%dx%d%n", &height, &width, &end) == 2 && !text[end] && height > 0 &&
        width > 0 && height <= 1 << 15 && width <= 1 << 15) {
        job->height = height;
        job->width = width;
        return true;
    }
    fprintf(stderr, "data import: --size %s: HEIGHTxWIDTH is needed, e.g. 224x224\n", text);
    return false;
}

/* One of the words of a list. */
static bool parse_word(const char *option, const char *text, const char *const *words,
                       const char *list)
{
    for (; *words; words++)
        if (!strcmp(text, *words))
            return true;
    fprintf(stderr, "data import: %s %s: %s is needed\n", option, text, list);
    return false;
}

static bool take_option(int option, const char *text, fbi_import *job)
{
    static const char *const kinds[] = {"int", "float", NULL}, *const fits[] = {"stretch", "crop",
                                                                                NULL};
    static const char *const missing[] = {"error", "nan", "mean", "skip", NULL};
    static const char *const documents[] = {"file", "line", "blank", NULL};
    static const char command[] = "data import";
    int64_t mib = 0;
    switch (option) {
    case APPEND:
        job->append = true;
        return true;
    case INPUT:
        job->input = text;
        return true;
    case TARGET:
        job->target = text;
        return true;
    case SCALE:
        return fbi_parse_number(command, "--scale", text, &job->scale);
    case SHIFT:
        return fbi_parse_number(command, "--shift", text, &job->shift);
    case SHARD:
        return fbi_parse_count(command, "--shard-samples", text, 1, INT64_MAX, &job->shard_samples);
    case SHARD_MIB:
        if (!fbi_parse_count(command, "--shard-mib", text, 1, 1 << 20, &mib))
            return false;
        job->shard_bytes = mib << 20;
        return true;
    case KIND:
        job->float_target = !strcmp(text, "float");
        return parse_word("--labels-are", text, kinds, "int or float");
    case CATEGORY:
        return add_name("--category", text, &job->category);
    case IGNORE:
        return add_name("--ignore", text, &job->ignore);
    case MISSING:
        job->missing = text;
        return parse_word("--missing", text, missing, "error, nan, mean or skip");
    case SEPARATOR:
        job->separator = !strcmp(text, "tab") ? "\t" : text;
        if (strlen(job->separator) == 1 && !strchr("\"\r\n", *job->separator))
            return true;
        fprintf(stderr, "data import: --separator %s: one character, or tab, is needed\n", text);
        return false;
    case SIZE:
        return parse_size(text, job);
    case FIT:
        job->crop = !strcmp(text, "crop");
        return parse_word("--fit", text, fits, "stretch or crop");
    case CHANNELS:
        return fbi_parse_count(command, "--channels", text, 1, 64, &job->channels);
    case SECONDS:
        if (!fbi_parse_number(command, "--seconds", text, &job->seconds))
            return false;
        if (job->seconds > 0)
            return true;
        fprintf(stderr, "data import: --seconds %s: a number above 0 is needed\n", text);
        return false;
    case VOCAB:
        job->vocab = text;
        return true;
    case MERGES:
        job->merges = text;
        return true;
    case DOCUMENTS:
        job->documents = text;
        return parse_word("--documents", text, documents, "file, line or blank");
    case LENGTH:
        return fbi_parse_count(command, "--length", text, 1, 1 << 24, &job->length);
    case FIELD:
        if (strchr(text, '=') && *text != '=')
            return add_name("--field", text, &job->fields);
        fprintf(stderr, "data import: --field %s: NAME=/PATH is needed\n", text);
        return false;
    }
    return false; /* getopt has said what is wrong */
}

static bool has_what_it_needs(const struct format *format, const fbi_import *job)
{
    return (!(format->needs & NEEDS_INPUT) || job->input) &&
           (!(format->needs & NEEDS_TARGET) || job->target) &&
           (!(format->needs & NEEDS_TOKENS) || (job->vocab && job->merges)) &&
           (!(format->needs & NEEDS_FIELD) || job->input || job->fields.n);
}

static bool parse(const struct format *format, int argc, char **argv, fbi_import *job)
{
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", format->options, NULL)) != -1;)
        if (!take_option(c, optarg, job))
            return false;
    int n = argc - optind - 1;
    if (n < format->least || n > format->most || !has_what_it_needs(format, job)) {
        fprintf(stderr, "data import %s: %s are needed\n", format->name, format->text);
        return false;
    }
    job->inputs = argv + optind;
    job->n_inputs = n;
    job->out = argv[argc - 1];
    return true;
}

/* --- running --- */

/* Started by mpirun or srun as one of several ranks. */
static bool in_a_job(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            return true;
    return false;
}

static int run(const struct format *format, fbi_import *job, fb_context *ctx)
{
    fbi_progress progress = {0};
    job->progress = &progress;
    int rc = format->run(job, ctx);
    fbi_progress_end(&progress);
    return rc;
}

/* On every rank of a job; the number of the process that shows the result is 0. */
static int run_ranks(const struct format *format, fbi_import *job, int *rank)
{
    fb_world *world =
        fb_world_open_with(NULL, NULL, FB_OPTS(fb_world_options, .device = "cpu", .threads = 1));
    if (!world)
        return 1;
    job->group = fb_world_group(world);
    job->rank = *rank = fb_world_rank(world);
    job->ranks = fb_world_size(world);
    int rc = run(format, job, fb_world_context(world));
    return fb_world_close(world) || rc;
}

static int run_alone(const struct format *format, fbi_import *job)
{
    fb_context *ctx = fb_context_open(&(fb_context_options){.device = "cpu", .threads = 1});
    int rc = ctx ? run(format, job, ctx) : 1;
    return fb_context_close(ctx) || rc;
}

int fbi_cmd_import(int argc, char **argv)
{
    const struct format *format = NULL;
    char list[128] = "";
    for (int i = 0; i < N_FORMATS; i++) {
        if (!strcmp(formats[i].name, argv[0]))
            format = &formats[i];
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s",
                 !i                   ? ""
                 : i == N_FORMATS - 1 ? " and "
                                      : ", ",
                 formats[i].name);
    }
    if (!format) {
        fprintf(stderr, "data import %s: %s can be imported\n", argv[0], list);
        return FBI_EXIT_USAGE;
    }
    fbi_import job = {.scale = format->scale, .ranks = 1};
    if (!parse(format, argc, argv, &job))
        return FBI_EXIT_USAGE;
    int rank = 0;
    int rc = in_a_job() ? run_ranks(format, &job, &rank) : run_alone(format, &job);
    if (rc)
        return FBI_EXIT_FAILED;
    return rank ? FBI_EXIT_OK : fbi_data_show(job.out);
}
