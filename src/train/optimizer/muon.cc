// Matrices but embeddings and the head by Muon, the rest by AdamW, as Megatron-core divides them. What is one
// matrix there is one here: gate and up together, an expert's too; q, k and v apart unless muon_no_split_qkv.
// The order of rows changes nothing, so Megatron's, which is another inside a fused projection, does not
// matter. Of adapters each A and each B is a matrix by itself. Where products are in bf16, Newton-Schulz's
// are too.
#include "op/muon/muon.h"

#include <cmath>

#include "train/optimizer/adam.h"

namespace flagscale::train {
namespace {

bool is_matrix(const nn::Parameter& parameter) {
  return parameter.shape.rank() == 2 && parameter.shard != nn::Shard::kVocabulary;
}

bool is_attention_input(const nn::Parameter& parameter) {
  const std::string& first = parameter.parts[0].name;
  return parameter.parts.size() > 1 && first.find(".self_attn.") != std::string::npos &&
         first.find(".lora_") == std::string::npos;
}

// emerging_optimizers' get_muon_scale_factor().
double scale_of(const std::string& mode, int64_t rows, int64_t columns) {
  const auto out = static_cast<double>(rows), in = static_cast<double>(columns);
  if (mode == "shape_scaling") return std::sqrt(std::max(1.0, out / in));
  if (mode == "unit_rms_norm") return std::sqrt(out / in);
  return std::sqrt(std::max(out, in));  // spectral
}

class Muon final : public Optimizer {
 public:
  explicit Muon(const OptimizerSpec& spec) : spec_(spec), others_(spec) {}

  std::vector<Slot> slots(const nn::Parameter& parameter, const Shape& part) const override {
    if (!is_matrix(parameter)) return others_.slots(parameter, part);
    return {{"momentum_buffer", DType::kF32, part}};
  }

  std::vector<Piece> pieces(const nn::Parameter& parameter) const override {
    if (!is_matrix(parameter)) return others_.pieces(parameter);
    std::vector<Piece> pieces;
    for (const int64_t rows : matrices(parameter)) pieces.push_back({rows * parameter.shape[1], 0});
    return pieces;
  }

  void update(const UpdateContext& context, const TrainedWeight& w) const override {
    if (!is_matrix(*w.parameter)) return others_.update(context, w);
    Range matrix;
    for (const int64_t rows : matrices(*w.parameter)) {
      matrix = {matrix.end, matrix.end + rows * w.columns()};
      if (common(matrix, w.held).size() > 0) update_matrix(context, w, matrix.begin / w.columns(), rows);
    }
  }

 private:
  // Rows of each.
  std::vector<int64_t> matrices(const nn::Parameter& parameter) const {
    if (!spec_.muon_split_qkv || !is_attention_input(parameter)) {
      const auto groups = static_cast<size_t>(parameter.groups);
      return std::vector<int64_t>(groups, parameter.shape[0] / parameter.groups);
    }
    std::vector<int64_t> rows;
    for (const nn::Part& part : parameter.parts) rows.push_back(part.rows);
    return rows;
  }

  void update_matrix(const UpdateContext& context, const TrainedWeight& w, int64_t row, int64_t rows) const {
    const Tensor value = w.rows(w.value, row, rows);
    const int64_t columns = value.dim(1);
    const auto elements = static_cast<double>(rows * columns);
    Tensor direction = context.recorder.empty({rows, columns}, DType::kF32);
    context.recorder.launch(
        op::kMuonDirection,
        {w.rows(w.whole(0), row, rows), w.rows(w.gradient, row, rows), context.norm, direction,
         context.scalars, static_cast<float>(spec_.muon_momentum), spec_.muon_use_nesterov},
        {7 * elements, 24 * elements});
    direction = op::orthogonalize(context.recorder, direction, static_cast<int>(spec_.muon_num_ns_steps),
                                  w.copy.defined() ? DType::kBF16 : DType::kF32);
    const double scale = scale_of(spec_.muon_scale_mode, rows, columns) * spec_.muon_extra_scale_factor;
    op::MuonApplyArgs args{
        value, direction, context.norm, {}, context.scalars, static_cast<float>(scale), w.parameter->decay};
    if (w.copy.defined()) args.copy = w.rows(w.copy, row, rows);
    context.recorder.launch(op::kMuonApply, args, {3 * elements, (w.copy.defined() ? 14 : 12) * elements});
  }

  OptimizerSpec spec_;
  Adam others_;
};

const Registration<MakeOptimizer> kMuon{"muon", &make<Muon>};

}  // namespace
}  // namespace flagscale::train
