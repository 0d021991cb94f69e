#pragma once
// Trace -> plan -> replay. A Program is one replayable piece of work (micro-batch, update, evaluation,
// serving step):
//
//   Program program("micro_batch");
//   { Tracer tracer(program);  ... model code, run once on the null device ... }
//   program.keep(loss);                       // what the caller reads afterwards
//   program.plan(isa, threads);
//   Arena arena;  arena.add(program);  arena.bind(*allocator);
//   program.run(team);                        // as often as wanted: no allocation, no look-up
//
// Nothing is allocated before bind(): arena.bytes() is the exact peak. A Tracer and plan() end with
// Error{kInterrupted} after Ctrl-C.

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernel/recorder.h"

namespace flagscale {

class Program {
 public:
  explicit Program(std::string name) : name_(std::move(name)) {}

  // A tensor of this program that the caller writes before run().
  void take(const Tensor& tensor);
  // A tensor of this program that stays readable after run().
  void keep(const Tensor& tensor);
  // Chooses kernels and lays the transient tensors and workspaces out. Throws Error{kUnsupported} for an
  // absent kernel.
  void plan(Isa isa, int threads);

  const std::string& name() const { return name_; }
  size_t transient_bytes() const { return transient_bytes_; }
  size_t num_launches() const { return launches_.size(); }
  Cost cost() const;  // at full capacity

  void run(const Team& team) const;
  // The same without waiting for a GPU. launched: told after each launch how many there were.
  void start(const Team& team, const std::function<void(size_t)>& launched = {}) const;
  // Calls body(launch, view) for each view of this memory that a launch writes to, in order of launches.
  void for_writes(const Storage& to, const std::function<void(size_t, const TensorView&)>& body) const;
  // The same, with the seconds that each launch took added to its op's name.
  void profile(const Team& team, std::unordered_map<std::string, double>& seconds) const;

 private:
  friend class Tracer;
  friend class Arena;
  struct Buffer {
    std::shared_ptr<Storage> storage;
    size_t bytes;
    int first, last;  // launches
    size_t offset = 0;
  };
  void bind(void* base);
  void find_lifetimes();
  KernelContext context(size_t launch, const Team& team) const;

  std::string name_;
  DeviceKind device_ = DeviceKind::kCpu;
  Isa isa_ = Isa::kScalar;
  int threads_ = 1;
  std::vector<std::unique_ptr<Launch>> launches_;
  std::vector<Buffer> buffers_;
  std::unordered_map<const Storage*, size_t> index_;  // of buffers_
  std::vector<size_t> workspace_bytes_, workspace_buffer_;
  size_t transient_bytes_ = 0;
  std::byte* base_ = nullptr;
};

// Records into a program. Tensors live on the null device until the program is bound.
class Tracer final : public Recorder {
 public:
  explicit Tracer(Program& program) : program_(program) {}
  Tensor empty(const Shape& shape, DType dtype, const int64_t* live = nullptr) override;
  void launch(std::unique_ptr<Launch> launch) override;
  using Recorder::launch;

 private:
  Program& program_;
};

// One block of memory: what persists (weights, gradients, moments, inputs) in front, then the transient part,
// which all programs share because one runs at a time.
class Arena {
 public:
  Tensor persistent(const std::string& name, const Shape& shape, DType dtype);
  void add(Program& program) { programs_.push_back(&program); }

  size_t persistent_bytes() const { return persistent_bytes_; }
  size_t transient_bytes() const;
  size_t bytes() const { return persistent_bytes_ + transient_bytes(); }
  // name -> bytes of persistent tensors, in order of creation
  const std::vector<std::pair<std::string, size_t>>& persistent() const { return names_; }

  // Allocates bytes() of the programs' device and points every tensor into it. Call once.
  void bind(Allocator& allocator, DeviceKind device = DeviceKind::kCpu);

 private:
  std::vector<std::pair<std::shared_ptr<Storage>, size_t>> storages_;  // with offset
  std::vector<std::pair<std::string, size_t>> names_;
  std::vector<Program*> programs_;
  size_t persistent_bytes_ = 0;
  std::shared_ptr<void> memory_;
};

}  // namespace flagscale
