/* Devices that a process may choose of. */
#ifndef FLAMBEAU_CORE_OPS_DEVICES_PRIV_H
#define FLAMBEAU_CORE_OPS_DEVICES_PRIV_H

#include "core/tensor/device_priv.h"

enum { FBI_MAX_CARDS = 32 };

/* What a process that is asked for a device may compute on. */
typedef struct fbi_devices {
    char device[FBI_DEVICE_BYTES]; /* "cuda" and n cards; or "cpu", "cuda:1", an unknown one: n is 0
                                    */
    int n;
    uint64_t card[FBI_MAX_CARDS]; /* every process that sees the card gives it the same name */
} fbi_devices;

/* Of the device `asked` (NULL: the default). `tell`: a line in the log if there is a driver, but no
 * card is used. */
void fbi_devices_seen(const char *asked, bool tell, fbi_devices *seen);

#endif
