/* What the values of a dataset are like. */
#ifndef FLAMBEAU_LAUNCH_DATA_STATS_PRIV_H
#define FLAMBEAU_LAUNCH_DATA_STATS_PRIV_H

#include <flambeau/io/dataset.h>

/* Print it, a line for each field and label. Errors are set on the dataset's context. */
void fbi_data_stats(fb_dataset *ds);

#endif
