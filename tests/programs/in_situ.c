/* ranks: 1 2 */
/* A simulation that owns MPI trains a network on its fields as it goes: the library is a guest. */
#include <math.h>

#include <mpi.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { NX = 12, NY = 10, STEPS = 60 };

/* --- what the simulation calls: plain C, as from Fortran --- */

static fb_world *w;
static fb_context *c;
static fb_module *net;
static fb_optimizer *opt;

static void given_back(void *data, void *user)
{
    (void)data;
    *(int *)user = 0;
}

static int sur_open(int fcomm)
{
    w = fb_world_open_f(fcomm, FB_OPTS(fb_world_options, .guest = true, .threads = 1));
    c = fb_world_context(w);
    const fb_conv_options *same = FB_OPTS(fb_conv_options, .padding = {1});
    net = fb_nn_sequential(c, fb_nn_conv2d(c, 1, 8, 3, same), fb_nn_tanh(c),
                           fb_nn_conv2d(c, 8, 1, 3, same));
    opt = fb_optim_adam(c, net, FB_OPTS(fb_adam_options, .lr = 0.02));
    fb_ddp_attach(fb_world_group(w), net, NULL);
    return fb_ok(c);
}

/* u(nx, ny) column-major is shape (ny, nx) row-major. @return the loss */
static double sur_step(double *u, const double *next, int *busy)
{
    FB_SCOPE(c);
    *busy = 1;
    fb_tensor *x =
        fb_wrap(c, FB_F64, FB_SHAPE(1, 1, NY, NX), u,
                FB_OPTS(fb_wrap_options, .read_only = true, .deleter = given_back, .user = busy));
    fb_tensor *y = fb_wrap_const(c, FB_F64, FB_SHAPE(1, 1, NY, NX), next, NULL);
    fb_tensor *guess = fb_nn_forward(net, fb_to(x, FB_F32));
    fb_tensor *loss = fb_mse_loss(guess, fb_to(y, FB_F32), NULL);
    fb_backward(loss);
    fb_optim_step(opt);
    return fb_item(loss);
}

/* --- the simulation: heat on a torus --- */

static void simulate(const double *u, double *next)
{
    for (int j = 0; j < NY; j++)
        for (int i = 0; i < NX; i++)
            next[j * NX + i] =
                u[j * NX + i] + 0.2 * (u[j * NX + (i + 1) % NX] + u[j * NX + (i + NX - 1) % NX] +
                                       u[(j + 1) % NY * NX + i] + u[(j + NY - 1) % NY * NX + i] -
                                       4 * u[j * NX + i]);
}

/* All ranks have the same weights. */
static double spread(void)
{
    float v[72], low[72], high[72];
    double most = 0;
    fb_read(fb_nn_param(net, "0.weight"), v, sizeof v);
    MPI_Allreduce(v, low, 72, MPI_FLOAT, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(v, high, 72, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
    for (int i = 0; i < 72; i++)
        most = fmax(most, (double)(high[i] - low[i]));
    return most;
}

int main(int argc, char **argv)
{
    int rank, alive = 0, held = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    expect(sur_open(MPI_Comm_c2f(MPI_COMM_WORLD)), "the library joins a program that owns MPI");
    double u[2][NX * NY], first = NAN, last = NAN;
    for (int k = 0; k < NX * NY; k++)
        u[0][k] = sin(k * 0.7 + rank) + cos(k * 1.3 - rank); /* each rank has its own part */
    for (int t = 0; t < STEPS; t++) {
        int busy;
        simulate(u[t % 2], u[1 - t % 2]);
        last = sur_step(u[t % 2], u[1 - t % 2], &busy);
        if (t == 0)
            first = last;
        held += busy; /* the casts let go of u at once; given_back says when */
        for (int k = 0; t % 20 == 19 && k < NX * NY; k++)
            u[1 - t % 2][k] += sin(k * 0.7 + t + rank); /* new heat */
    }
    expect(last < 0.3 * first, "the loss falls from %g to %g", first, last);
    expect(held == 0, "the field is given back within each step");
    expect(spread() == 0, "the weights are the same on all ranks");
    expect(fb_world_close(w) == FB_OK, "the library leaves");
    MPI_Initialized(&alive);
    int finalized = 1;
    MPI_Finalized(&finalized);
    expect(alive && !finalized, "MPI is still the program's");
    MPI_Finalize();
    return failures != 0;
}
