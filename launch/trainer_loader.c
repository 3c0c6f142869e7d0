/* Options of loaders for configurations of programs: names, kinds and limits. */
#include <flambeau/io/loader.h>

#include "launch/trainer_priv.h"

#define AT(field) offsetof(fb_loader_options, field)

static const fb_option rows[] = {
    {"global_batch", FB_OPTION_COUNT, AT(global_batch),
     .about = "samples of a step, over all ranks (32)"},
    {"micro_batch", FB_OPTION_COUNT, AT(micro_batch), .about = "at most so many at once"},
    {"shuffle", FB_OPTION_FLAG, AT(shuffle), .about = "a new order in each epoch"},
    {"drop_last", FB_OPTION_FLAG, AT(drop_last), .about = "leave out the uneven rest of an epoch"},
    {"limit", FB_OPTION_COUNT, AT(limit), .about = "use the first N samples only"},
    {"seed", FB_OPTION_COUNT, AT(seed), .about = "another order (trainer.seed)"},
    {"shuffle_block", FB_OPTION_COUNT, AT(shuffle_block),
     .about = "permute blocks of N neighbours, and samples in windows of blocks: long reads"},
    {"shuffle_bytes", FB_OPTION_COUNT, AT(shuffle_bytes), .about = "the same as bytes of a block"},
    {"shuffle_window", FB_OPTION_COUNT, AT(shuffle_window), .about = "blocks of a window (16)"},
    {"weigh_by", FB_OPTION_TEXT, AT(weigh_by),
     .about = "field of classes that are to be as likely as each other"},
    {"epoch_samples", FB_OPTION_COUNT, AT(epoch_samples),
     .about = "samples of an epoch (all); the next goes on where it ends"},
    {"bucket_window", FB_OPTION_COUNT, AT(bucket_window),
     .about = "make batches of like length of the samples of N batches"},
    {"bucket_by", FB_OPTION_TEXT, AT(bucket_by), .about = "field whose rows are the length"},
    {"pad_to_batch", FB_OPTION_FLAG, AT(pad_to_batch),
     .about = "pad to the longest sample of a batch, not of the dataset"},
    {"pad_multiple", FB_OPTION_COUNT, AT(pad_multiple), .about = "and to a multiple of N"},
    {"longest", FB_OPTION_COUNT, AT(longest), .about = "rows of a sample: the rest is cut"},
    {"prefetch", FB_OPTION_COUNT, AT(prefetch), .most = 1 << 16,
     .about = "micro-batches read ahead (3)"},
    {"threads", FB_OPTION_COUNT, AT(threads), .most = 1024,
     .about = "threads that make samples (as many as the training leaves)"},
    {"cache", FB_OPTION_TEXT, AT(cache), .about = "folder on each node: shards are copied there"},
    {"cache_bytes", FB_OPTION_COUNT, AT(cache_bytes),
     .about = "of them on a node (19/20 of what is free)"},
    {0}};

const fb_option *fb_loader_option_rows(void)
{
    return rows;
}
