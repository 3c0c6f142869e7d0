/* Other dtypes and copies. Recorded; errors: NULL, and the context keeps FB_E_DTYPE. */
#ifndef FLAMBEAU_CORE_OPS_CAST_H
#define FLAMBEAU_CORE_OPS_CAST_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** The same values in another dtype; t itself if it has it. Floats become integers by truncation.
 */
FB_API fb_tensor *fb_to(fb_tensor *t, fb_dtype dtype);
/** Row-major: t itself if it is, else a copy. */
FB_API fb_tensor *fb_contiguous(fb_tensor *t);
/** A copy of its own, row-major. */
FB_API FB_USE_RESULT fb_tensor *fb_clone(fb_tensor *t);

/** t in the dtype of another tensor; t itself if it has it. */
FB_API fb_tensor *fb_type_as(fb_tensor *t, fb_tensor *other);

FB_END
#endif
