#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: fashion --data FOLDER [options]\n"
    "  --data FOLDER      train.h5 and test.h5, made by \"flambeau data import idx\"\n"
    "  --epochs N         epochs (5)\n"
    "  --steps N          at most so many steps in all, over as many epochs as that takes\n"
    "  --batch N          global batch (128)\n"
    "  --lr X             learning rate of Adam (1e-3), going down to a twentieth along a cosine\n"
    "  --limit N          train on the first N images only\n"
    "  --shards V         same bits for every number of ranks up to V\n"
    "  --threads T        threads of a kernel\n"
    "  --seed N           another run\n"
    "  --checkpoint DIR   save here at the end of each epoch and go on from what is there\n"
    "  --save-every N     and every N steps\n"
    "  --stop-after N     save and stop after step N, as if interrupted\n"
    "  --print-bits       each step's loss as an exact number, and a digest at the end\n"
    "  --trace            which rank computed which image\n";

static bool count(const char *name, const char *text, int64_t *out)
{
    char *end;
    long long n = strtoll(text, &end, 10);
    if (end != text && !*end && n >= 0) {
        *out = n;
        return true;
    }
    fprintf(stderr, "fashion: --%s %s: a whole number is needed\n", name, text);
    return false;
}

bool fashion_parse(int argc, char **argv, fashion_options *o)
{
    *o = (fashion_options){.epochs = 5, .batch = 128, .lr = 1e-3};
    enum { DATA = 256, CHECKPOINT, LR, BITS, TRACE, NUMBER };
    const struct option options[] = {{"data", required_argument, NULL, DATA},
                                     {"checkpoint", required_argument, NULL, CHECKPOINT},
                                     {"lr", required_argument, NULL, LR},
                                     {"print-bits", no_argument, NULL, BITS},
                                     {"trace", no_argument, NULL, TRACE},
                                     {"epochs", required_argument, NULL, NUMBER},
                                     {"steps", required_argument, NULL, NUMBER + 1},
                                     {"batch", required_argument, NULL, NUMBER + 2},
                                     {"limit", required_argument, NULL, NUMBER + 3},
                                     {"shards", required_argument, NULL, NUMBER + 4},
                                     {"threads", required_argument, NULL, NUMBER + 5},
                                     {"seed", required_argument, NULL, NUMBER + 6},
                                     {"stop-after", required_argument, NULL, NUMBER + 7},
                                     {"save-every", required_argument, NULL, NUMBER + 8},
                                     {0}};
    int64_t *numbers[] = {&o->epochs,  &o->steps, &o->batch,      &o->limit,     &o->shards,
                          &o->threads, &o->seed,  &o->stop_after, &o->save_every};
    for (int c, at; (c = getopt_long(argc, argv, "", options, &at)) != -1;) {
        if (c == DATA) {
            o->data = optarg;
        } else if (c == CHECKPOINT) {
            o->checkpoint = optarg;
        } else if (c == LR) {
            o->lr = strtod(optarg, NULL);
        } else if (c == BITS) {
            o->print_bits = true;
        } else if (c == TRACE) {
            o->trace = true;
        } else if (c < NUMBER || !count(options[at].name, optarg, numbers[c - NUMBER])) {
            fputs(usage, stderr);
            return false;
        }
    }
    if (o->data && optind == argc)
        return true;
    fputs(usage, stderr);
    return false;
}
