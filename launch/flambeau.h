/* Everything that Flambeau offers; comm/mpi.h alone is apart, since it needs mpi.h. */
#ifndef FLAMBEAU_FLAMBEAU_H
#define FLAMBEAU_FLAMBEAU_H

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/base/status.h>
#include <flambeau/core/nn/init.h>
#include <flambeau/core/nn/module.h>
#include <flambeau/core/optim/ema.h>
#include <flambeau/core/optim/meter.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/optim/schedule.h>
#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/dtype.h>
#include <flambeau/core/tensor/scope.h>
#include <flambeau/core/tensor/shape.h>
#include <flambeau/core/tensor/tensor.h>

#endif
