#pragma once
// What the benchmarks of ops share: filled tensors, one kernel call with its workspace, a clock.

#include <time.h>

#include <cstdlib>
#include <random>
#include <string>

#include "kernel/kernel.h"

namespace flagscale::bench {

inline Allocator& memory() {
  static const auto cpu = make_cpu_allocator();
  return *cpu;
}

// Numbers in [-1, 1), fp32 or bf16.
inline Tensor filled(const Shape& shape, DType dtype) {
  const Tensor t = make_tensor(memory(), shape, dtype);
  std::minstd_rand random(1);
  const int64_t n = shape.numel();
  for (int64_t i = 0; i < n; ++i) {
    const float x = static_cast<float>(random() % 2048) / 1024.f - 1.f;
    if (dtype == DType::kF32)
      t.data<float>()[i] = x;
    else
      t.data<BF16>()[i] = to_bf16(x);
  }
  return t;
}

// A kernel of this machine's best set with its arguments and workspace.
template <class Args>
class Call {
 public:
  Call(const KernelSlot<Args>& slot, const Args& args, const Team& team)
      : args_(args), team_(team), kernel_(slot.kernel(DeviceKind::kCpu, machine_isa())) {
    const size_t bytes = slot.workspace(DeviceKind::kCpu, machine_isa(), args, team.size());
    if (bytes > 0) room_ = make_tensor(memory(), {static_cast<int64_t>(bytes)}, DType::kU8);
  }
  void run() const {
    const std::span<std::byte> room =
        room_.defined() ? std::span(room_.data<std::byte>(), room_.bytes()) : std::span<std::byte>();
    KernelContext context{{DeviceKind::kCpu, 0}, machine_isa(), team_, room};
    kernel_(context, args_);
  }

 private:
  Args args_;
  const Team& team_;
  typename KernelSlot<Args>::Kernel* kernel_;
  Tensor room_;
};

// FLAGSCALE_BENCH_CLOCK=cpu counts the time that the process had, per thread: on a machine that others keep
// busy.
inline double now(int threads) {
  static const char* const clock = std::getenv("FLAGSCALE_BENCH_CLOCK");
  static const bool cpu = clock && std::string(clock) == "cpu";
  timespec t{};
  clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec)) / (cpu ? threads : 1);
}

double seconds(int threads, const auto& body) {
  const double start = now(threads);
  body();
  return now(threads) - start;
}

}  // namespace flagscale::bench
