#include "launch/sound_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <sndfile.h>

/* Frames as I16: -1 to 1 is what all formats are to libsndfile. */
static int64_t read_frames(SNDFILE *file, fbi_sound *sound, int64_t wanted)
{
    enum { BLOCK = 4096 };
    float *block = malloc(BLOCK * (size_t)sound->channels * sizeof *block);
    int64_t done = 0, got = BLOCK;
    while (block && done < wanted && got > 0) {
        got = sf_readf_float(file, block, wanted - done < BLOCK ? wanted - done : BLOCK);
        for (int64_t i = 0; i < got * sound->channels; i++) {
            float x = block[i] * 32768;
            sound->samples[done * sound->channels + i] = (int16_t)(x >= 32767   ? 32767
                                                                   : x > -32768 ? lrintf(x)
                                                                                : -32768);
        }
        done += got > 0 ? got : 0;
    }
    free(block);
    return done;
}

bool fbi_sound_read(const char *path, fbi_sound *sound, char *text, size_t size)
{
    enum { MOST = 1 << 30 }; /* samples */
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    *sound = (fbi_sound){0};
    if (!file) {
        snprintf(text, size, "cannot be read: %s", sf_strerror(NULL));
        return false;
    }
    bool fits = info.channels > 0 && info.frames >= 0 && info.frames <= MOST / info.channels;
    sound->rate = info.samplerate;
    sound->channels = info.channels;
    sound->samples =
        fits ? malloc((size_t)info.frames * (size_t)info.channels * sizeof(int16_t) + 1) : NULL;
    if (sound->samples)
        sound->frames = read_frames(file, sound, info.frames);
    bool whole = sound->samples && sound->frames == info.frames;
    if (!sound->samples)
        snprintf(text, size, "is too long: %lld frames of %d channels", (long long)info.frames,
                 info.channels);
    else if (!whole)
        snprintf(text, size, "is damaged or cut: %lld frames of %lld: %s", (long long)sound->frames,
                 (long long)info.frames, sf_strerror(file));
    sf_close(file);
    if (whole)
        return true;
    free(sound->samples);
    sound->samples = NULL;
    return false;
}
