#pragma once
// Where ops put their work. An op checks shapes, asks for outputs with empty() and hands over a Launch; the
// recorder runs it at once (tests) or keeps it for a plan. Ops never allocate and never run kernels
// themselves.

#include <memory>
#include <tuple>
#include <vector>

#include "kernel/kernel.h"

namespace flagscale {

// One kernel call with its arguments, replayable.
class Launch {
 public:
  virtual ~Launch() = default;
  virtual const char* name() const = 0;
  virtual void run(KernelContext& context) const = 0;
  virtual size_t workspace(DeviceKind device, Isa isa, int threads) const = 0;
  virtual void resolve(DeviceKind device, Isa isa) = 0;  // picks the kernel; before run()

  struct Use {
    TensorView* view;
    Access access;
  };
  virtual std::vector<Use> uses() = 0;  // defined operands only

  // Points every operand at its storage's memory.
  void bind() {
    for (const Use& use : uses())
      use.view->data = static_cast<std::byte*>(use.view->storage->data) + use.view->offset;
  }

  Cost cost;
};

template <class Args>
class TypedLaunch final : public Launch {
 public:
  TypedLaunch(const KernelSlot<Args>& slot, const Args& args) : slot_(slot), args_(args) {}
  const char* name() const override { return slot_.name(); }
  void run(KernelContext& context) const override { kernel_(context, args_); }
  size_t workspace(DeviceKind device, Isa isa, int threads) const override {
    return slot_.workspace(device, isa, args_, threads);
  }
  void resolve(DeviceKind device, Isa isa) override { kernel_ = slot_.kernel(device, isa); }
  std::vector<Use> uses() override {
    std::vector<Use> result;
    std::apply([&](auto&... operand) { (add(result, operand), ...); }, args_.operands());
    return result;
  }

 private:
  template <class T>
  static void add(std::vector<Use>& uses, T& operand) {
    if (operand.defined()) uses.push_back({&operand, T::access});
  }

  const KernelSlot<Args>& slot_;
  Args args_;
  typename KernelSlot<Args>::Kernel* kernel_ = nullptr;
};

class Recorder {
 public:
  virtual ~Recorder() = default;

  // A tensor that lives until its last use. Contents undefined.
  virtual Tensor empty(const Shape& shape, DType dtype, const int64_t* live = nullptr) = 0;
  virtual void launch(std::unique_ptr<Launch> launch) = 0;

  template <class Args>
  void launch(const KernelSlot<Args>& slot, const Args& args, Cost cost = {}) {
    auto typed = std::make_unique<TypedLaunch<Args>>(slot, args);
    typed->cost = cost;
    launch(std::move(typed));
  }
  Tensor empty_like(const Tensor& tensor) { return empty(tensor.shape(), tensor.dtype(), tensor.live()); }
};

}  // namespace flagscale
