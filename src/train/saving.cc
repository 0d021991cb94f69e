#include "train/saving.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "io/xxh64.h"
#include "kernel/isa.h"
#include "train/same_model.h"

namespace flagscale::train {

namespace {

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {static_cast<const std::byte*>(tensor.raw()), tensor.bytes()};
}

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; }

template <class To, class From, class Convert>
void convert(std::span<const std::byte> from, std::span<std::byte> to, Convert&& one) {
  const auto* const source = reinterpret_cast<const From*>(from.data());
  auto* const target = reinterpret_cast<To*>(to.data());
  for (size_t i = 0; i < to.size() / sizeof(To); ++i) target[i] = one(source[i]);
}

// What is kept of a weight means something else to another optimizer.
void require_same_optimizer(const io::Checkpoint& checkpoint, const TrainStep& step) {
  const auto it = checkpoint.state().extra.find("optimizer");
  const std::string saved = it == checkpoint.state().extra.end() ? "adam" : it->second;
  const std::string& wanted = step.options().optimizer.name;
  if (saved == wanted) return;
  fail(ErrorKind::kInvalidArgument,
       "{} was trained with optimizer: {}, and this run's is {}: set that, or no_load_optim: true to begin "
       "with "
       "nothing kept",
       checkpoint.folder(), saved, wanted);
}

int64_t integer(const io::TrainingState& state, const char* key) {
  const auto it = state.extra.find(key);
  return it == state.extra.end() ? 0 : std::stoll(it->second);
}

void warn_if_not_exact(const io::TrainingState& state, const TrainStep& step) {
  const std::string isa = name(isa_of(step.options().device));
  if (state.threads != step.team().size() || state.instruction_set != isa)
    warn(
        "the checkpoint was made with {} threads and {}, this run has {} and {}: it goes on correctly, not "
        "bit for bit",
        state.threads, state.instruction_set, step.team().size(), isa);
}

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

constexpr const char* kFirstSamples = "; first samples ";

std::string settings_of(const std::string& order) { return order.substr(0, order.find(kFirstSamples)); }

void warn_if_other_data(const io::TrainingState& state, const std::string& order) {
  const auto it = state.extra.find("data_order");
  if (it == state.extra.end() || it->second == order) return;
  const std::string saved = settings_of(it->second), now = settings_of(order);
  const std::string why = saved == now ? "the data have changed, or train_iters and train_samples now take "
                                         "another number of passes over them"
                                       : fmt::format("the data settings were {}; now: {}", saved, now);
  warn(
      "the samples come in another order than in the run that made the checkpoint: {}. Some may come again "
      "and others "
      "never",
      why);
}

}  // namespace

// The samples themselves tell what settings cannot: how many passes are laid out, and whether the files are
// the same.
std::string data_order(const TrainOptions& o, const data::SampleSource& samples) {
  constexpr int64_t kFirst = 16;
  io::Xxh64 hash;
  std::vector<int32_t> tokens(static_cast<size_t>(o.seq_length) + 1);
  for (int64_t i = 0; i < std::min(kFirst, samples.size()); ++i) {
    samples.sample(i, tokens);
    hash.update(std::as_bytes(std::span(tokens)));
  }
  return fmt::format("data_path {}; train_data_path {}; split {}; seq_length {}; seed {}{}{}{:016x}",
                     fmt::join(o.data.data_path, " "), fmt::join(o.data.split_data_path[data::kTrain], " "),
                     o.data.split, o.seq_length, o.data.seed,
                     !o.data.sft          ? ""
                     : o.data.sft_packing ? "; sft, packed"
                                          : "; sft",
                     kFirstSamples, hash.digest());
}

void SavedTensors::require(const std::string& name, DType dtype, const std::vector<int64_t>& shape) const {
  const io::TensorInfo* info = checkpoint_.find(name);
  if (!info)
    fail(ErrorKind::kCorrupt, "{} has no tensor {}: it is of another model, or was saved without it",
         checkpoint_.folder(), name);
  const bool converts = is_float(info->dtype) && is_float(dtype);
  if (info->shape != shape || (info->dtype != dtype && !converts))
    fail(ErrorKind::kInvalidArgument,
         "{}: {} is {} [{}], this model's is {} [{}]; check train.model against the configuration it "
         "was saved with",
         checkpoint_.folder(), name, flagscale::name(info->dtype), fmt::join(info->shape, ", "),
         flagscale::name(dtype), fmt::join(shape, ", "));
}

std::span<const std::byte> SavedTensors::bytes(const std::string& name, DType dtype,
                                               const std::vector<int64_t>& shape) {
  require(name, dtype, shape);
  const DType saved = checkpoint_.find(name)->dtype;
  size_t elements = 1;
  for (const int64_t dim : shape) elements *= static_cast<size_t>(dim);
  std::span<const std::byte> all = checkpoint_.mapped(name);
  if (all.empty()) {
    room_.resize(elements * size_of(saved));
    checkpoint_.read(name, room_);
    all = room_;
  }
  if (saved == dtype) return all;
  converted_.resize(elements * size_of(dtype));
  if (saved == DType::kBF16) {
    convert<float, BF16>(all, converted_, [](BF16 x) { return to_float(x); });
  } else {
    convert<BF16, float>(all, converted_, [](float x) { return to_bf16(x); });
    if (rounded_.empty()) rounded_ = name;
  }
  return converted_;
}

void SavedTensors::read(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                        std::span<std::byte> out) {
  require(name, dtype, shape);
  if (checkpoint_.find(name)->dtype == dtype) return checkpoint_.read(name, out);
  const std::span<const std::byte> all = bytes(name, dtype, shape);
  std::memcpy(out.data(), all.data(), all.size());
}

void SavedTensors::warn_if_rounded() const {
  if (rounded_.empty()) return;
  warn(
      "{} is in fp32 in the checkpoint and in bf16 in this run (main_params_dtype, exp_avg_dtype, "
      "exp_avg_sq_dtype), so it is rounded: the run goes on correctly, not bit for bit",
      rounded_);
}

void load_adapter(const model::PeftAdapter& files, const std::string& folder, TrainStep& step) {
  FLAGSCALE_CHECK(step.adapter());
  const LoraSpec& spec = step.adapter()->spec();
  std::map<std::string, const model::PeftTarget*> left;
  for (const model::PeftTarget& target : files.targets) left[target.module] = &target;
  std::set<std::string> loaded;
  for (const TrainStep::State& state : step.loading()) {
    std::vector<std::string> names{state.name};
    names.insert(names.end(), state.copies.begin(), state.copies.end());
    for (const std::string& name : names) {
      const bool is_a = name.ends_with(".lora_A.weight");
      const std::string module = name.substr(0, name.rfind(".lora_"));
      const auto it = left.find(module);
      if (it == left.end())
        fail(ErrorKind::kInvalidArgument, "{} has no {}, which lora_target_modules trains", folder, module);
      const model::PeftTarget& target = *it->second;
      const std::vector<int64_t> shape =
          is_a ? std::vector{target.rank, target.in} : std::vector{target.out, target.rank};
      if (shape != state.shape)
        fail(ErrorKind::kInvalidArgument, "{}: {} is [{}], lora_dim and the model make it [{}]", folder, name,
             fmt::join(shape, ", "), fmt::join(state.shape, ", "));
      const auto scale = static_cast<float>(spec.alpha / static_cast<double>(spec.rank));
      if (target.scale != scale)
        fail(ErrorKind::kInvalidArgument, "{}: {} is multiplied by {}, lora_alpha / lora_dim is {}", folder,
             module, target.scale, scale);
      const std::vector<float> values = files.weights->read_f32(is_a ? target.a : target.b);
      if (name != state.name && std::memcmp(values.data(), state.weight.raw(), state.weight.bytes()) != 0)
        fail(ErrorKind::kInvalidArgument,
             "{}: {} is not that of {}: a fused target has one A; name the projections in "
             "lora_target_modules (q_proj, k_proj, …)",
             folder, name, state.name);
      std::copy(values.begin(), values.end(), state.weight.data<float>());
      loaded.insert(module);
    }
    step.put(state, false);
  }
  for (const auto& [module, target] : left)
    if (!loaded.contains(module))
      fail(ErrorKind::kInvalidArgument, "{} has {}, which lora_target_modules leaves out", folder, module);
  if (!step.shares()) step.weights_changed();
}

std::vector<io::TensorSlice> snapshot(const TrainStep& step, bool optimizer, bool copied) {
  std::vector<io::TensorSlice> slices;
  const auto add = [&](const std::string& name, DType dtype, const std::vector<int64_t>& shape,
                       std::span<const std::byte> bytes) {
    slices.push_back(io::whole_tensor(name, dtype, shape, bytes));
    if (!copied) slices.back().read = step.mirrors().reader(bytes);
  };
  for (const auto& state : copied ? step.states() : step.uncopied()) {
    const DType dtype = state.weight.dtype();
    add(state.name, dtype, state.shape, bytes_of(state.weight));
    for (const std::string& copy : state.copies) add(copy, dtype, state.shape, bytes_of(state.weight));
    if (!optimizer) continue;
    for (const TrainStep::Kept& kept : state.kept)
      add(kept.role + ":" + state.name, kept.dtype, kept.shape, kept.bytes);
  }
  return slices;
}

io::TrainingState training_state(const TrainOptions& options, const TrainStep& step, const Progression& p,
                                 const std::string& order) {
  io::TrainingState state;
  state.iteration = p.iteration;
  state.consumed_samples = p.consumed_samples;
  state.threads = step.team().size();
  state.instruction_set = name(isa_of(step.options().device));
  state.config = options.config_text;
  state.extra = {{"config.json", model::write_config(options.model, "float32")},
                 {"tokenizer", absolute(options.tokenizer)},
                 {"seed", std::to_string(options.seed)},
                 {"optimizer", step.options().optimizer.name},
                 {"data_order", order},
                 {"updates", std::to_string(p.updates)},
                 {"schedule_samples", std::to_string(p.schedule_samples)},
                 {"skipped_samples", std::to_string(p.skipped_samples)},
                 {"skipped_iterations", std::to_string(p.skipped_iterations)},
                 {"nan_iterations", std::to_string(p.nan_iterations)},
                 {"last_loss", io::exact_text(p.last_loss)}};
  if (step.adapter()) state.extra[model::kPeftConfigKey] = step.adapter()->peft_config(options.init_from);
  return state;
}

Progression restore(const io::Checkpoint& checkpoint, const TrainOptions& options, TrainStep& step,
                    const std::string& order) {
  if (!step.adapter() && model::holds_adapter(checkpoint))
    fail(ErrorKind::kInvalidArgument,
         "{} holds a LoRA adapter, and this run trains the whole model: set peft_type: lora, or merge it "
         "first "
         "(flagscale checkpoint merge)",
         checkpoint.folder());
  if (step.adapter() && !model::holds_adapter(checkpoint))
    fail(ErrorKind::kInvalidArgument,
         "{} holds a whole model, and this run trains an adapter: set finetune: true to add it to those "
         "weights",
         checkpoint.folder());
  require_same_model(checkpoint, options.model);
  const bool kept = !options.finetune && !options.no_load_optim;
  if (kept) require_same_optimizer(checkpoint, step);
  SavedTensors saved_tensors(checkpoint);
  for (const auto& state : step.loading()) {
    saved_tensors.read(state.name, state.weight.dtype(), state.shape,
                       {static_cast<std::byte*>(state.weight.raw()), state.weight.bytes()});
    if (kept)
      for (const TrainStep::Kept& k : state.kept)
        saved_tensors.read(k.role + ":" + state.name, k.dtype, k.shape, k.bytes);
    step.put(state, kept);
  }
  if (!options.finetune) saved_tensors.warn_if_rounded();
  if (!step.shares()) step.weights_changed();
  if (options.finetune) return {};
  const io::TrainingState& saved = checkpoint.state();
  warn_if_not_exact(saved, step);
  warn_if_other_data(saved, order);
  Progression p;
  p.iteration = saved.iteration;
  p.consumed_samples = saved.consumed_samples;
  p.updates = kept ? integer(saved, "updates") : 0;
  p.schedule_samples = integer(saved, "schedule_samples");
  p.skipped_samples = integer(saved, "skipped_samples");
  p.skipped_iterations = integer(saved, "skipped_iterations");
  p.nan_iterations = integer(saved, "nan_iterations");
  if (const auto it = saved.extra.find("last_loss"); it != saved.extra.end())
    p.last_loss = io::parse_exact(it->second);
  return p;
}

}  // namespace flagscale::train
