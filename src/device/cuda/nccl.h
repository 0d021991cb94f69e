#pragma once
// The GPUs of several ranks, one each, joined by NCCL, which is opened at run time (libnccl.so.2) as the
// driver is.

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace flagscale::cuda {

// What ranks that belong together know one another by: rank 0 makes it and tells the others.
using NcclId = std::array<char, 128>;

// Why NCCL cannot be used here; "" where it can.
std::string nccl_missing();
NcclId make_nccl_id();

// `check_others`, called now and then while the others are waited for, throws where a rank has ended, whose
// part would never come: then what runs is given up, and nothing can be done together any more.
class RankGpus {
 public:
  // Returns once all ranks have called it. Throws Error{kResource} with NCCL's words.
  RankGpus(const NcclId& id, int rank, int size, std::function<void()> check_others);
  ~RankGpus();
  RankGpus(const RankGpus&) = delete;

  // data[0, count) becomes its sum over the ranks, behind what this thread has launched so far and beside
  // what it launches after. All ranks call it with the same counts in the same order. Of two ranks the bits
  // are those of a + b; of more, of an order that NCCL chooses.
  void sum(float* data, size_t count);

  // The same where [rank] becomes its sum on that rank alone; the others' hold nothing of use then.
  void sum_to_each(std::span<const std::span<float>> of_rank);

  // Every rank's bytes of its own, [rank], come to all the others, in the same way.
  void share(std::span<const std::span<std::byte>> of_rank);

  // Waits for these and for all that this thread has launched.
  void wait();

 private:
  void begin();
  void settle(int status, const char* what);
  template <class Call>
  void of_each(size_t ranks, Call call, const char* what);
  template <class Done>
  void wait_until(Done done, const char* what);
  void give_up();

  std::function<void()> check_others_;
  struct StreamObject* stream_ = nullptr;  // of what the ranks do together
  struct EventObject* event_ = nullptr;
  struct NcclGroup* group_ = nullptr;
};

}  // namespace flagscale::cuda
