#pragma once
// Typed kernel slots. An op's header declares its arguments and its slot:
//
//   struct RmsNormArgs {
//     In x, weight;  Out y, rstd;  float eps;
//     auto operands() { return std::tie(x, weight, y, rstd); }
//   };
//   inline constinit KernelSlot<RmsNormArgs> kRmsNorm{"rms_norm"};
//
// and each device file fills it; a wrong signature does not compile, an absent kernel is null and shows in
// coverage(). operands() lists every tensor once: planning, binding and printing derive from it.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "device/device.h"
#include "kernel/isa.h"
#include "tensor/tensor.h"

namespace flagscale {

// Everything a kernel may know beside its arguments. No kernel reads thread-local or global state.
struct KernelContext {
  Device device;
  Isa isa;
  const Team& team;
  std::span<std::byte> workspace;  // 64-byte aligned, as large as the kernel's workspace function asked for
};

enum class Access : unsigned char { kRead, kWrite, kReadWrite };

// A view with how the kernel uses it. kWrite: every element in use is written, none is read before.
template <Access kAccess>
struct Operand : TensorView {
  static constexpr Access access = kAccess;
  Operand() = default;
  Operand(const Tensor& tensor) : TensorView(tensor.view()) {}  // NOLINT(google-explicit-constructor)
};
using In = Operand<Access::kRead>;
using Out = Operand<Access::kWrite>;
using InOut = Operand<Access::kReadWrite>;

// What a launch costs at full capacity, for estimates and the share of the floor reached.
struct Cost {
  double flops = 0;
  double bytes = 0;
};

class KernelSlotBase {
 public:
  explicit constexpr KernelSlotBase(const char* name) : name_(name) {}
  const char* name() const { return name_; }
  bool has(DeviceKind device, Isa isa) const { return entry(device, isa) != nullptr; }

 protected:
  using Erased = void (*)();
  void fill(DeviceKind device, Isa isa, Erased kernel, Erased workspace);
  Erased entry(DeviceKind device, Isa isa) const {
    return kernels_[static_cast<int>(device)][static_cast<int>(isa)];
  }
  // The best kernel not above `isa`; null when there is none.
  int best(DeviceKind device, Isa isa) const;

  const char* name_;
  Erased kernels_[kNumDeviceKinds][kNumIsas] = {};
  Erased workspaces_[kNumDeviceKinds][kNumIsas] = {};
};

template <class Args>
class KernelSlot : public KernelSlotBase {
 public:
  using KernelSlotBase::KernelSlotBase;
  using Kernel = void(KernelContext&, const Args&);
  using Workspace = size_t(const Args&, int threads);  // bytes, from capacities

  void set(DeviceKind device, Isa isa, Kernel* run, Workspace* room = nullptr) {
    fill(device, isa, reinterpret_cast<Erased>(run), reinterpret_cast<Erased>(room));
  }
  // Throws Error{kUnsupported} naming op and device when there is no kernel.
  Kernel* kernel(DeviceKind device, Isa isa) const {
    return reinterpret_cast<Kernel*>(kernels_[static_cast<int>(device)][required(device, isa)]);
  }
  size_t workspace(DeviceKind device, Isa isa, const Args& args, int threads) const {
    const auto function =
        reinterpret_cast<Workspace*>(workspaces_[static_cast<int>(device)][required(device, isa)]);
    return function ? function(args, threads) : 0;
  }

 private:
  int required(DeviceKind device, Isa isa) const;
};

[[noreturn]] void missing_kernel(const char* op, DeviceKind device, Isa isa);

template <class Args>
int KernelSlot<Args>::required(DeviceKind device, Isa isa) const {
  const int index = best(device, isa);
  if (index < 0) missing_kernel(name(), device, isa);
  return index;
}

// Fills a slot for the instruction set that the file is compiled for.
template <class Args>
struct CpuKernel {
  CpuKernel(KernelSlot<Args>& slot, Isa isa, typename KernelSlot<Args>::Kernel* kernel,
            typename KernelSlot<Args>::Workspace* workspace = nullptr) {
    slot.set(DeviceKind::kCpu, isa, kernel, workspace);
  }
};

// Every slot that some file has filled, sorted by name.
std::vector<const KernelSlotBase*> coverage();

}  // namespace flagscale
