#pragma once
// The GPUs of several ranks, one each, and what they do together: by copies between their memories (peers.h)
// or by NCCL (nccl.h).

#include <cstddef>
#include <span>

namespace flagscale::cuda {

// Each is told `check_others`, called now and then while the others are waited for, which throws where a rank
// has ended, whose part would never come: then what runs is given up, and nothing can be done together any
// more.
class RankGpus {
 public:
  RankGpus() = default;
  virtual ~RankGpus() = default;
  RankGpus(const RankGpus&) = delete;

  // data[0, count) becomes its sum over the ranks, behind what this thread has launched so far and beside
  // what it launches after. All ranks call it with the same counts in the same order. Of two ranks the bits
  // are those of a + b; of more, of an order that NCCL chooses.
  virtual void sum(float* data, size_t count) = 0;

  // The same where [rank] becomes its sum on that rank alone; the others' hold nothing of use then.
  virtual void sum_to_each(std::span<const std::span<float>> of_rank) = 0;

  // Every rank's bytes of its own, [rank], come to all the others, in the same way.
  virtual void share(std::span<const std::span<std::byte>> of_rank) = 0;

  // Waits for these and for all that this thread has launched.
  virtual void wait() = 0;

  // Ends what is under way: for an error before wait(), since memory that is freed must not be in use.
  virtual void give_up() = 0;
};

}  // namespace flagscale::cuda
