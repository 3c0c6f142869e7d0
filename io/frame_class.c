/* Drivers of HDF5 1.13.2 and newer say which version of the interface they are for. */
#include "io/frame_priv.h"

#include <H5FDdevelop.h>

void fbi_frame_class(void *class)
{
    H5FD_class_t *c = class;
    c->version = H5FD_CLASS_VERSION;
    c->value = H5_VFD_RESERVED + 1;
}
