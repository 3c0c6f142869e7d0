/* Drivers of HDF5 before 1.13.2 have no version. */
#include "io/frame_priv.h"

void fbi_frame_class(void *class)
{
    (void)class;
}
