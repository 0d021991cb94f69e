#include "train/whole_step.h"

#include <utility>

namespace flagscale::train {

namespace {

Tensor beside(Allocator& pinned, const Tensor& tensor) {
  return tensor.defined() ? make_tensor(pinned, tensor.shape(), tensor.dtype()) : Tensor();
}

template <class T>
std::span<T> numbers(const Tensor& tensor) {
  return {tensor.data<T>(), static_cast<size_t>(tensor.shape().numel())};
}

}  // namespace

MicroSlot::MicroSlot(Allocator& pinned, Tensors device)
    : device_(std::move(device)), host_{beside(pinned, device_.tokens),     beside(pinned, device_.labels),
                                        beside(pinned, device_.mask),       beside(pinned, device_.positions),
                                        beside(pinned, device_.cu_seqlens), beside(pinned, device_.order),
                                        beside(pinned, device_.loss)} {}

data::MicroBatch MicroSlot::inputs() const {
  return {numbers<int32_t>(host_.tokens), numbers<int32_t>(host_.labels), numbers<float>(host_.mask),
          numbers<int32_t>(host_.positions), numbers<int32_t>(host_.cu_seqlens)};
}

double MicroSlot::loss() const {
  double total = 0;
  for (const float value : numbers<float>(host_.loss)) total += static_cast<double>(value);
  return total;
}

void MicroSlot::send() const {
  for (const auto member : {&Tensors::tokens, &Tensors::labels, &Tensors::mask, &Tensors::positions,
                            &Tensors::cu_seqlens, &Tensors::order}) {
    if (!(device_.*member).defined()) continue;
    cuda::copy_later((device_.*member).place(), (host_.*member).raw(), (host_.*member).bytes());
  }
}

void MicroSlot::fetch_loss() const {
  cuda::copy_later(host_.loss.raw(), device_.loss.place(), host_.loss.bytes());
}

void WholeStep::run(const std::vector<MicroGraphs::Values>& values, const std::function<void()>& launches) {
  const bool again = last_ == values;
  last_ = values;
  const bool anew = recorded_ != values;
  timed_ = false;
  if (anew && !again) return launches();
  if (!watch_) watch_ = std::make_unique<cuda::Stopwatch>();
  const auto between = [&] {
    watch_->start();
    launches();
    watch_->stop();
  };
  if (!graph_.launch(anew, between)) return launches();
  recorded_ = values;
  timed_ = true;
  ++replayed_;
}

}  // namespace flagscale::train
