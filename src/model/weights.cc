#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <mutex>
#include <numbers>
#include <set>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "model/packed_weights.h"
#include "op/random_normal/random_normal.h"

namespace flagscale::model {

namespace {

// Rows are read in pieces, so that decoding a large tensor uses every thread.
struct Piece {
  const nn::Part* part;
  int64_t begin, rows;
  std::byte* out;
  size_t bytes;
  DType dtype;
};

void add_pieces(const io::WeightSet& weights, const nn::Parameter& parameter, std::vector<Piece>& pieces) {
  const size_t row_bytes = parameter.value.bytes() / static_cast<size_t>(parameter.shape[0]);
  const auto step = std::max<int64_t>(1, (int64_t{1} << 20) / static_cast<int64_t>(row_bytes));
  auto* out = static_cast<std::byte*>(parameter.value.raw());
  for (const nn::Part& part : parameter.parts) {
    check_shape(weights.info(part.name), parameter, part);
    for (int64_t begin = 0; begin < part.rows; begin += step) {
      const int64_t rows = std::min(step, part.rows - begin);
      pieces.push_back(
          {&part, begin, rows, out, static_cast<size_t>(rows) * row_bytes, parameter.value.dtype()});
      out += static_cast<size_t>(rows) * row_bytes;
    }
  }
}

void read_pieces(const io::WeightSet& weights, const std::vector<Piece>& pieces, const Team& team) {
  std::mutex mutex;
  std::exception_ptr error;
  team.for_each(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    try {
      throw_if_interrupted();
      weights.read(piece.part->name, piece.begin, piece.rows, piece.dtype, {piece.out, piece.bytes});
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace

void check_shape(const io::TensorInfo& info, const nn::Parameter& parameter, const nn::Part& part) {
  std::vector<int64_t> expected{part.rows};
  if (parameter.shape.rank() == 2) expected.push_back(parameter.shape[1]);
  if (info.shape != expected)
    fail(ErrorKind::kCorrupt, "{}: {} is [{}], the configuration expects [{}]", info.file, info.name,
         fmt::join(info.shape, ", "), fmt::join(expected, ", "));
}

void load_weights(const io::WeightSet& weights, nn::ParameterList& list, const Team& team) {
  std::vector<Piece> pieces;
  for (const nn::Parameter& parameter : list.parameters())
    if (!parameter.packed.defined()) add_pieces(weights, parameter, pieces);
  read_pieces(weights, pieces, team);
  for (const nn::Parameter& parameter : list.parameters()) {
    throw_if_interrupted();
    if (parameter.packed.defined()) load_packed(parameter, weights, team);
  }
}

void load_weight(const io::WeightSet& weights, const nn::Parameter& parameter, const Team& team) {
  std::vector<Piece> pieces;
  add_pieces(weights, parameter, pieces);
  read_pieces(weights, pieces, team);
}

std::vector<std::string> unused_tensors(const io::WeightSet& weights, const nn::ParameterList& list,
                                        bool tied) {
  std::set<std::string, std::less<>> used;
  for (const nn::Parameter& parameter : list.parameters())
    for (const nn::Part& part : parameter.parts) used.insert(part.name);
  std::vector<std::string> unused;
  for (const io::TensorInfo& info : weights.tensors()) {
    const bool known = used.contains(info.name) || (tied && info.name == "lm_head.weight") ||
                       info.name.ends_with("rotary_emb.inv_freq") || info.name == "rope_freqs.weight" ||
                       (weights.has_scales() && io::is_scale(info.name));
    if (!known) unused.push_back(info.name);
  }
  return unused;
}

void warn_of_unused(const io::WeightSet& weights, const nn::ParameterList& list, bool tied) {
  const std::vector<std::string> unused = unused_tensors(weights, list, tied);
  if (unused.empty()) return;
  constexpr size_t kNamed = 3;
  const std::vector<std::string> named(unused.begin(), unused.begin() + std::min(kNamed, unused.size()));
  warn(
      "{}: {} of {} tensors have no place in the model that its configuration describes and are not used: "
      "{}{}",
      weights.info(unused[0]).file, unused.size(), weights.tensors().size(), fmt::join(named, ", "),
      unused.size() > kNamed ? ", …" : "");
}

void initialise(const nn::Parameter& parameter, uint64_t seed, float norm_init, const Tensor& out,
                const Team& team) {
  const bool uniform = parameter.init.kind == nn::Init::Kind::kUniform;
  if (uniform || parameter.init.kind == nn::Init::Kind::kNormal) {
    KernelContext context{{DeviceKind::kCpu, 0}, machine_isa(), team, {}};
    const op::RandomNormalArgs args{out, seed, op::random_stream("init", parameter.name),
                                    0,   0.f,  uniform ? 1.f : parameter.init.std};
    op::kRandomNormal.kernel(DeviceKind::kCpu, machine_isa())(context, args);
    if (!uniform) return;
    float* const values = out.data<float>();  // 2 Φ(x) - 1 of a normal x is uniform in (-1, 1)
    for (int64_t i = 0; i < out.shape().numel(); ++i)
      values[i] = parameter.init.std * std::erf(values[i] * std::numbers::sqrt2_v<float> / 2);
    return;
  }
  const float value = parameter.init.kind == nn::Init::Kind::kOnes ? norm_init : 0.f;
  std::fill_n(out.data<float>(), out.shape().numel(), value);
}

void fill_constants(nn::ParameterList& list) {
  for (nn::Constant& constant : list.constants()) constant.fill(constant.value.data<float>());
}

}  // namespace flagscale::model
