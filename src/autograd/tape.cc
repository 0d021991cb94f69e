#include "autograd/tape.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace flagscale {

namespace {
constexpr int64_t kOverwrite = 0;
}

Tape::Region Tape::Value::region(const Tensor& tensor) const {
  const int64_t cols = base.shape()[-1];
  if (tensor.contiguous() && tensor.shape().numel() == base.shape().numel()) return {0, cols};
  const auto begin = static_cast<int64_t>((tensor.offset() - base.offset()) / size_of(base.dtype()));
  if (tensor.shape().rank() < 2 || begin + tensor.dim(-1) > cols ||
      tensor.shape().numel() / tensor.dim(-1) * cols != base.shape().numel())
    fail(ErrorKind::kUnsupported,
         "[autograd] the view {} of {} has no gradient: only columns() and reshape() have",
         tensor.shape().str(), base.shape().str());
  return {begin, begin + tensor.dim(-1)};
}

Tensor Tape::Value::part(const Tensor& tensor) const {
  if (gradient.dtype() != base.dtype()) return gradient;  // a weight's gradient is summed in fp32
  return tensor.moved_to(gradient.storage(), gradient.offset() - base.offset());
}

bool Tape::Value::has(Region wanted) const {
  return std::any_of(written.begin(), written.end(),
                     [&](Region r) { return r.begin < wanted.end && wanted.begin < r.end; });
}

Tape::Value* Tape::find(const Tensor& tensor) {
  const auto it = tensor.defined() ? values_.find(tensor.storage().get()) : values_.end();
  return it == values_.end() ? nullptr : &it->second;
}
const Tape::Value* Tape::find(const Tensor& tensor) const { return const_cast<Tape*>(this)->find(tensor); }

Tape::Leaf* Tape::leaf(const Tensor& tensor) const {
  if (!tensor.defined()) return nullptr;
  const auto it = leaves_->find({tensor.storage().get(), tensor.offset()});
  return it == leaves_->end() ? nullptr : &it->second;
}

void Tape::add_value(const Tensor& tensor) {
  if (!find(tensor)) values_[tensor.storage().get()].base = tensor;
}

void Tape::require(const Tensor& tensor) { add_value(tensor); }

void Tape::watch(const Tensor& parameter, const Tensor& grad, const int64_t* accumulate) {
  (*leaves_)[{parameter.storage().get(), parameter.offset()}] = {grad, accumulate, 0};
}

bool Tape::is_leaf(const Tensor& tensor) const { return leaf(tensor) != nullptr; }

bool Tape::needs(const Tensor& tensor) const {
  if (const Leaf* l = leaf(tensor)) return l->grad.defined();
  return find(tensor) != nullptr;
}

void Tape::record(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Closure closure) {
  if (std::none_of(inputs.begin(), inputs.end(), [&](const Tensor& t) { return needs(t); })) return;
  for (const Tensor& output : outputs) add_value(output);
  nodes_.push_back({outputs, std::move(closure)});
}

void Tape::record_addition(const std::vector<Tensor>& inputs, const Tensor& output, Closure closure) {
  const auto makes = [&](const Node& node) {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](const Tensor& t) { return t.storage() == output.storage(); });
  };
  const size_t before = nodes_.size();
  record(inputs, {output}, std::move(closure));
  const auto maker = std::find_if(nodes_.begin(), nodes_.begin() + static_cast<ptrdiff_t>(before), makes);
  if (nodes_.size() > before) std::rotate(maker, nodes_.end() - 1, nodes_.end());
}

void Tape::remakes(const Tensor& output) {
  if (Value* value = find(output)) value->remade = true;
}

void Tape::measures(const Tensor& output) {
  if (Value* value = find(output)) value->measured = true;
}

void Tape::seed(const Tensor& tensor, const Tensor& gradient) {
  Value* value = find(tensor);
  if (!value)
    fail(ErrorKind::kInvalidArgument, "[autograd] {} depends on nothing that wants a gradient",
         tensor.shape().str());
  value->gradient = gradient;
  value->written = {value->region(tensor)};
}

Tensor Tape::grad(const Tensor& tensor) const {
  const Value* value = find(tensor);
  return value && value->gradient.defined() ? value->part(tensor) : Tensor();
}

Tensor Tape::finished(Recorder& recorder, const Tensor& tensor) {
  Value* value = find(tensor);
  if (!value || !value->gradient.defined()) return {};
  if (!value->owned) return value->part(tensor);
  // Columns that nothing wrote are zero.
  const int64_t cols = value->base.shape()[-1];
  auto& written = value->written;
  std::sort(written.begin(), written.end(), [](Region a, Region b) { return a.begin < b.begin; });
  const Tensor whole = value->gradient.reshape({value->base.shape().numel() / cols, cols});
  int64_t next = 0;
  for (const Region r : written) {
    if (r.begin > next) zero_(recorder, whole.columns(next, r.begin - next));
    next = std::max(next, r.end);
  }
  if (next < cols) zero_(recorder, whole.columns(next, cols - next));
  written = {{0, cols}};
  return value->part(tensor);
}

void Tape::make_owned(Recorder& recorder, Value& value) {
  const Tensor own = recorder.empty(value.base.shape(), value.base.dtype(), value.base.live());
  if (value.gradient.defined()) {
    zero_(recorder, own);
    add_(recorder, value.gradient, own, own);
  }
  value.gradient = own;
  value.owned = true;
}

void Tape::backward(Recorder& recorder) {
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    std::vector<Tensor> grads;
    for (const Tensor& output : node->outputs) grads.push_back(finished(recorder, output));
    if (std::none_of(grads.begin(), grads.end(), [](const Tensor& g) { return g.defined(); })) continue;
    Backward context(recorder, *this, std::move(grads));
    node->closure(context);
  }
  nodes_.clear();
  for (const auto& [storage, value] : values_) FLAGSCALE_CHECK(value.waiting.empty());
}

Tensor Tape::checkpoint(Recorder& recorder, const Tensor& input, Function forward) {
  const Tensor output = forward(recorder, nullptr, input);
  add_value(output);
  nodes_.push_back({{output}, [this, input, forward = std::move(forward)](Backward& b) {
                      Tape inner(add_, zero_);
                      inner.leaves_ = leaves_;
                      inner.require(input);
                      const Tensor again = forward(b.recorder, &inner, input);
                      inner.seed(again, b.grad(0));
                      inner.backward(b.recorder);
                      if (needs(input)) b.give(input, inner.grad(input));
                    }});
  return output;
}

bool Backward::wants(const Tensor& input) const { return tape_.needs(input); }

Tensor Backward::buffer(const Tensor& input) {
  Tape::Value* value = tape_.find(input);
  FLAGSCALE_CHECK(value);  // ask wants() first; leaves have sink()
  const auto region = value->region(input);
  if (value->gradient.defined() && (!value->owned || value->has(region)))
    return recorder.empty(input.shape(), input.dtype(), input.live());
  if (!value->gradient.defined()) tape_.make_owned(recorder, *value);
  return value->part(input);
}

void Backward::give(const Tensor& input, const Tensor& gradient) {
  Tape::Value* value = tape_.find(input);
  if (!value) return;
  value->largest = {};
  const auto region = value->region(input);
  const bool whole = region.begin == 0 && region.end == value->base.shape()[-1];
  if (value->owned && gradient.storage() == value->gradient.storage()) {
    value->written.push_back(region);  // written in place
  } else if (!value->gradient.defined() && whole) {
    value->gradient = gradient.reshape(value->base.shape());
    value->written = {region};
  } else if (value->has(region)) {
    if (!value->owned && whole) {  // the sum is a new tensor: the first may be shared
      const Tensor sum = recorder.empty(value->base.shape(), value->base.dtype(), value->base.live());
      tape_.add_(recorder, value->gradient, gradient.reshape(value->base.shape()), sum);
      value->gradient = sum;
      value->owned = true;
    } else {
      if (!value->owned) tape_.make_owned(recorder, *value);
      tape_.add_(recorder, value->part(input), gradient, value->part(input));
    }
  } else {
    if (!value->owned) tape_.make_owned(recorder, *value);
    tape_.zero_(recorder, value->part(input));
    tape_.add_(recorder, value->part(input), gradient, value->part(input));
    value->written.push_back(region);
  }
}

Tensor Backward::sum(const Tensor& input) {
  Tape::Value* value = tape_.find(input);
  if (!value || !value->owned) return {};
  value->largest = {};
  const auto region = value->region(input);
  const bool all = std::any_of(value->written.begin(), value->written.end(), [&](Tape::Region r) {
    return r.begin <= region.begin && region.end <= r.end;
  });
  return all ? value->part(input) : Tensor();
}

bool Backward::is_measured(std::initializer_list<Tensor> inputs) const {
  const Tape::Value* value = tape_.find(*inputs.begin());
  if (!value || !value->measured || value->gradient.defined()) return false;
  int64_t columns = 0;
  for (const Tensor& input : inputs) {
    if (tape_.find(input) != value) return false;
    const auto region = value->region(input);
    columns += region.end - region.begin;
  }
  return columns == value->base.shape()[-1];
}

void Backward::give_largest(const Tensor& input, const Tensor& largest) {
  if (largest.defined()) tape_.find(input)->largest = largest;
}

Tensor Backward::largest(const Tensor& output) const {
  const Tape::Value* value = tape_.find(output);
  return value ? value->largest : Tensor();
}

void Backward::when_made_again(const Tensor& x, Use use) {
  Tape::Value* value = tape_.find(x);
  const bool whole = value && x.offset() == value->base.offset() && x.shape() == value->base.shape();
  if (!whole || !value->remade) return use(*this, x);
  value->waiting.push_back(std::move(use));
}

Tensor Backward::room_to_remake(const Tensor& x) {
  const Tape::Value* value = tape_.find(x);
  if (!value || value->waiting.empty()) return {};
  return recorder.empty(x.shape(), x.dtype(), x.live());
}

void Backward::remade(const Tensor& x, const Tensor& again) {
  if (!again.defined()) return;
  for (const Use& use : std::exchange(tape_.find(x)->waiting, {})) use(*this, again);
}

Backward::Sink Backward::sink(const Tensor& parameter) {
  if (Tape::Leaf* leaf = tape_.leaf(parameter)) {
    const bool first = leaf->writes++ == 0;
    return {leaf->grad, first ? leaf->accumulate : nullptr};
  }
  Tape::Value* value = tape_.find(parameter);
  if (!value) return {};
  const bool first = !value->gradient.defined();
  if (first) {
    const DType sums = parameter.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
    value->gradient = recorder.empty(value->base.shape(), sums);
    value->owned = true;
    value->written = {value->region(parameter)};
  }
  FLAGSCALE_CHECK(value->owned);  // weights get their gradients from sinks alone
  return {value->gradient, first ? &kOverwrite : nullptr};
}

}  // namespace flagscale
