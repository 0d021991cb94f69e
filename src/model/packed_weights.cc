#include "model/packed_weights.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "base/check.h"
#include "base/error.h"
#include "model/weights.h"

namespace flagscale::model {

namespace {

// Whether rows go into panels as the file has them.
bool as_stored(const io::TensorInfo& info, op::Packing packing) {
  return packing != op::Packing::kF32 && info.encoding != io::Encoding::kFp8 &&
         natural_packing(info) == packing;
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

op::Packing packing_of(const nn::Parameter& p, const nn::Part& part, const io::WeightSet* weights,
                       std::optional<op::Packing> packing) {
  if (weights) check_shape(weights->info(part.name), p, part);
  const op::Packing wanted = packing ? *packing : natural_packing(weights->info(part.name));
  const int bits = op::info(wanted).bits;
  if (p.precise && bits > 0) return op::Packing::kF32;
  return packing && bits == 4 && p.shard == nn::Shard::kVocabulary ? op::Packing::kInt8 : wanted;
}

}  // namespace

op::Packing natural_packing(const io::TensorInfo& info) {
  if (info.encoding == io::Encoding::kFp8) return op::Packing::kBF16;
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

void declare_packed(nn::Parameter& p, const io::WeightSet* weights, std::optional<op::Packing> packing) {
  FLAGSCALE_CHECK(weights || packing);
  auto& segments = p.packed.segments;
  p.packed.in = p.shape[1];
  p.packed.groups = p.groups;
  const size_t parts = p.parts.size() / static_cast<size_t>(p.groups);
  FLAGSCALE_CHECK(parts > 0);
  std::vector<op::Packing> of_part;
  for (size_t i = 0; i < p.parts.size(); ++i) {
    const nn::Part& part = p.parts[i];
    const op::Packing format = packing_of(p, part, weights, packing);
    if (i >= parts) {
      if (format != of_part[i % parts])
        fail(ErrorKind::kUnsupported,
             "{}: {} is stored as {}, the first expert's as {}: give one format for all (serving: "
             "--quantization; training: load_in_8bit or load_in_4bit)",
             weights->info(part.name).file, part.name, op::info(format).name,
             op::info(of_part[i % parts]).name);
      continue;
    }
    of_part.push_back(format);
    if (!segments.empty() && segments.back().packing == format)
      segments.back().rows += part.rows;
    else
      segments.push_back({format, part.rows, {}});
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

}  // namespace flagscale::model
