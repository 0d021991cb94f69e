#pragma once
// Rotary position tables (Su et al., "RoFormer", 2021) with the scalings that Hugging Face's configurations
// name. The formulas are those of transformers' modeling_rope_utils.py.

#include <cstdint>
#include <string>
#include <vector>

namespace flagscale::op {

struct RopeSpec {
  int head_dim = 0;
  double theta = 10000.0;
  int64_t max_positions = 2048;
  std::string type = "default";  // default, linear, llama3, yarn
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  int64_t original_max_positions = 0;                // llama3, yarn
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn: the ramp's ends are whole dimensions
  double attention_factor = 1;                       // yarn: multiplies cos and sin
};

// The keys of rope_scaling or rope_parameters; 0 where absent.
struct RopeScalingValues {
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_positions = 0;
  double beta_fast = 32, beta_slow = 1, mscale = 0, mscale_all_dim = 0, attention_factor = 0;
  bool truncate = true;
};

// Throws Error{kUnsupported} naming a type that is not done here, Error{kCorrupt} for values that make no
// sense.
void set_rope_scaling(RopeSpec& spec, const std::string& type, const RopeScalingValues& values);

// Radians a position, [head_dim / 2].
std::vector<double> rope_frequencies(const RopeSpec& spec);

// cos and sin of position * frequency, times the attention factor: fp32 [positions, head_dim / 2]. Angles are
// formed in fp32, as transformers forms them.
void fill_rope_cos(const RopeSpec& spec, int64_t positions, float* out);
void fill_rope_sin(const RopeSpec& spec, int64_t positions, float* out);

}  // namespace flagscale::op
