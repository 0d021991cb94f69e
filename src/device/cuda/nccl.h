#pragma once
// The GPUs of several ranks joined by NCCL, which is opened at run time (libnccl.so.2) as the driver is.

#include <array>
#include <cstddef>
#include <functional>
#include <string>

#include "device/cuda/rank_gpus.h"

namespace flagscale::cuda {

// What ranks that belong together know one another by: rank 0 makes it and tells the others.
using NcclId = std::array<char, 128>;

// Why NCCL cannot be used here; "" where it can.
std::string nccl_missing();
NcclId make_nccl_id();

class NcclGpus final : public RankGpus {
 public:
  // Returns once all ranks have called it. Throws Error{kResource} with NCCL's words.
  NcclGpus(const NcclId& id, int rank, int size, std::function<void()> check_others);
  ~NcclGpus() override;

  void sum(float* data, size_t count) override;
  void sum_to_each(std::span<const std::span<float>> of_rank) override;
  void share(std::span<const std::span<std::byte>> of_rank) override;
  void wait() override;
  void give_up() override;

 private:
  void begin();
  void settle(int status, const char* what);
  template <class Call>
  void of_each(size_t ranks, Call call, const char* what);
  template <class Done>
  void wait_until(Done done, const char* what);

  std::function<void()> check_others_;
  struct StreamObject* stream_ = nullptr;  // of what the ranks do together
  struct EventObject* event_ = nullptr;
  struct NcclGroup* group_ = nullptr;
};

}  // namespace flagscale::cuda
