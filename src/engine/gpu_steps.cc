#include "engine/gpu_steps.h"

#include <chrono>

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
  cuda::copy_later(inputs_.place(), inputs(), static_cast<size_t>(step.input_elements) * sizeof(int32_t));
  launch(step);
  for (const RowRange& range : step.logits) fetch(host_logits_, results_.logits, range);
  fetch(host_drawn_, results_.drawn, {0, step.rows});
  fetch(host_embeddings_, results_.embeddings, {0, step.embedded_rows});
  cuda::synchronize();
}

void GpuSteps::fetch(const std::shared_ptr<void>& to, const Tensor& rows, const RowRange& range) {
  if (range.count == 0) return;
  const size_t row = rows.bytes() / static_cast<size_t>(rows.dim(0)),
               begin = static_cast<size_t>(range.first) * row;
  cuda::copy_later(static_cast<std::byte*>(to.get()) + begin, rows.place() + begin,
                   static_cast<size_t>(range.count) * row);
}

// The first step of a size runs launch by launch: what it needs is loaded then, which a recording must not
// wait for.
void GpuSteps::launch(const Step& step) {
  last_ = nullptr;
  if (!step.single) return program_.start(team_);
  if (graphs_.size() >= kMostGraphs) graphs_.clear();
  const auto [at, is_new] = graphs_.try_emplace({step.tokens, step.context, step.adapted});
  if (is_new) return program_.start(team_);
  if (!at->second) at->second = std::make_unique<cuda::Graph>([&] { program_.start(team_); });
  last_ = at->second.get();
  last_->launch();
}

double GpuSteps::seconds(int times) const {
  if (last_ == nullptr) return 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) last_->launch();
  cuda::synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / times;
}

}  // namespace flagscale::engine
