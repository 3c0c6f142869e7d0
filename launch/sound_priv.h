/* Recordings of other programs as samples. */
#ifndef FLAMBEAU_LAUNCH_SOUND_PRIV_H
#define FLAMBEAU_LAUNCH_SOUND_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fbi_sound {
    int rate, channels; /* frames a second */
    int64_t frames;
    int16_t *samples; /* [frames, channels], malloc'ed */
} fbi_sound;

/* Read WAV, FLAC, OGG or what else libsndfile knows. false: `text` says why not. */
bool fbi_sound_read(const char *path, fbi_sound *sound, char *text, size_t size);

#endif
