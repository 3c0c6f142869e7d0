/* Bytes of any length between the ranks of a group: what is no tensor, such as a configuration, a
 * list of files, a report. */
#ifndef FLAMBEAU_COMM_OBJECT_H
#define FLAMBEAU_COMM_OBJECT_H

#include <flambeau/comm/group.h>

FB_BEGIN

/** Some bytes. Those that a call has filled in are malloc'ed, with a zero behind the last one, so
 * that text can be used as it is: fb_objects_free. */
typedef struct fb_object {
    void *data;
    size_t bytes;
} fb_object;

/**
 * Bring every rank's bytes to one rank, or to all. Lengths may differ, and be 0. Collective.
 *
 * @param root the rank that gets them; -1: each
 * @param all  [size of the group] on a rank that gets them, in order of rank; else it may be NULL
 * @return FB_OK; FB_E_ARG; on every rank FB_E_NOMEM if one has no room, FB_E_COMM
 *
 * gather_object and all_gather_object of torch.distributed.
 */
FB_API fb_status fb_group_object_gather(fb_group *group, const void *data, size_t bytes, int root,
                                        fb_object *all);
/**
 * Give every rank the bytes of one. Collective.
 *
 * @param object what rank `root` sends; on the others it is filled in, whatever was there
 * @return as fb_group_object_gather
 *
 * broadcast_object_list of torch.distributed.
 */
FB_API fb_status fb_group_object_broadcast(fb_group *group, fb_object *object, int root);
/** Free what the two above have filled in, and empty it. */
FB_API void fb_objects_free(fb_object *objects, int n);

FB_END
#endif
