#pragma once
// Instruction sets that kernels are compiled for. Those of the CPU (*_cpu.cc is compiled once for each): the
// best that the machine has is chosen at run time. The GPU's is one of its own (*_cuda.cu).

#include <string_view>
#include <vector>

#include "device/device.h"

namespace flagscale {

enum class Isa : unsigned char { kScalar, kAvx2, kAvx512, kAvx512Bf16, kCuda };
constexpr int kNumIsas = 5;

const char* name(Isa isa);  // "scalar", "avx2", "avx512", "avx512bf16", "cuda"
Isa parse_isa(std::string_view text);

// Where kernels of a set run.
DeviceKind device_of(Isa isa);
// The set that a device runs here.
Isa isa_of(DeviceKind device);

// The best set of this machine's CPU; FLAGSCALE_ISA in the environment lowers it.
Isa machine_isa();
// Every set that this machine's CPU can run, the scalar one first.
std::vector<Isa> runnable_isas();

}  // namespace flagscale
