#pragma once
// oneDNN as another provider of matrix products: with FLAGSCALE_MATMUL=onednn in the environment, where the
// program was built with it. Not the default: our own products come within a few percent
// (docs/performance.md), while oneDNN's execute() calls malloc, so that a step allocates outside its plan;
// its order of summation may change with the number of rows and threads; it takes its threads from
// OMP_NUM_THREADS and not from the team; and it emulates bf16, several times slower than fp32, where the CPU
// has none. It may be the faster one for bf16 on CPUs with AMX. Its scratchpad is part of the plan, and all
// but execute() happens when the launch is made.

#include <memory>

#include "kernel/recorder.h"
#include "op/matmul/matmul.h"

namespace flagscale::op {

// The product as a oneDNN primitive; null when it is not wanted (see above) or cannot do it (fp64, a length
// of zero). Throws Error{kUnsupported} when it is wanted and the program was built without it. A live count
// below the capacity runs our own kernel: the primitive's shape is fixed.
std::unique_ptr<Launch> onednn_product(const MatmulArgs& args);

// Built in?
bool has_onednn();

}  // namespace flagscale::op
