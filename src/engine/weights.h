#pragma once
// The model's weights as serving holds them: matrices packed (op/packed_linear), everything else dense in
// fp32.

#include <optional>

#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "plan/program.h"

namespace flagscale::engine {

// packing: of every matrix; none: as the file has each (bf16, f16, GGUF's blocks), fp32 for what cannot be
// kept as it is. With 4 bits, embedding and head take 8, as is usual: they matter most. A fused weight whose
// parts the file stores in different formats becomes segments. On a GPU matrices are dense, or narrow (fp8,
// int8, int4), but for the embedding and, unless it shall be so too, the head.
struct WeightOptions {
  std::optional<op::Packing> packing;
  op::Compute compute = op::Compute::kExact;
  bool keep = false;  // packed matrices are taken from, and left in, the user's cache folder (weight_cache.h)
  bool fp8 = false;   // in place of packing; a GPU's alone
  // Quantised on a GPU too: in eight bits, which a CPU's has in any case.
  bool quantize_lm_head = false;
};

// "auto": none; else a floating type, int8, int4 (one scale for 128), int4-32 or fp8. Throws Error naming
// them, and where nothing is quantised that the head could be too.
WeightOptions parse_weight_format(std::string_view name, bool quantize_lm_head = false);
inline constexpr const char* kWeightFormats[] = {"auto", "float32", "bfloat16", "float16",
                                                 "int8", "int4",    "int4-32",  "fp8"};

// Gives every weight and constant of the model its place. Throws Error naming the tensor that is missing or
// has another shape.
void place_weights(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights,
                   const WeightOptions& options);

// Fills placed and bound weights from the same file, and the constants. True: they were packed, and are worth
// keeping (store_cached_weights).
bool load_weights(model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options,
                  const Team& team);

// What a token reads and multiplies of the weights; of experts, as many as it has.
struct WeightUse {
  size_t bytes = 0;            // of all matrices
  size_t read_bytes = 0;       // without an embedding that only looks rows up
  double matrix_elements = 0;  // without embedding and head
};
WeightUse weight_use(model::Decoder& decoder);
// Reads every matrix once and does nothing with it: how fast that can be.
void read_weights(model::Decoder& decoder, const Team& team);

// The formats that the matrices lie in, by bytes, most first: "Q4_K, Q6_K"; on a GPU the layers', and the
// head's where it is quantised: "int4 (lm_head in int8)".
std::string weight_formats(model::Decoder& decoder);

// `compute` and what becomes of it for these formats: "exact", "fast (int8)", "fast (bf16; exact for
// float16)".
std::string compute_text(model::Decoder& decoder, op::Compute compute);

}  // namespace flagscale::engine
