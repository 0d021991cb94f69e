#include "engine/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <map>

#include "base/error.h"
#include "base/interrupt.h"
#include "engine/weight_cache.h"
#include "model/packed_weights.h"
#include "model/weights.h"

namespace flagscale::engine {

namespace {

void load_dense(const nn::Parameter& p, const io::WeightSet& weights) {
  int64_t at = 0;
  const int64_t columns = p.shape.numel() / p.shape[0];
  for (const nn::Part& part : p.parts) {
    weights.read_f32(part.name, 0, part.rows,
                     {p.value.data<float>() + at, static_cast<size_t>(part.rows * columns)});
    at += part.rows * columns;
  }
}

op::Packing packing_of(std::string_view name) {
  if (name == "int4-32") return op::Packing::kQ4_0;
  for (const op::Packing packing :
       {op::Packing::kF32, op::Packing::kBF16, op::Packing::kF16, op::Packing::kInt8, op::Packing::kInt4})
    if (name == op::info(packing).name) return packing;
  fail(ErrorKind::kInvalidArgument, "'{}' is no format of weights; there are {}", name,
       fmt::join(kWeightFormats, ", "));
}

}  // namespace

WeightOptions parse_weight_format(std::string_view name, bool quantize_lm_head) {
  WeightOptions options;
  options.fp8 = name == "fp8";
  if (name != "auto" && !options.fp8) options.packing = packing_of(name);
  options.quantize_lm_head = quantize_lm_head;
  if (quantize_lm_head && !options.fp8 && (!options.packing || op::info(*options.packing).bits == 0))
    fail(
        ErrorKind::kInvalidArgument,
        "quantize_lm_head goes with weights that are quantised at load: give quantization fp8, int8, int4 or "
        "int4-32 too");
  return options;
}

void place_weights(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights,
                   const WeightOptions& options) {
  if (options.fp8)
    fail(ErrorKind::kUnsupported, "weights in fp8 have no kernels for a CPU: take --quantization int8");
  auto& list = decoder.parameters();
  for (nn::Parameter& p : list.parameters()) {
    if (p.shape.rank() == 2) {
      model::declare_packed(p, &weights, options.packing);
      p.packed.compute = p.precise ? op::Compute::kExact : options.compute;
    } else {
      for (const nn::Part& part : p.parts) model::check_shape(weights.info(part.name), p, part);
      p.value = arena.persistent(p.name, p.shape, DType::kF32);
    }
  }
  for (nn::Constant& c : list.constants()) c.value = arena.persistent(c.name, c.shape, DType::kF32);
  if (options.keep && attach_cached_weights(decoder, weight_cache_key(decoder, weights))) return;
  for (nn::Parameter& p : list.parameters())
    for (op::PackedSegment& s : p.packed.segments)
      s.data = arena.persistent(p.name, p.packed.shape_of(s), DType::kU8);
}

bool load_weights(model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options,
                  const Team& team) {
  auto& list = decoder.parameters();
  model::fill_constants(list);
  bool packed = false;
  for (const nn::Parameter& p : list.parameters()) {
    throw_if_interrupted();
    if (!p.packed.defined()) {
      load_dense(p, weights);
    } else if (!p.packed.segments[0].data.storage()->owner) {  // an entry of the cache owns its memory, the
                                                               // arena does not
      model::load_packed(p, weights, team);
      packed = true;
    }
  }
  return packed && options.keep;
}

WeightUse weight_use(model::Decoder& decoder) {
  WeightUse use;
  for (const nn::Parameter& p : decoder.parameters().parameters()) {
    const size_t bytes = p.packed.defined()                         ? p.packed.bytes()
                         : p.narrow.defined()                       ? p.narrow.bytes()
                         : p.shape.rank() == 2 && p.value.defined() ? p.value.bytes()
                                                                    : 0;
    use.bytes += bytes;
    const bool looked_up = &p == &decoder.embedding() && &p != &decoder.head();
    const double share =
        p.groups == 1 ? 1 : static_cast<double>(decoder.config().moe.top_k) / static_cast<double>(p.groups);
    if (!looked_up) use.read_bytes += static_cast<size_t>(static_cast<double>(bytes) * share);
    if (p.shape.rank() == 2 && p.shard != nn::Shard::kVocabulary)
      use.matrix_elements += static_cast<double>(p.shape.numel()) * share;
  }
  return use;
}

void read_weights(model::Decoder& decoder, const Team& team) {
  constexpr int64_t kPiece = 1 << 16;
  std::atomic<uint64_t> sink{0};
  for (const nn::Parameter& p : decoder.parameters().parameters())
    for (const op::PackedSegment& s : p.packed.segments) {
      const auto* words = s.data.data<const uint64_t>();
      const int64_t count = static_cast<int64_t>(s.data.bytes() / 8);
      team.for_each((count + kPiece - 1) / kPiece, [&](int64_t piece) {
        uint64_t sum[8] = {};
        const int64_t end = std::min(count, (piece + 1) * kPiece) / 8 * 8;
        for (int64_t i = piece * kPiece; i < end; i += 8)
          for (int j = 0; j < 8; ++j) sum[j] ^= words[i + j];
        sink ^= sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
      });
    }
}

namespace {

// What a GPU's matrices are, and what is multiplied.
struct OnGpu {
  std::string weights, products;
};
std::optional<OnGpu> on_gpu(model::Decoder& decoder) {  // none: they are packed
  std::optional<OnGpu> dense;
  const bool mixture = decoder.num_mixtures() > 0;
  for (const nn::Parameter& p : decoder.parameters().parameters()) {
    const op::Narrow format = p.narrow.format;
    if (p.narrow.defined() && format == op::Narrow::kFp8Rows)
      return OnGpu{op::name(format), mixture ? "fp8 (experts' in bfloat16)" : "fp8"};
    if (p.narrow.defined()) return OnGpu{op::name(format), "bfloat16"};
    if (p.shape.rank() != 2 || !p.value.defined()) continue;
    const std::string type(name(p.value.dtype()));
    dense = OnGpu{type, type};
  }
  return dense;
}

// The formats of all matrices, by bytes, most first.
std::vector<op::Packing> packings(model::Decoder& decoder) {
  std::map<op::Packing, size_t> bytes;
  for (const nn::Parameter& p : decoder.parameters().parameters())
    for (const op::PackedSegment& s : p.packed.segments) bytes[s.packing] += s.data.bytes();
  std::vector<op::Packing> sorted;
  for (const auto& [packing, size] : bytes) sorted.push_back(packing);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](op::Packing a, op::Packing b) { return bytes[a] > bytes[b]; });
  return sorted;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string weight_formats(model::Decoder& decoder) {
  if (const auto gpu = on_gpu(decoder)) {
    const op::NarrowWeight& head = decoder.head().narrow;
    return gpu->weights + (head.defined() ? fmt::format(" (lm_head in {})", op::name(head.format)) : "");
  }
  std::vector<std::string> names;
  for (const op::Packing packing : packings(decoder)) names.emplace_back(op::info(packing).name);
  return joined(names);
}

std::string compute_text(model::Decoder& decoder, op::Compute compute) {
  if (const auto gpu = on_gpu(decoder))
    return gpu->products + " on the GPU" +
           (gpu->weights == gpu->products ? "" : ", weights in " + gpu->weights);
  std::vector<std::string> rounded, exact;
  for (const op::Packing packing : packings(decoder)) {
    const op::Compute used = op::compute_for(packing, compute);
    if (used == op::Compute::kExact)
      exact.emplace_back(op::info(packing).name);
    else if (std::ranges::find(rounded, op::name(used)) == rounded.end())
      rounded.emplace_back(op::name(used));
  }
  if (compute == op::Compute::kExact) return op::name(compute);
  if (rounded.empty()) return fmt::format("{} (exact)", op::name(compute));
  const std::string rest = exact.empty() ? "" : "; exact for " + joined(exact);
  return fmt::format("{} ({}{})", op::name(compute), joined(rounded), rest);
}

}  // namespace flagscale::engine
