#include "plan/program.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/interrupt.h"
#include "device/cuda/cuda.h"
#include "plan/layout.h"

namespace flagscale {

namespace {
constexpr size_t kNoBuffer = SIZE_MAX;
size_t aligned(size_t bytes) { return (bytes + 63) & ~size_t{63}; }
}  // namespace

Tensor Tracer::empty(const Shape& shape, DType dtype, const int64_t* live) {
  auto storage = std::make_shared<Storage>();
  storage->device = {DeviceKind::kNull, 0};
  storage->bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  program_.index_[storage.get()] = program_.buffers_.size();
  program_.buffers_.push_back({storage, storage->bytes, -1, -1});
  return {storage, 0, dtype, shape, live};
}

void Tracer::launch(std::unique_ptr<Launch> launch) {
  throw_if_interrupted();  // a large model is many launches
  program_.launches_.push_back(std::move(launch));
}

void Program::take(const Tensor& tensor) {
  const auto it = index_.find(tensor.storage().get());
  if (it != index_.end()) buffers_[it->second].first = 0;
}

void Program::keep(const Tensor& tensor) {
  const auto it = index_.find(tensor.storage().get());
  if (it != index_.end()) buffers_[it->second].last = INT32_MAX;
}

void Program::find_lifetimes() {
  for (int i = 0; i < static_cast<int>(launches_.size()); ++i) {
    for (const Launch::Use& use : launches_[static_cast<size_t>(i)]->uses()) {
      const auto it = index_.find(use.view->storage);
      if (it == index_.end()) continue;
      Buffer& buffer = buffers_[it->second];
      if (buffer.first < 0) {
        FLAGSCALE_CHECK(use.access != Access::kRead);  // read before anything wrote it
        buffer.first = i;
      }
      buffer.last = std::max(buffer.last, i);
    }
  }
}

void Program::plan(Isa isa, int threads) {
  device_ = device_of(isa);
  isa_ = isa;
  threads_ = threads;
  find_lifetimes();
  std::erase_if(buffers_, [](const Buffer& b) { return b.first < 0; });  // made but never used
  index_.clear();
  for (size_t i = 0; i < launches_.size(); ++i) {
    throw_if_interrupted();
    launches_[i]->resolve(device_, isa);
    const size_t bytes = launches_[i]->workspace(device_, isa, threads);
    workspace_bytes_.push_back(bytes);
    workspace_buffer_.push_back(bytes ? buffers_.size() : kNoBuffer);
    if (bytes) buffers_.push_back({nullptr, bytes, static_cast<int>(i), static_cast<int>(i)});
  }
  std::vector<Interval> intervals;
  for (const Buffer& b : buffers_) intervals.push_back({b.bytes, b.first, b.last});
  transient_bytes_ = lay_out(intervals);
  for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].offset = intervals[i].offset;
}

void Program::bind(void* base) {
  base_ = static_cast<std::byte*>(base);
  for (const Buffer& b : buffers_)
    if (b.storage) {
      b.storage->device = {device_, 0};
      b.storage->data = base_ + b.offset;
    }
  for (auto& launch : launches_) launch->bind();
}

Cost Program::cost() const {
  Cost total;
  for (const auto& launch : launches_) {
    total.flops += launch->cost.flops;
    total.bytes += launch->cost.bytes;
  }
  return total;
}

KernelContext Program::context(size_t launch, const Team& team) const {
  FLAGSCALE_CHECK(base_ != nullptr && team.size() <= threads_);
  const size_t buffer = workspace_buffer_[launch];
  std::byte* workspace = buffer == kNoBuffer ? nullptr : base_ + buffers_[buffer].offset;
  return {{device_, 0}, isa_, team, {workspace, workspace_bytes_[launch]}};
}

void Program::start(const Team& team, const std::function<void(size_t)>& launched) const {
  for (size_t i = 0; i < launches_.size(); ++i) {
    KernelContext kernel_context = context(i, team);
    launches_[i]->run(kernel_context);
    if (launched) launched(i + 1);
  }
}

void Program::for_writes(const Storage& to,
                         const std::function<void(size_t, const TensorView&)>& body) const {
  for (size_t i = 0; i < launches_.size(); ++i)
    for (const Launch::Use& use : launches_[i]->uses())
      if (use.view->storage == &to && use.access != Access::kRead) body(i, *use.view);
}

void Program::run(const Team& team) const {
  start(team);
  if (device_ == DeviceKind::kCuda) cuda::synchronize();
}

void Program::profile(const Team& team, std::unordered_map<std::string, double>& seconds) const {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < launches_.size(); ++i) {
    KernelContext kernel_context = context(i, team);
    const auto start = Clock::now();
    launches_[i]->run(kernel_context);
    if (device_ == DeviceKind::kCuda) cuda::synchronize();
    seconds[launches_[i]->name()] += std::chrono::duration<double>(Clock::now() - start).count();
  }
}

Tensor Arena::persistent(const std::string& name, const Shape& shape, DType dtype) {
  FLAGSCALE_CHECK(!memory_);
  auto storage = std::make_shared<Storage>();
  storage->device = {DeviceKind::kNull, 0};
  storage->bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  storages_.emplace_back(storage, persistent_bytes_);
  names_.emplace_back(name, storage->bytes);
  persistent_bytes_ += aligned(storage->bytes);
  return {storage, 0, dtype, shape};
}

size_t Arena::transient_bytes() const {
  size_t most = 0;
  for (const Program* program : programs_) most = std::max(most, program->transient_bytes());
  return most;
}

void Arena::bind(Allocator& allocator, DeviceKind device) {
  FLAGSCALE_CHECK(!memory_);
  memory_ = allocator.allocate(bytes());
  auto* base = static_cast<std::byte*>(memory_.get());
  for (auto& [storage, offset] : storages_) {
    storage->device = {device, 0};
    storage->data = base + offset;
  }
  for (Program* program : programs_) program->bind(base + persistent_bytes_);
}

}  // namespace flagscale
