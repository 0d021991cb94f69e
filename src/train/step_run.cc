// What a TrainStep does once it is planned and has its memory.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "device/cuda/cuda.h"
#include "train/step.h"

namespace flagscale::train {

Tensor TrainStep::host(const Tensor& tensor) const {
  return !tensor.defined() || tensor.device().kind == DeviceKind::kCpu ? tensor : mirrors_.of(tensor);
}

void TrainStep::to_device(std::initializer_list<const Tensor*> tensors) const {
  if (on_host()) return;
  for (const Tensor* tensor : tensors)
    if (tensor->defined() && tensor->bytes() > 0) copy_from_host(host(*tensor).raw(), *tensor);
}

void TrainStep::to_host(std::initializer_list<const Tensor*> tensors) const {
  if (on_host()) return;
  for (const Tensor* tensor : tensors)
    if (tensor->bytes() > 0) copy_to_host(*tensor, host(*tensor).raw());
}

data::MicroBatch TrainStep::inputs() {
  const auto n = static_cast<size_t>(tokens_.dim(0));
  return {{host(tokens_).data<int32_t>(), n},
          {host(labels_).data<int32_t>(), n},
          {host(mask_).data<float>(), n},
          {host(positions_).data<int32_t>(), n},
          {host(cu_seqlens_).data<int32_t>(), static_cast<size_t>(cu_seqlens_.dim(0))}};
}

TrainStep::Learnt TrainStep::find_learnt(const Tensor& mask, const Tensor& order) const {
  const float* const values = mask.data<float>();
  Learnt result{0, learnt_ ? learnt_->order(values, order.data<int32_t>()) : mask.dim(0)};
  for (int64_t i = 0; i < mask.dim(0); ++i) result.tokens += static_cast<double>(values[i]);
  return result;
}

void TrainStep::take_learnt(int64_t head_rows) {
  if (learnt_) learnt_->take(head_rows);
}

TrainStep::Sums TrainStep::sums(const Tensor& loss, double tokens) {
  Sums result{0, tokens, {}};
  copy_to_host(loss, losses_.data());
  for (const float value : losses_) result.loss += static_cast<double>(value);
  return result;
}

MicroGraphs::Values TrainStep::values_of(int64_t num_seqs, bool first, int64_t micro_batches,
                                         const Learnt& learnt, double batch_tokens) const {
  const bool drops = options_.lora && options_.lora->dropout > 0;
  const auto positions = static_cast<double>(tokens_.dim(0)), parts = static_cast<double>(micro_batches);
  const double tokens = batch_tokens > 0 ? batch_tokens : std::max(learnt.tokens, 1.0) * parts;
  return {num_seqs,
          first ? 0 : 1,
          drops ? dropout_rows_.first : 0,
          learnt.rows,
          static_cast<float>(1.0 / tokens),
          static_cast<float>(batch_tokens > 0 ? positions / batch_tokens : 1.0 / parts)};
}

void TrainStep::take(const MicroGraphs::Values& values) {
  num_seqs_ = values.num_seqs, accumulate_ = values.accumulate;
  take_learnt(values.head_rows);
  grad_scale_ = values.grad_scale, router_scale_ = values.router_scale;
}

TrainStep::Sums TrainStep::micro_batch(int64_t num_seqs, bool first, int64_t micro_batches,
                                       int64_t first_sample, double batch_tokens, cuda::RankGpus* ranks) {
  dropout_rows_.first = first_sample * options_.sequence_length;
  const Learnt learnt = find_learnt(host(mask_), host(order_));
  const MicroGraphs::Values values = values_of(num_seqs, first, micro_batches, learnt, batch_tokens);
  take(values);
  to_device({&tokens_, &labels_, &mask_, &positions_, &cu_seqlens_, &order_});
  if (ranks)
    run_with(*ranks);
  else
    run_micro_batch(values);
  rounded_ = 1;
  Sums result = sums(micro_loss_, learnt.tokens);
  if (!router_.wanted()) return result;
  op::RouterLosses told = router_;
  told.statistics = host(router_.statistics);
  to_host({&router_.statistics});
  result.router = op::router_loss_values(told, decoder_->config().moe.top_k, tokens_.dim(0));
  return result;
}

// Ranks may be threads that share a GPU, where copies of one wait for streams of all: not while one records.
void TrainStep::run_micro_batch(const MicroGraphs::Values& values) {
  if (!replays()) return micro_.run(team_);
  graphs_.run(values, [&] { micro_.start(team_); });
  cuda::synchronize();
}

void TrainStep::run_with(cuda::RankGpus& ranks) {
  if (!std::exchange(warm_, true)) {  // products are timed when first met: nothing should run beside them
    micro_.run(team_);
    sum_on(ranks, {0, bucket_size_});
    return ranks.wait();
  }
  auto next = ready_.begin();
  int64_t begin = 0;
  try {
    micro_.start(team_, [&](size_t launches) {
      for (; next != ready_.end() && next->launches <= launches; begin = next++->end)
        sum_on(ranks, {begin, next->end});
    });
  } catch (...) {
    ranks.give_up();
    throw;
  }
  ranks.wait();
}

TrainStep::Sums TrainStep::evaluate(int64_t num_seqs) {
  FLAGSCALE_CHECK(options_.evaluation);
  num_seqs_ = num_seqs;
  const Learnt learnt = find_learnt(host(mask_), host(order_));
  take_learnt(learnt.rows);
  to_device({&tokens_, &labels_, &mask_, &positions_, &cu_seqlens_, &order_});
  evaluation_.run(team_);
  rounded_ = 1;
  return sums(evaluation_loss_, learnt.tokens);
}

void TrainStep::update(const op::StepScalars& step) {
  scalars_ = step;
  if (step.skip != 0) return;
  rounded_ = 0;
  std::memcpy((on_host() ? step_ : pinned_step_).raw(), &scalars_, sizeof scalars_);
  if (!on_host()) cuda::copy_later(step_.place(), pinned_step_.raw(), sizeof scalars_);
  if (stream_) {
    stream_->start(*lanes_);
    update_.start(team_, [&](size_t launches) { stream_->launched(*lanes_, launches); });
  } else if (replays()) {
    replayed_update_.run([&] { update_.start(team_); });
  } else {
    update_.start(team_);
  }
  if (!on_host()) cuda::synchronize();
}

// What the host would have to know or say in between is left out.
bool TrainStep::steps_whole(int64_t micro_batches) const {
  constexpr size_t kMostLaunches = 1 << 14;  // of a graph, and of what Ctrl-C waits for
  return static_cast<size_t>(micro_batches) * micro_.num_launches() <= kMostLaunches && replays() &&
         !stream_ && !router_.wanted() && !(options_.lora && options_.lora->dropout > 0);
}

TrainStep::Whole TrainStep::whole_step(const GlobalBatch& batch, const op::StepScalars& step) {
  FLAGSCALE_CHECK(steps_whole(batch.micro_batches) && step.skip == 0);
  const auto count = static_cast<size_t>(batch.micro_batches);
  while (slots_.size() < count)
    slots_.emplace_back(*shared_allocator_, MicroSlot::Tensors{tokens_, labels_, mask_, positions_,
                                                               cu_seqlens_, order_, micro_loss_});
  std::vector<MicroGraphs::Values> values;
  Whole result{};
  for (size_t m = 0; m < count; ++m) {
    const int64_t num_seqs = batch.fill(static_cast<int64_t>(m), slots_[m].inputs());
    const Learnt learnt = find_learnt(slots_[m].mask(), slots_[m].order());
    values.push_back(values_of(num_seqs, m == 0, batch.micro_batches, learnt, batch.batch_tokens));
    result.sums.tokens += learnt.tokens;
  }
  scalars_ = step;
  std::memcpy(pinned_step_.raw(), &scalars_, sizeof scalars_);
  whole_.run(values, [&] { launch_whole(values); });
  cuda::synchronize();
  for (size_t m = 0; m < count; ++m) result.sums.loss += slots_[m].loss();
  result.norm = *pinned_norm_.data<float>();
  rounded_ = 0;
  return result;
}

void TrainStep::launch_whole(const std::vector<MicroGraphs::Values>& values) {
  cuda::copy_later(step_.place(), pinned_step_.raw(), pinned_step_.bytes());
  for (size_t m = 0; m < values.size(); ++m) {
    slots_[m].send();
    take(values[m]);
    micro_.start(team_);
    slots_[m].fetch_loss();
  }
  squares_.start(team_);
  norm_.start(team_);
  update_.start(team_);
  cuda::copy_later(pinned_norm_.raw(), norm_value_.place(), pinned_norm_.bytes());
}

std::unordered_map<std::string, double> TrainStep::profile(int64_t num_seqs) {
  std::unordered_map<std::string, double> seconds;
  num_seqs_ = num_seqs;
  accumulate_ = 0;
  micro_.profile(team_, seconds);
  squares_.profile(team_, seconds);
  norm_.profile(team_, seconds);
  if (!stream_) {
    update_.profile(team_, seconds);
    return seconds;
  }
  const auto start = std::chrono::steady_clock::now();
  update(op::StepScalars(scalars_));
  seconds["update, offloaded"] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds;
}

}  // namespace flagscale::train
