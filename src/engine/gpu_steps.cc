#include "engine/gpu_steps.h"

namespace flagscale::engine {

namespace {

constexpr size_t kMostGraphs = 256;

}  // namespace

GpuSteps::GpuSteps(const Program& program, const Team& team, Tensor inputs, Results results)
    : program_(program),
      team_(team),
      inputs_(std::move(inputs)),
      results_(std::move(results)),
      pinned_(make_shared_allocator(DeviceKind::kCuda)),
      host_inputs_(pinned_->allocate(inputs_.bytes())),
      host_logits_(pinned_->allocate(results_.logits.bytes())),
      host_drawn_(pinned_->allocate(results_.drawn.bytes())),
      host_embeddings_(pinned_->allocate(results_.embeddings.bytes())) {}

void GpuSteps::run(const Step& step) {
  if (!replay(step)) compute(step);
  for (const RowRange& range : step.logits) fetch(host_logits_, results_.logits, range);
  fetch(host_embeddings_, results_.embeddings, {0, step.embedded_rows});
  cuda::synchronize();
}

void GpuSteps::compute(const Step& step) {
  cuda::copy_later(inputs_.place(), inputs(), static_cast<size_t>(step.input_elements) * sizeof(int32_t));
  program_.start(team_);
  fetch(host_drawn_, results_.drawn, {0, step.rows});
}

void GpuSteps::record(const Step& step) {
  if (watch_) watch_->start();
  compute(step);
  if (watch_) watch_->stop();
}

void GpuSteps::fetch(const std::shared_ptr<void>& to, const Tensor& rows, const RowRange& range) {
  if (range.count == 0) return;
  const size_t row = rows.bytes() / static_cast<size_t>(rows.dim(0)),
               begin = static_cast<size_t>(range.first) * row;
  cuda::copy_later(static_cast<std::byte*>(to.get()) + begin, rows.place() + begin,
                   static_cast<size_t>(range.count) * row);
}

// The first step of a size runs launch by launch: what it needs is loaded then, which a recording must not
// wait for. How much is copied follows from the number of tokens too.
bool GpuSteps::replay(const Step& step) {
  replayed_ = false;
  if (!step.single) return false;
  const std::tuple key{step.tokens, step.context, step.adapted};
  if (graphs_.size() >= kMostGraphs && !graphs_.contains(key)) graphs_.clear();
  const auto [at, is_new] = graphs_.try_emplace(key);
  if (is_new) return false;
  if (!at->second) at->second = std::make_unique<cuda::Graph>([&] { record(step); });
  at->second->launch();
  return replayed_ = true;
}

void GpuSteps::time_graphs(bool on) {
  graphs_.clear();
  watch_ = on ? std::make_unique<cuda::Stopwatch>() : nullptr;
}

}  // namespace flagscale::engine
