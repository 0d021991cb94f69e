#include "engine/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>

#include "base/error.h"
#include "engine/weight_cache.h"
#include "model/weights.h"

namespace flagscale::engine {

namespace {

op::Packing natural_packing(const io::TensorInfo& info) {
  if (info.encoding != io::Encoding::kPlain) {
    for (int i = 0; i < op::kNumPackings; ++i) {
      const auto packing = static_cast<op::Packing>(i);
      const op::PackingInfo& format = op::info(packing);
      if (format.bits > 0 && format.source_bytes > 0 && format.name == io::name(info.encoding) &&
          info.row_elements() % format.block == 0)
        return packing;
    }
    return op::Packing::kF32;
  }
  return info.dtype == DType::kBF16  ? op::Packing::kBF16
         : info.dtype == DType::kF16 ? op::Packing::kF16
                                     : op::Packing::kF32;
}

// Whether rows go into panels as the file has them.
bool as_stored(const io::TensorInfo& info, op::Packing packing) {
  return packing != op::Packing::kF32 && natural_packing(info) == packing;
}

// One row of a fused weight: which part, which row of it.
struct Source {
  const io::TensorInfo* info;
  int64_t first;  // row of the segment's first row of this part
  int64_t begin;  // that row's index in the part
};

// Packs the rows of one panel. rows: scratch.
void pack_panel(const op::PackedSegment& segment, int64_t in, const std::vector<Source>& sources,
                const io::WeightSet& weights, int64_t panel, std::vector<float>& values) {
  const int64_t end = std::min((panel + 1) * op::kPanel, segment.rows);
  size_t source = 0;
  for (int64_t row = panel * op::kPanel; row < end; ++row) {
    while (source + 1 < sources.size() && row >= sources[source + 1].first) ++source;
    const auto& [info, first, begin] = sources[source];
    if (as_stored(*info, segment.packing)) {
      op::pack_row(segment.data, segment.packing, row, in, weights.row(*info, begin + row - first));
      continue;
    }
    values.resize(static_cast<size_t>(in));
    weights.read_f32(info->name, begin + row - first, 1, values);
    op::pack_row(segment.data, segment.packing, row, values);
  }
}

void load_packed(const nn::Parameter& p, const io::WeightSet& weights, const Team& team) {
  std::vector<std::vector<Source>> sources(1);
  int64_t at = 0, segment = 0;
  for (const nn::Part& part : p.parts) {
    if (at == p.packed.segments[static_cast<size_t>(segment)].rows) sources.emplace_back(), at = 0, ++segment;
    sources.back().push_back({&weights.info(part.name), at, 0});
    at += part.rows;
  }
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  for (size_t s = 0; s < sources.size(); ++s) {
    const op::PackedSegment& to = p.packed.segments[s];
    team.for_each(op::panels_of(to.rows), [&](int64_t panel) {
      std::vector<float> values;
      try {
        if (!failed) pack_panel(to, p.packed.in, sources[s], weights, panel, values);
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    });
  }
  if (error) std::rethrow_exception(error);
}

void load_dense(const nn::Parameter& p, const io::WeightSet& weights) {
  int64_t at = 0;
  const int64_t columns = p.shape.numel() / p.shape[0];
  for (const nn::Part& part : p.parts) {
    weights.read_f32(part.name, 0, part.rows,
                     {p.value.data<float>() + at, static_cast<size_t>(part.rows * columns)});
    at += part.rows * columns;
  }
}

// Which formats the rows of a matrix lie in.
void declare_segments(nn::Parameter& p, const io::WeightSet& weights, const WeightOptions& options) {
  auto& segments = p.packed.segments;
  p.packed.in = p.shape[1];
  p.packed.compute = options.compute;
  for (const nn::Part& part : p.parts) {
    const io::TensorInfo& info = weights.info(part.name);
    model::check_shape(info, p, part);
    op::Packing packing = options.packing.value_or(natural_packing(info));
    if (options.packing && op::info(packing).bits == 4 && p.shard == nn::Shard::kVocabulary)
      packing = op::Packing::kInt8;
    if (!segments.empty() && segments.back().packing == packing)
      segments.back().rows += part.rows;
    else
      segments.push_back({packing, part.rows, {}});
  }
}

}  // namespace

std::optional<op::Packing> parse_weight_format(std::string_view name) {
  if (name == "auto") return std::nullopt;
  if (name == "int4-32") return op::Packing::kQ4_0;
  for (const op::Packing packing :
       {op::Packing::kF32, op::Packing::kBF16, op::Packing::kF16, op::Packing::kInt8, op::Packing::kInt4})
    if (name == op::info(packing).name) return packing;
  fail(ErrorKind::kInvalidArgument, "'{}' is no format of weights; there are {}", name,
       fmt::join(kWeightFormats, ", "));
}

void place_weights(Arena& arena, model::Decoder& decoder, const io::WeightSet& weights,
                   const WeightOptions& options) {
  auto& list = decoder.parameters();
  for (nn::Parameter& p : list.parameters()) {
    if (p.shape.rank() == 2) {
      declare_segments(p, weights, options);
    } else {
      for (const nn::Part& part : p.parts) model::check_shape(weights.info(part.name), p, part);
      p.value = arena.persistent(p.name, p.shape, DType::kF32);
    }
  }
  for (nn::Constant& c : list.constants()) c.value = arena.persistent(c.name, c.shape, DType::kF32);
  if (options.keep && attach_cached_weights(decoder, weight_cache_key(decoder, weights))) return;
  for (nn::Parameter& p : list.parameters())
    for (op::PackedSegment& s : p.packed.segments)
      s.data = arena.persistent(p.name, op::packed_shape(s.packing, s.rows, p.packed.in), DType::kU8);
}

void load_weights(model::Decoder& decoder, const io::WeightSet& weights, const WeightOptions& options,
                  const Team& team) {
  auto& list = decoder.parameters();
  model::fill_constants(list);
  bool packed = false;
  for (const nn::Parameter& p : list.parameters()) {
    if (!p.packed.defined()) {
      load_dense(p, weights);
    } else if (!p.packed.segments[0].data.storage()->owner) {  // an entry of the cache owns its memory, the
                                                               // arena does not
      load_packed(p, weights, team);
      packed = true;
    }
  }
  if (packed && options.keep) store_cached_weights(decoder, weight_cache_key(decoder, weights));
}

WeightUse weight_use(model::Decoder& decoder) {
  WeightUse use;
  for (const nn::Parameter& p : decoder.parameters().parameters()) {
    const size_t bytes = p.packed.bytes();
    use.bytes += bytes;
    const bool looked_up = p.name == "model.embed_tokens.weight" && !decoder.config().tie_embeddings;
    if (!looked_up) use.read_bytes += bytes;
    if (p.packed.defined() && p.shard != nn::Shard::kVocabulary)
      use.matrix_elements += static_cast<double>(p.shape.numel());
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
  std::vector<std::string> names;
  for (const op::Packing packing : packings(decoder)) names.emplace_back(op::info(packing).name);
  return joined(names);
}

std::string compute_text(model::Decoder& decoder, op::Compute compute) {
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
