/* Forgets a context, in a program that runs MPI as well: the leak sanitizer must see it, although
 * what Open MPI keeps is suppressed. */
#include <flambeau/flambeau.h>

static void forget_a_context(void)
{
    fb_context *ctx = fb_context_open(NULL);
    fb_context_label(ctx, "nobody closes this one");
}

int main(int argc, char **argv)
{
    fb_world *world = fb_world_open(&argc, &argv);
    forget_a_context();
    return fb_world_close(world);
}
