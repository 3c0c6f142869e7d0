/* All of Flambeau: every public header of every room (but comm/mpi.h, which needs MPI's own). */
#ifndef FLAMBEAU_H
#define FLAMBEAU_H

#include <flambeau/core/base/log.h>
#include <flambeau/core/base/rng.h>
#include <flambeau/core/base/status.h>

#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/dtype.h>
#include <flambeau/core/tensor/scope.h>
#include <flambeau/core/tensor/shape.h>
#include <flambeau/core/tensor/tensor.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/autograd/functional.h>
#include <flambeau/core/autograd/saved.h>

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/decompose.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/fold.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/interpolate.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/mask.h>
#include <flambeau/core/ops/norm.h>
#include <flambeau/core/ops/op.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/profile.h>
#include <flambeau/core/ops/random.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/shuffle.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include <flambeau/core/nn/activations.h>
#include <flambeau/core/nn/generate.h>
#include <flambeau/core/nn/hooks.h>
#include <flambeau/core/nn/init.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/module.h>
#include <flambeau/core/nn/per_sample.h>
#include <flambeau/core/nn/recurrent.h>
#include <flambeau/core/nn/transformer.h>

#include <flambeau/core/optim/ema.h>
#include <flambeau/core/optim/meter.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/optim/scaler.h>
#include <flambeau/core/optim/schedule.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/group.h>
#include <flambeau/comm/mesh.h>
#include <flambeau/comm/object.h>
#include <flambeau/comm/profile.h>
#include <flambeau/comm/world.h>

#include <flambeau/parallel/ddp.h>

#include <flambeau/io/checkpoint.h>
#include <flambeau/io/dataset.h>
#include <flambeau/io/interchange.h>
#include <flambeau/io/load.h>
#include <flambeau/io/loader.h>
#include <flambeau/io/memory.h>
#include <flambeau/io/saved.h>
#include <flambeau/io/state.h>
#include <flambeau/io/transform.h>

#include <flambeau/launch/options.h>
#include <flambeau/launch/trainer.h>

#endif
