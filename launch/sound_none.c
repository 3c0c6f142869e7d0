#include "launch/sound_priv.h"

#include <stdio.h>

bool fbi_sound_read(const char *path, fbi_sound *sound, char *text, size_t size)
{
    (void)path;
    (void)sound;
    snprintf(text, size, "%s",
             "cannot be read by this build, which has no libsndfile: install libsndfile1-dev "
             "(Debian's name), then configure again");
    return false;
}
