#pragma once
// Runs every launch at once, allocating as it goes: for tests, and for single calls outside a plan.

#include "kernel/recorder.h"

namespace flagscale {

class EagerRecorder final : public Recorder {
 public:
  EagerRecorder(Allocator& allocator, const Team& team, Isa isa = machine_isa())
      : allocator_(allocator), team_(team), isa_(isa) {}
  Tensor empty(const Shape& shape, DType dtype, const int64_t* live = nullptr) override;
  void launch(std::unique_ptr<Launch> launch) override;
  using Recorder::launch;

 private:
  Allocator& allocator_;
  const Team& team_;
  Isa isa_;
};

}  // namespace flagscale
