#include "engine/adapters.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <span>
#include <utility>

#include "base/error.h"

namespace flagscale::engine {

namespace {

constexpr int64_t kLine = 16;  // numbers of 64 bytes, of fp32

void store(std::span<const float> values, DType type, std::byte* to) {
  if (type == DType::kF32)
    std::memcpy(to, values.data(), values.size_bytes());
  else
    std::ranges::transform(values, reinterpret_cast<BF16*>(to), to_bf16);
}

}  // namespace

// Names and slots. It lives as long as the last adapter.
struct Adapters::Table {
  std::mutex mutex;
  std::vector<std::shared_ptr<const Adapter>> loaded;
  std::vector<bool> taken;                       // slots
  std::vector<std::function<void()>> when_gone;  // of each slot
  std::vector<int32_t> ranks;                    // what Adapters::ranks_ and scales_ hold
  std::vector<float> scales;
  uint64_t next_id = 1;

  int32_t take() {
    const auto it = std::find(taken.begin(), taken.end(), false);
    if (it == taken.end()) return -1;
    *it = true;
    return static_cast<int32_t>(it - taken.begin());
  }
  void give_back(int32_t slot) {
    std::function<void()> gone;
    {
      const std::lock_guard lock(mutex);
      taken[static_cast<size_t>(slot)] = false;
      gone = std::exchange(when_gone[static_cast<size_t>(slot)], nullptr);
    }
    if (gone) gone();
  }
  auto named(const std::string& name) {
    return std::find_if(loaded.begin(), loaded.end(), [&](const auto& one) { return one->name == name; });
  }
};

Adapters::Adapters(Arena& arena, model::Decoder& decoder, int most, int64_t most_rank, DType type,
                   const Tensor& slots)
    : most_(most), most_rank_(most_rank), table_(std::make_shared<Table>()) {
  table_->taken.resize(static_cast<size_t>(most));
  table_->when_gone.resize(static_cast<size_t>(most));
  const auto give = [&](auto* linear) {
    loras_.push_back({slots, linear->lora_parts()});
    linear->adapt(&loras_.back());
  };
  for (nn::Linear* linear : decoder.linears()) give(linear);
  for (nn::ExpertLinear* linear : decoder.expert_linears()) give(linear);
  // Matrices begin at lines of memory in any type.
  const auto elements_of = [&](int64_t size, const nn::LoraPart& part) {
    return (most_rank * size * std::max<int64_t>(part.experts, 1) + kLine - 1) / kLine * kLine;
  };
  int64_t elements = 0, parts = 0;  // of a slot
  for (const nn::Lora& lora : loras_)
    for (const nn::LoraPart& part : lora.parts)
      elements += elements_of(part.in, part) + elements_of(part.rows, part), ++parts;
  weights_ = arena.persistent("lora.weights", {most, elements}, type);
  ranks_ = arena.persistent("lora.ranks", {parts, most}, DType::kI32);
  scales_ = arena.persistent("lora.scales", {parts, most}, DType::kF32);
  table_->ranks.resize(static_cast<size_t>(parts * most)), table_->scales.resize(table_->ranks.size());
  int64_t at = 0, index = 0;
  const auto next = [&](int64_t size, const nn::LoraPart& part) {
    return weights_.columns(std::exchange(at, at + elements_of(size, part)),
                            most_rank * size * std::max<int64_t>(part.experts, 1));
  };
  for (nn::Lora& lora : loras_)
    for (nn::LoraPart& part : lora.parts) {
      part.a = next(part.in, part);
      part.b = next(part.rows, part);
      part.ranks = ranks_.rows(index, 1).reshape({most});
      part.scales = scales_.rows(index, 1).reshape({most});
      for (int64_t e = 0; e < std::max<int64_t>(part.experts, 1); ++e)
        places_[part.module_of(e)] = {&part, e, index};
      ++index;
    }
}

// A loaded adapter's deleter holds the table that lists it.
Adapters::~Adapters() {
  std::vector<std::shared_ptr<const Adapter>> loaded;
  const std::lock_guard lock(table_->mutex);
  loaded.swap(table_->loaded);
}

std::shared_ptr<const Adapter> Adapters::load(const std::string& name, const std::string& folder) {
  const auto refuse_taken = [&] {
    if (table_->named(name) != table_->loaded.end())
      fail(ErrorKind::kInvalidArgument, "the LoRA adapter '{}' has already been loaded", name);
  };
  {
    const std::lock_guard lock(table_->mutex);
    refuse_taken();
  }
  const model::PeftAdapter files = model::open_peft(folder);
  check(files, folder);
  auto adapter = std::make_unique<Adapter>(Adapter{name, folder, -1, 0, files.max_rank()});
  {
    const std::lock_guard lock(table_->mutex);
    adapter->slot = table_->take();
    adapter->id = table_->next_id++;
  }
  if (adapter->slot < 0)
    fail(ErrorKind::kInvalidArgument,
         "all {} places for LoRA adapters are taken: unload one, or raise --max-loras", most_);
  const std::shared_ptr<const Adapter> held(adapter.release(), [table = table_](const Adapter* gone) {
    const int32_t slot = gone->slot;
    delete gone;
    table->give_back(slot);
  });
  fill(files, held->slot);
  const std::lock_guard lock(table_->mutex);
  refuse_taken();  // by another thread meanwhile
  table_->loaded.push_back(held);
  return held;
}

std::shared_ptr<const Adapter> Adapters::find(const std::string& name) const {
  const std::lock_guard lock(table_->mutex);
  const auto it = table_->named(name);
  return it == table_->loaded.end() ? nullptr : *it;
}

std::vector<std::shared_ptr<const Adapter>> Adapters::list() const {
  const std::lock_guard lock(table_->mutex);
  return table_->loaded;
}

void Adapters::unload(const std::string& name, std::function<void()> gone) {
  std::shared_ptr<const Adapter> last;  // let go outside the lock
  const std::lock_guard lock(table_->mutex);
  const auto it = table_->named(name);
  if (it == table_->loaded.end()) fail(ErrorKind::kNotFound, "no LoRA adapter '{}' is loaded", name);
  table_->when_gone[static_cast<size_t>((*it)->slot)] = std::move(gone);
  last = std::move(*it);
  table_->loaded.erase(it);
}

int Adapters::in_use() const {
  const std::lock_guard lock(table_->mutex);
  return static_cast<int>(std::count(table_->taken.begin(), table_->taken.end(), true));
}

Adapters::Place Adapters::find_place(const std::string& module) const {
  const auto it = places_.find(module);
  return it == places_.end() ? Place{} : it->second;
}

// Why the model has no such projection.
std::string Adapters::absence(const std::string& module) const {
  if (module.find(".experts.") != std::string::npos) return "this model has no such expert";
  const size_t layer = module.find('.', module.find("layers.") + std::string_view("layers.").size());
  std::string first;
  for (const auto& [name, place] : places_)
    if (place.part->experts > 0 && name.starts_with(module.substr(0, layer) + ".") &&
        (first.empty() || name < first))
      first = name;
  if (!first.empty()) return fmt::format("this model has experts there ({})", first);
  return "this model has no such projection: adapters add to q, k, v, o, gate, up and down projections";
}

void Adapters::check(const model::PeftAdapter& files, const std::string& folder) const {
  std::map<const nn::LoraPart*, const model::PeftTarget*> first;  // experts of one product are alike
  for (const model::PeftTarget& target : files.targets) {
    const nn::LoraPart* part = find_place(target.module).part;
    if (!part)
      fail(ErrorKind::kInvalidArgument, "{}: it adapts {}: {}", folder, target.module,
           absence(target.module));
    if (target.in != part->in || target.out != part->rows)
      fail(ErrorKind::kInvalidArgument, "{}: {} is [{}, {}], the model's is [{}, {}]", folder, target.module,
           target.out, target.in, part->rows, part->in);
    if (target.rank > most_rank_)
      fail(ErrorKind::kInvalidArgument, "{}: rank {} is above --max-lora-rank {}", folder, target.rank,
           most_rank_);
    const model::PeftTarget& other = *first.emplace(part, &target).first->second;
    if (other.rank != target.rank || other.scale != target.scale)
      fail(ErrorKind::kUnsupported,
           "{}: {} has rank {} and scale {}, {} has {} and {}: those of a layer's experts "
           "must be alike",
           folder, target.module, target.rank, target.scale, other.module, other.rank, other.scale);
  }
}

// What lies in a GPU's memory is put together here first: a copy there waits for the step that runs.
void Adapters::fill(const model::PeftAdapter& files, int32_t slot) const {
  const bool copied = weights_.device().kind != DeviceKind::kCpu;
  const size_t number = size_of(weights_.dtype()), bytes = static_cast<size_t>(weights_.dim(1)) * number;
  std::vector<std::byte> aside(copied ? bytes : 0);
  std::byte* const to = copied ? aside.data() : weights_.place() + static_cast<size_t>(slot) * bytes;
  const auto place_of = [&](const Tensor& matrices, int64_t first) {
    return to + (matrices.offset() - weights_.offset()) + static_cast<size_t>(first) * number;
  };
  std::vector<int32_t> ranks(static_cast<size_t>(ranks_.dim(0)));
  std::vector<float> scales(ranks.size()), values, columns;
  for (const model::PeftTarget& target : files.targets) {
    const auto [found, expert, index] = find_place(target.module);
    const nn::LoraPart& part = *found;
    int32_t& rank = ranks[static_cast<size_t>(index)];
    if (part.experts > 0 && rank == 0 && !copied)  // experts that the adapter has not
      for (const Tensor& all : {part.a, part.b})
        std::memset(place_of(all, 0), 0, static_cast<size_t>(all.dim(1)) * number);
    rank = static_cast<int32_t>(target.rank), scales[static_cast<size_t>(index)] = target.scale;
    values.resize(static_cast<size_t>(target.rank * part.in));
    files.weights->read_f32(target.a, 0, target.rank, values);
    store(values, weights_.dtype(), place_of(part.a, expert * most_rank_ * part.in));
    values.resize(static_cast<size_t>(target.out * target.rank)), columns.resize(values.size());
    files.weights->read_f32(target.b, 0, target.out, values);
    for (int64_t row = 0; row < target.out; ++row)
      for (int64_t j = 0; j < target.rank; ++j)
        columns[static_cast<size_t>(j * part.rows + row)] =
            values[static_cast<size_t>(row * target.rank + j)];
    store(columns, weights_.dtype(), place_of(part.b, expert * most_rank_ * part.rows));
  }
  if (copied) copy_from_host(aside.data(), weights_.rows(slot, 1));
  tell(slot, ranks, scales);
}

// Of a slot's parts. Other slots' numbers stay as they are while a step may read them.
void Adapters::tell(int32_t slot, const std::vector<int32_t>& ranks, const std::vector<float>& scales) const {
  const std::lock_guard lock(table_->mutex);
  for (size_t i = 0; i < ranks.size(); ++i) {
    const size_t at = i * static_cast<size_t>(most_) + static_cast<size_t>(slot);
    table_->ranks[at] = ranks[i], table_->scales[at] = scales[i];
    if (ranks_.device().kind == DeviceKind::kCpu)
      ranks_.data<int32_t>()[at] = ranks[i], scales_.data<float>()[at] = scales[i];
  }
  if (ranks_.device().kind == DeviceKind::kCpu) return;
  copy_from_host(table_->ranks.data(), ranks_);
  copy_from_host(table_->scales.data(), scales_);
}

}  // namespace flagscale::engine
