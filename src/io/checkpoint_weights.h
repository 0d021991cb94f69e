#pragma once
// The weights of one of our checkpoints as a model loads them: the tensors without a role, under their
// logical names, in the checkpoint's dtypes; moments and other roles are left out. What of a checkpoint is
// not needed is not read.

#include <memory>
#include <string>

#include "io/weights.h"

namespace flagscale::io {

// `path`: as Checkpoint() takes it (checkpoint.h), whose errors it throws. A tensor is mapped where one shard
// holds it, else put together in memory once and kept; a shard's checksum is verified when it is first read,
// so reading may throw Error{kCorrupt}. Safe to read from several threads.
std::unique_ptr<WeightSet> open_checkpoint_weights(const std::string& path);

}  // namespace flagscale::io
