/* Keeping in files what backward will need. */
#ifndef FLAMBEAU_IO_SAVED_H
#define FLAMBEAU_IO_SAVED_H

#include <flambeau/core/autograd/saved.h>

FB_BEGIN

/**
 * From here on, keep what is saved for backward in files of a folder, one a tensor, to the end of
 * the innermost scope: hooks as of fb_saved_tensors_hooks. For graphs that fit neither on the card
 * nor in host memory. A file is written when the tensor is saved, read in backward, and removed
 * with the graph or when backward has been through; a program that is killed leaves its files
 * ("saved-PROCESS-NUMBER"). Leaves that require a gradient stay. In backward, tensors have their
 * bits and their layout again.
 *
 * FB_E_NOT_FOUND or FB_E_IO if the folder is not there or may not be written; later FB_E_IO from
 * the operator that saves (a full disk), or from backward (a file that is gone or cut).
 */
FB_API fb_status fb_save_in_files(fb_context *ctx, const char *folder);

FB_END
#endif
