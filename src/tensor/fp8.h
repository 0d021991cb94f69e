#pragma once
// Numbers of eight bits (Micikevicius et al., "FP8 Formats for Deep Learning", 2022; OCP's standard) and the
// scales that they are held with: Transformer Engine's rules, which Megatron trains by.

#include <cstdint>

namespace flagscale {

// The largest are 448 and 57344. E4M3 has no infinity.
enum class Fp8 : uint8_t { kE4M3, kE5M2 };
const char* name(Fp8 format);  // "e4m3", "e5m2"
float largest(Fp8 format);

// Which numbers of a matrix share a scale: all; 128 neighbours of a row; 128 rows of 128 neighbours. Scales
// of the latter two are powers of two.
enum class Fp8Scales : uint8_t { kTensor, kRow128, kSquare128 };

// To nearest, ties to even; what is beyond the largest becomes it, and no number 0x7f.
uint8_t to_fp8(Fp8 format, float x);
float from_fp8(Fp8 format, uint8_t q);
const float* fp8_values(Fp8 format);  // of all 256

// What numbers of at most this magnitude are multiplied with before they are rounded: largest / magnitude, or
// the power of two below it; 1 where the magnitude is 0 or not finite.
float fp8_factor(Fp8 format, Fp8Scales scales, float magnitude);

}  // namespace flagscale
