#pragma once
// Instruction sets of the CPU. Kernel files (*_cpu.cc) are compiled once for each; the best that the machine
// has is chosen at run time.

#include <string_view>
#include <vector>

namespace flagscale {

enum class Isa : unsigned char { kScalar, kAvx2, kAvx512, kAvx512Bf16 };
constexpr int kNumIsas = 4;

const char* name(Isa isa);  // "scalar", "avx2", "avx512", "avx512bf16"
Isa parse_isa(std::string_view text);

// The best set of this machine; FLAGSCALE_ISA in the environment lowers it.
Isa machine_isa();
// Every set that this machine can run, the scalar one first.
std::vector<Isa> runnable_isas();

}  // namespace flagscale
