#pragma once
// What the ranks of a data-parallel run do together. Every rank has the whole model; of a global batch each
// takes every size-th micro-batch, and the gradients are added in rank order, so all make the same update.
// Alone, everything here is the identity.
//
// Gradients of two ranks are added on their GPUs while the rest of them is formed: by copies from one GPU's
// memory to the other's, or, where those are refused and each has a GPU of its own, by NCCL. Else through the
// hosts' memory. The bits are the same.
//
// With use_distributed_optimizer each rank adds up the gradients of its share of the weights
// (optimizer/share.h), updates that and tells the others. An element's update reads nothing of another share,
// so the bits are those of whole updates; a checkpoint is gathered to rank 0 and is the same file.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "comm/process_group.h"
#include "io/aside_file.h"
#include "train/saving.h"
#include "train/step.h"

namespace flagscale::train {

class Ranks {
 public:
  explicit Ranks(comm::ProcessGroup* group);  // null: alone

  int rank() const { return group_ ? group_->rank() : 0; }
  int size() const { return group_ ? group_->size() : 1; }
  bool first() const { return rank() == 0; }  // it logs and saves

  // What this rank may take of memory of which it sees `free` bytes and that all who name the same owner
  // share. All ranks ask at once, so none has taken any yet.
  size_t share_of(size_t free, const std::string& owner) const;
  size_t share_of_host(size_t free) const;

  void sum(std::span<double> values);
  bool any(bool own);
  void sum_gradients(TrainStep& step);
  float gradient_norm(TrainStep& step);
  double zero_gradients(const TrainStep& step);
  // After an update, where ranks have shares.
  void gather_weights(TrainStep& step);
  double parameters_norm(const TrainStep& step);

  // To be given to the last micro-batch of a step; null where sum_gradients() adds all.
  cuda::RankGpus* gpus() const { return gpus_.get(); }
  // Once the step's memory is taken. Before it is freed, if all went well, they leave one another together.
  void join_gpus(const TrainStep& step);
  void leave_gpus();

  // Throws Error{kInvalidArgument} naming a rank whose text is not rank 0's. Alone, none is made.
  void agree_on(const char* what, const std::function<std::string()>& own);

  // Rank 0's progression, weights and what the optimizer keeps of them, on every rank; where ranks have
  // shares the latter comes from rank 0's checkpoint, if there is one.
  void take_from_first(Progression& progression, TrainStep& step, const io::Checkpoint* checkpoint);

  // snapshot() for rank 0. What it has no memory of is put aside in a file of `folder`, to be kept until it
  // is saved; what it has is not copied.
  std::vector<io::TensorSlice> gather_snapshot(const TrainStep& step, bool optimizer,
                                               const std::string& folder,
                                               std::unique_ptr<io::AsideFile>& aside);

 private:
  std::string refused(const std::function<void()>& own) const;
  void broadcast_mirrored(const TrainStep& step, std::span<std::byte> bytes) const;
  std::string join_peers(const TrainStep& step);
  void warn_slow(const std::string& why) const;
  comm::ProcessGroup* group_;
  std::optional<comm::Reducer> reducer_;
  std::unique_ptr<cuda::RankGpus> gpus_;
};

}  // namespace flagscale::train
