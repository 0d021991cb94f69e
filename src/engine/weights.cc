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

// Rows of a segment that come from one part.
struct Source {
  const io::TensorInfo* info;
  int64_t first;  // row of the segment, within its group, of the part's first
};
using Sources = std::vector<Source>;  // of one group of a segment

// The sources of every segment, group by group: [group * segments + segment].
std::vector<Sources> sources_of(const nn::Parameter& p, const io::WeightSet& weights) {
  std::vector<Sources> sources;
  int64_t at = 0;
  size_t segment = 0;
  for (const nn::Part& part : p.parts) {
    if (at == 0) sources.emplace_back();
    sources.back().push_back({&weights.info(part.name), at});
    at += part.rows;
    if (at == p.packed.segments[segment].rows) at = 0, segment = (segment + 1) % p.packed.segments.size();
  }
  return sources;
}

// Packs one panel of a group. values: scratch.
void pack_panel(const op::PackedSegment& segment, int64_t in, int64_t group, const Sources& sources,
                const io::WeightSet& weights, int64_t panel, std::vector<float>& values) {
  const int64_t end = std::min((panel + 1) * op::kPanel, segment.rows);
  const int64_t origin = group * op::panels_of(segment.rows) * op::kPanel;
  size_t source = 0;
  for (int64_t row = panel * op::kPanel; row < end; ++row) {
    while (source + 1 < sources.size() && row >= sources[source + 1].first) ++source;
    const auto& [info, first] = sources[source];
    if (as_stored(*info, segment.packing)) {
      op::pack_row(segment.data, segment.packing, origin + row, in, weights.row(*info, row - first));
      continue;
    }
    values.resize(static_cast<size_t>(in));
    weights.read_f32(info->name, row - first, 1, values);
    op::pack_row(segment.data, segment.packing, origin + row, values);
  }
}

void load_packed(const nn::Parameter& p, const io::WeightSet& weights, const Team& team) {
  const std::vector<Sources> sources = sources_of(p, weights);
  const size_t segments = p.packed.segments.size();
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  for (size_t s = 0; s < segments; ++s) {
    const op::PackedSegment& to = p.packed.segments[s];
    const int64_t panels = op::panels_of(to.rows);
    team.for_each(p.groups * panels, [&](int64_t i) {
      const int64_t group = i / panels;
      std::vector<float> values;
      try {
        if (!failed)
          pack_panel(to, p.packed.in, group, sources[static_cast<size_t>(group) * segments + s], weights,
                     i % panels, values);
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

op::Packing packing_of(const nn::Parameter& p, const io::TensorInfo& info, const WeightOptions& options) {
  const op::Packing wanted = options.packing.value_or(natural_packing(info));
  const int bits = op::info(wanted).bits;
  if (p.precise && bits > 0) return op::Packing::kF32;
  return options.packing && bits == 4 && p.shard == nn::Shard::kVocabulary ? op::Packing::kInt8 : wanted;
}

// Which formats the rows of a matrix lie in; those of experts in the same ones, expert by expert.
void declare_segments(nn::Parameter& p, const io::WeightSet& weights, const WeightOptions& options) {
  auto& segments = p.packed.segments;
  p.packed.in = p.shape[1];
  p.packed.compute = p.precise ? op::Compute::kExact : options.compute;
  p.packed.groups = p.groups;
  const size_t parts = p.parts.size() / static_cast<size_t>(p.groups);
  std::vector<op::Packing> of_part;
  for (size_t i = 0; i < p.parts.size(); ++i) {
    const nn::Part& part = p.parts[i];
    const io::TensorInfo& info = weights.info(part.name);
    model::check_shape(info, p, part);
    const op::Packing packing = packing_of(p, info, options);
    if (i >= parts) {
      if (packing != of_part[i % parts])
        fail(ErrorKind::kUnsupported,
             "{}: {} is stored as {}, the first expert's as {}: give one format for all (--quantization)",
             info.file, info.name, op::info(packing).name, op::info(of_part[i % parts]).name);
      continue;
    }
    of_part.push_back(packing);
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
      s.data = arena.persistent(p.name, p.packed.shape_of(s), DType::kU8);
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
    const size_t bytes = p.packed.defined()                         ? p.packed.bytes()
                         : p.shape.rank() == 2 && p.value.defined() ? p.value.bytes()
                                                                    : 0;
    use.bytes += bytes;
    const bool looked_up = p.name == "model.embed_tokens.weight" && !decoder.config().tie_embeddings;
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

// The type of a model whose matrices are dense, on a GPU; none: they are packed.
std::optional<DType> dense_matrices(model::Decoder& decoder) {
  for (const nn::Parameter& p : decoder.parameters().parameters())
    if (p.shape.rank() == 2 && p.value.defined()) return p.value.dtype();
  return std::nullopt;
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
  if (const auto dense = dense_matrices(decoder)) return std::string(name(*dense));
  std::vector<std::string> names;
  for (const op::Packing packing : packings(decoder)) names.emplace_back(op::info(packing).name);
  return joined(names);
}

std::string compute_text(model::Decoder& decoder, op::Compute compute) {
  if (const auto dense = dense_matrices(decoder)) return std::string(name(*dense)) + " on the GPU";
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
