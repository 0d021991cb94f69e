#include "engine/gpu_steps.h"

#include "base/error.h"

namespace flagscale::engine {

GpuSteps::GpuSteps(const Program& program, const Team& team, Tensor inputs, Results results,
                   size_t most_graphs)
    : program_(program),
      team_(team),
      inputs_(std::move(inputs)),
      results_(std::move(results)),
      pinned_(make_shared_allocator(DeviceKind::kCuda)),
      host_logits_(pinned_->allocate(results_.logits.bytes())),
      host_embeddings_(pinned_->allocate(results_.embeddings.bytes())),
      graphs_(most_graphs) {
  for (Turn& turn : turns_) {
    turn.inputs = pinned_->allocate(inputs_.bytes());
    turn.drawn = pinned_->allocate(results_.drawn.bytes());
  }
}

GpuSteps::~GpuSteps() {
  try {
    cuda::synchronize();
  } catch (const Error&) {  // a GPU that failed has nothing under way
  }
}

int32_t* GpuSteps::inputs(int turn) const {
  turn_of(turn).done.wait();
  return static_cast<int32_t*>(turn_of(turn).inputs.get());
}

void GpuSteps::launch(const Step& step, int turn) {
  const Turn& own = turn_of(turn);
  cuda::copy_later(inputs_.place(), own.inputs.get(),
                   static_cast<size_t>(step.input_elements) * sizeof(int32_t));
  if (!replay(step, turn)) program_.start(team_);
  fetch(own.drawn, results_.drawn, {0, step.rows});
  for (const RowRange& range : step.logits) fetch(host_logits_, results_.logits, range);
  fetch(host_embeddings_, results_.embeddings, {0, step.embedded_rows});
  own.done.set();
}

void GpuSteps::fetch(const std::shared_ptr<void>& to, const Tensor& rows, const RowRange& range) {
  if (range.count == 0) return;
  const size_t row = rows.bytes() / static_cast<size_t>(rows.dim(0)),
               begin = static_cast<size_t>(range.first) * row;
  cuda::copy_later(static_cast<std::byte*>(to.get()) + begin, rows.place() + begin,
                   static_cast<size_t>(range.count) * row);
}

bool GpuSteps::replay(const Step& step, int turn) {
  Turn& own = turns_[static_cast<size_t>(turn)];
  own.replayed =
      step.single &&
      graphs_.replay({step.tokens, step.context, step.adapted, own.watch ? turn : 0}, [&] { record(own); });
  return own.replayed;
}

void GpuSteps::record(const Turn& turn) const {
  if (turn.watch) turn.watch->start();
  program_.start(team_);
  if (turn.watch) turn.watch->stop();
}

void GpuSteps::time_graphs(bool on) {
  graphs_.clear();
  for (Turn& turn : turns_) turn.watch = on ? std::make_unique<cuda::Stopwatch>() : nullptr;
}

double GpuSteps::seconds(int turn) const {
  const Turn& own = turn_of(turn);
  return own.watch && own.replayed ? own.watch->seconds() : 0;
}

}  // namespace flagscale::engine
