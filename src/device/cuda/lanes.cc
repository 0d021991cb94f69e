// Lanes of a GPU: its two engines for copies have a stream each.
#include "device/cuda/lanes.h"

#include <array>
#include <vector>

#include "device/cuda/driver.h"

namespace flagscale::cuda {

namespace {

class GpuLanes final : public Lanes {
 public:
  explicit GpuLanes(size_t marks) : marks_(marks) {
    enter_here();
    for (StreamObject*& stream : streams_) check(driver().make_stream(&stream, kAlone, 0), "make a stream");
    for (EventObject*& mark : marks_) check(driver().make_event(&mark, kUntimed), "make an event");
  }
  ~GpuLanes() override {
    for (EventObject* mark : marks_) driver().free_event(mark);
    for (StreamObject* stream : streams_) driver().free_stream(stream);
  }
  GpuLanes(const GpuLanes&) = delete;

  void copy(Lane lane, void* to, const void* from, size_t bytes) override {
    enter_here();
    check(driver().copy_later(reinterpret_cast<Pointer>(to), reinterpret_cast<Pointer>(from), bytes,
                              stream(lane)),
          "copy memory");
  }
  void mark(Lane lane, size_t mark) override {
    check(driver().record_event(marks_.at(mark), stream(lane)), "set a mark");
  }
  void wait(Lane lane, size_t mark) override {
    check(driver().wait_in_stream(stream(lane), marks_.at(mark), 0), "wait for a mark");
  }

 private:
  StreamObject* stream(Lane lane) const {
    if (lane == Lane::kKernels) return thread_stream();
    return streams_[lane == Lane::kIn ? 0 : 1];
  }

  std::array<StreamObject*, 2> streams_{};
  std::vector<EventObject*> marks_;
};

}  // namespace

std::unique_ptr<Lanes> make_lanes(size_t marks) { return std::make_unique<GpuLanes>(marks); }

}  // namespace flagscale::cuda
