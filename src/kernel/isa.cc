#include "kernel/isa.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace flagscale {

namespace {
constexpr const char* kNames[kNumIsas] = {"scalar", "avx2", "avx512", "avx512bf16", "cuda"};

Isa detected() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::kScalar;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512cd");
  if (!avx512) return Isa::kAvx2;
  const bool bf16 = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  return bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512;
}
}  // namespace

const char* name(Isa isa) { return kNames[static_cast<int>(isa)]; }

DeviceKind device_of(Isa isa) { return isa == Isa::kCuda ? DeviceKind::kCuda : DeviceKind::kCpu; }

Isa isa_of(DeviceKind device) { return device == DeviceKind::kCuda ? Isa::kCuda : machine_isa(); }

Isa parse_isa(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(Isa::kAvx512Bf16); ++i)
    if (text == kNames[i]) return static_cast<Isa>(i);
  fail(ErrorKind::kInvalidArgument, "FLAGSCALE_ISA is '{}'; it may be scalar, avx2, avx512 or avx512bf16",
       text);
}

Isa machine_isa() {
  static const Isa isa = [] {
    const char* wanted = std::getenv("FLAGSCALE_ISA");
    return wanted ? std::min(parse_isa(wanted), detected()) : detected();
  }();
  return isa;
}

std::vector<Isa> runnable_isas() {
  std::vector<Isa> result;
  for (int i = 0; i <= static_cast<int>(detected()); ++i) result.push_back(static_cast<Isa>(i));
  return result;
}

}  // namespace flagscale
