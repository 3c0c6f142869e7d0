#include "launch/sound_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <sndfile.h>

/* Room for `frames`. Memory is asked for as frames come: a head may speak of any number. */
static bool room_for(fbi_sound *sound, int64_t frames, int64_t *room)
{
    if (frames <= *room)
        return true;
    int64_t more = frames < 2 * *room ? 2 * *room : frames;
    int16_t *larger =
        realloc(sound->samples, (size_t)more * (size_t)sound->channels * sizeof *larger);
    if (!larger)
        return false;
    sound->samples = larger;
    *room = more;
    return true;
}

/* Frames as I16: -1 to 1 is what all formats are to libsndfile. Returns how many there were; -1: no
 * memory. */
static int64_t read_frames(SNDFILE *file, fbi_sound *sound, int64_t wanted)
{
    enum { BLOCK = 4096 };
    float *block = malloc(BLOCK * (size_t)sound->channels * sizeof *block);
    int64_t done = 0, got = BLOCK, room = 0;
    bool enough = block && room_for(sound, 1, &room);
    while (enough && done < wanted && got > 0) {
        got = sf_readf_float(file, block, wanted - done < BLOCK ? wanted - done : BLOCK);
        enough = room_for(sound, done + got, &room);
        for (int64_t i = 0; enough && i < got * sound->channels; i++) {
            float x = block[i] * 32768;
            sound->samples[done * sound->channels + i] = (int16_t)(x >= 32767   ? 32767
                                                                   : x > -32768 ? lrintf(x)
                                                                                : -32768);
        }
        done += got > 0 ? got : 0;
    }
    free(block);
    return enough ? done : -1;
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
    sound->frames = fits ? read_frames(file, sound, info.frames) : 0;
    bool whole = fits && sound->frames == info.frames;
    if (!fits)
        snprintf(text, size, "is too long: %lld frames of %d channels", (long long)info.frames,
                 info.channels);
    else if (sound->frames < 0)
        snprintf(text, size, "no memory for %lld frames of %d channels", (long long)info.frames,
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
