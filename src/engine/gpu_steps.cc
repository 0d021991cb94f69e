#include "engine/gpu_steps.h"

namespace flagscale::engine {

namespace {

constexpr size_t kMostGraphs = 256;

std::byte* place_of(const Tensor& tensor) {
  return static_cast<std::byte*>(tensor.storage()->data) + tensor.offset();
}

}  // namespace

GpuSteps::GpuSteps(const Program& program, const Team& team, Tensor inputs, Results results)
    : program_(program),
      team_(team),
      inputs_(std::move(inputs)),
      results_(std::move(results)),
      pinned_(make_shared_allocator(DeviceKind::kCuda)),
      host_inputs_(pinned_->allocate(inputs_.bytes())),
      host_logits_(pinned_->allocate(results_.logits.bytes())),
      host_largest_(pinned_->allocate(results_.largest.bytes())),
      host_embeddings_(pinned_->allocate(results_.embeddings.bytes())) {}

void GpuSteps::run(const Step& step) {
  cuda::copy_later(place_of(inputs_), inputs(), static_cast<size_t>(step.input_elements) * sizeof(int32_t));
  launch(step);
  fetch(host_logits_, results_.logits, step.largest ? 0 : step.rows);
  fetch(host_largest_, results_.largest, step.rows);
  fetch(host_embeddings_, results_.embeddings, step.embedded_rows);
  cuda::synchronize();
}

void GpuSteps::fetch(const std::shared_ptr<void>& to, const Tensor& rows, int64_t count) {
  if (count > 0)
    cuda::copy_later(to.get(), place_of(rows),
                     static_cast<size_t>(count) * (rows.bytes() / static_cast<size_t>(rows.dim(0))));
}

// The first step of a size runs launch by launch: what it needs is loaded then, which a recording must not
// wait for.
void GpuSteps::launch(const Step& step) {
  if (!step.single) return program_.start(team_);
  if (graphs_.size() >= kMostGraphs) graphs_.clear();
  const auto [at, is_new] = graphs_.try_emplace({step.tokens, step.context});
  if (is_new) return program_.start(team_);
  if (!at->second) at->second = std::make_unique<cuda::Graph>([&] { program_.start(team_); });
  at->second->launch();
}

}  // namespace flagscale::engine
