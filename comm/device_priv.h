/* Works on the memory of a device whose data go through the host. Links: comm/link_priv.h. */
#ifndef FLAMBEAU_COMM_DEVICE_PRIV_H
#define FLAMBEAU_COMM_DEVICE_PRIV_H

#include "comm/work_priv.h"

/* Let the data of a work set out, in the order of the compute queue. From now on task.src and
 * task.dst are in host memory; the work may begin once fbi_device_arrived. False: the error is set.
 */
bool fbi_device_begin(fb_work *work);
/* Whether the data are there: never waits. On a failure the work is done. */
bool fbi_device_arrived(fb_work *work);
/* The work is done: the result goes to the device, in the order of the compute queue. */
void fbi_device_end(fb_work *work);
/* The device may still write there: let go of the memory for good. */
void fbi_device_abandon(fb_work *work);
/* The pinned memory of all works that are over. */
void fbi_device_free(fb_world *world);

#endif
