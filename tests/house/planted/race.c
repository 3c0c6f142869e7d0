/* Two threads write the same field of a context: the thread sanitizer must see it, although what
 * Open MPI does is suppressed. */
#include <flambeau/flambeau.h>

#include <pthread.h>

static void *reset_the_peak(void *ctx)
{
    for (int i = 0; i < 1000; i++)
        fb_memory_reset_peak(ctx);
    return NULL;
}

int main(int argc, char **argv)
{
    fb_world *world = fb_world_open(&argc, &argv);
    fb_context *ctx = fb_world_context(world);
    pthread_t other;
    pthread_create(&other, NULL, reset_the_peak, ctx);
    reset_the_peak(ctx);
    pthread_join(other, NULL);
    return fb_world_close(world);
}
