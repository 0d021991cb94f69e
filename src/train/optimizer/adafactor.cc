// Each tensor of a file by itself, as where projections are not fused.
#include "op/adafactor/adafactor.h"

#include "train/optimizer/optimizer.h"

namespace flagscale::train {
namespace {

class Adafactor final : public Optimizer {
 public:
  explicit Adafactor(const OptimizerSpec& spec) : spec_(spec) {}

  std::vector<Slot> slots(const nn::Parameter&, const Shape& part) const override {
    if (part.rank() < 2) return {{"exp_avg_sq", DType::kF32, part}};
    return {{"exp_avg_sq_row", DType::kF32, {part[0]}}, {"exp_avg_sq_col", DType::kF32, {part[1]}}};
  }

  // Each is clipped by its own root mean square.
  std::vector<Piece> pieces(const nn::Parameter& parameter) const override {
    std::vector<Piece> pieces;
    for (const nn::Part& part : parameter.parts) pieces.push_back({part_shape(parameter, part).numel(), 0});
    return pieces;
  }

  void update(const UpdateContext& context, const TrainedWeight& w) const override {
    w.for_parts([&](size_t i, Range part) {
      const int64_t row = part.begin / w.columns(), rows = part.size() / w.columns();
      op::AdafactorArgs args{w.rows(w.value, row, rows),
                             w.slots[i][0].tensor(),
                             {},
                             w.rows(w.gradient, row, rows),
                             context.norm,
                             {},
                             context.scalars,
                             static_cast<float>(spec_.adafactor_decay_rate),
                             static_cast<float>(spec_.adafactor_clip_threshold),
                             spec_.adafactor_scale_parameter,
                             w.parameter->decay};
      if (w.slots[i].size() > 1) args.column = w.slots[i][1].tensor();
      if (w.copy.defined()) args.copy = w.rows(w.copy, row, rows);
      const auto elements = static_cast<double>(args.param.dims[0] * args.param.dims[1]);
      context.recorder.launch(op::kAdafactor, args, {15 * elements, (w.copy.defined() ? 22 : 20) * elements});
    });
  }

 private:
  OptimizerSpec spec_;
};

const Registration<MakeOptimizer> kAdafactor{"adafactor", &make<Adafactor>};

}  // namespace
}  // namespace flagscale::train
