#pragma once
// The GPUs of two ranks of one host, processes both, that see each other's memory: copy engines bring what
// the other one has, over NVLink where there is one, and a kernel adds. No multiprocessor waits for the
// other GPU. Each rank adds one half of a sum, and the other takes it from there.
//
// Signals are words of a GPU's memory: a copy engine sets one of the other GPU's to 1, whose stream waits for
// that and clears it.

#include <functional>
#include <string>
#include <vector>

#include "device/cuda/driver.h"
#include "device/cuda/rank_gpus.h"

namespace flagscale::cuda {

class PeerGpus final : public RankGpus {
 public:
  // Launches to[0, count) += from on a stream.
  using Add = std::function<void(float* to, const float* from, size_t count, void* stream)>;

  // memory: of one allocation, in the same order and sizes on both ranks: first kRoom bytes for this alone,
  // all 0, then all that sum() and share() are called with.
  PeerGpus(int rank, std::vector<std::span<std::byte>> memory, Add add, std::function<void()> check_others);
  ~PeerGpus() override;

  // Before all else, one after the other, each once the other rank has done the one before. They throw Error
  // where the machine refuses it.
  std::string offer();                  // what the other rank opens
  void open(const std::string& offer);  // the other rank's
  void try_out();

  void sum(float* data, size_t count) override;
  void sum_to_each(std::span<const std::span<float>> of_rank) override;
  void share(std::span<const std::span<std::byte>> of_rank) override;
  void wait() override;
  void give_up() override;

  // Signals and ones, then slots for what comes to be added.
  static constexpr size_t kSlots = 3, kSlot = size_t{32} << 20, kFirstSlot = size_t{2} << 20,
                          kRoom = kFirstSlot + kSlots * kSlot;

 private:
  enum class Signal { kReady, kSummed, kDone };

  void begin();
  void follow(StreamObject* later, StreamObject* earlier);
  size_t next_word();
  void signal(StreamObject* stream, Signal which, size_t word);
  void await(StreamObject* stream, Signal which, size_t word);
  void add_piece(std::span<float> mine);
  void exchange(std::span<float> mine, std::span<float> other, bool back);
  Pointer of_other(const void* here) const;
  void wait_for(StreamObject* stream, double seconds);

  size_t rank_;
  std::vector<std::span<std::byte>> memory_;
  Add add_;
  std::function<void()> check_others_;
  Pointer room_, other_room_ = 0, other_memory_ = 0;
  std::vector<size_t> other_offsets_;  // of each of memory_, in the other's allocation
  StreamObject *taking_ = nullptr, *adding_ = nullptr, *giving_ = nullptr, *releasing_ = nullptr;
  EventObject* event_ = nullptr;
  EventObject* added_[kSlots] = {};
  // Since the last wait().
  bool under_way_ = false;
  size_t words_ = 0, pieces_ = 0;
  bool ended_ = false;  // nothing can be done together any more
};

}  // namespace flagscale::cuda
