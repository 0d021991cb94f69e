#include "train/memory.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/does_not_fit.h"
#include "base/gib.h"
#include "device/cuda/cuda.h"

namespace flagscale::train {

namespace {

std::string count(int64_t n, int decimals) {
  return n >= 100'000 ? fmt::format("{:.{}f}M", static_cast<double>(n) * 1e-6, decimals)
                      : fmt::format("{:.1f}K", static_cast<double>(n) * 1e-3);
}

// What a changed step takes; nothing where it may not be changed so.
std::optional<MemoryUse> planned(const model::DecoderConfig& config, const StepOptions& changed) {
  try {
    return TrainStep(config, changed).memory();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInterrupted) throw;
    return {};
  }
}

// The plan with as much offloaded as `host` holds, in hundredths; nothing where that is not more than now.
std::optional<std::pair<StepOptions, MemoryUse>> offloaded_as_fits(const model::DecoderConfig& config,
                                                                   const StepOptions& options, size_t host) {
  StepOptions changed = options;
  changed.offload = 1;
  std::optional<MemoryUse> use = planned(config, changed);
  // The last of the whole weights goes beyond the share.
  for (const int beyond : {0, 2, 5, 10, 20}) {
    if (!use || use->offloaded <= host) break;
    const double all = static_cast<double>(use->offloaded) / changed.offload;
    changed.offload = std::max(0.0, std::floor(100 * static_cast<double>(host) / all) - beyond) / 100;
    if (changed.offload == 0) return {};
    use = planned(config, changed);
  }
  if (!use || use->offloaded > host || changed.offload == options.offload) return {};
  return std::pair{changed, *use};
}

std::string offload_keys(const PlanWords& words, double before, double share) {
  if (before == 0 && share == 1) return words.offload;
  return fmt::format("{}{:.2f}", before == 0 ? words.offload_some : words.offload_share, share);
}

const char* who_computes(const StepOptions& options) {
  return options.device == DeviceKind::kCuda ? "the GPU" : "this machine";
}

// "the GPU has 16.0 GiB free, of which 0.5 GiB are left to its driver, 63.1 GiB are other processes'"
std::string has_free(const StepOptions& options, size_t free) {
  const bool gpu = options.device == DeviceKind::kCuda;
  return fmt::format(
      "{} has {} free{}{}{}", who_computes(options), gib(free), options.ranks > 1 ? " for each rank" : "",
      gpu ? ", of which " + gib(cuda::kReserve) + " are left to its driver" : "",
      gpu && cuda::found().reason.empty() ? cuda::of_others(cuda::total_memory() - cuda::free_memory()) : "");
}

// The keys of those that change, a blank behind each.
std::string set_types(StepOptions& options, const StateTypes& types, const PlanWords& words) {
  std::string keys;
  for (const auto& [member, key] : {std::pair{&StateTypes::params, words.params_type},
                                    {&StateTypes::grads, words.grads_type},
                                    {&StateTypes::exp_avg, words.exp_avg_type},
                                    {&StateTypes::exp_avg_sq, words.exp_avg_sq_type}}) {
    if (options.optimizer.types.*member == types.*member) continue;
    options.optimizer.types.*member = types.*member;
    keys += fmt::format("{}{} ", key, types.*member == DType::kBF16 ? "bf16" : "fp32");
  }
  return keys;
}

// Makes a plan smaller; returns the keys that do, "" where it has been done or cannot be.
using Change = std::function<std::string(StepOptions&)>;

// The less a change costs, the earlier.
std::vector<Change> changes(const model::DecoderConfig& config, size_t host, const PlanWords& words) {
  return {
      [words](StepOptions& o) -> std::string {
        if (o.micro_batch_size == 1) return {};
        const int64_t before = std::exchange(o.micro_batch_size, 1);
        if (words.accumulates) o.micro_batches *= before;
        o.cu_seqlens_capacity = 0;
        return words.micro_batch;
      },
      [words](StepOptions& o) -> std::string {
        if (o.recompute.granularity != model::Recompute::kNone) return {};
        o.recompute = {model::Recompute::kFull, -1};
        return words.recompute;
      },
      [config, host, words](StepOptions& o) -> std::string {
        if (o.device == DeviceKind::kCpu || o.offload == 1) return {};
        const std::string widened = set_types(o, StateTypes{}, words);
        const auto offloaded = offloaded_as_fits(config, o, host);
        if (!offloaded) return {};
        const double before = std::exchange(o.offload, offloaded->first.offload);
        return widened + offload_keys(words, before, o.offload);
      },
      [words](StepOptions& o) -> std::string {
        if (o.optimizer.name != "adam" || o.lora || o.compute != DType::kBF16 || o.offload > 0) return {};
        if (o.device == DeviceKind::kCpu && o.optimizer.types == StateTypes{}) return {};
        StateTypes narrow{DType::kBF16, DType::kBF16, DType::kBF16, DType::kBF16};
        if (o.ranks > 1) narrow.grads = DType::kF32;  // which they add up
        std::string keys = set_types(o, narrow, words);
        if (!keys.empty()) keys.pop_back();
        return keys.empty() ? keys : words.typed_states + keys;
      },
      [words](StepOptions& o) -> std::string {
        if (o.optimizer.name != "adam" || o.optimizer.types != StateTypes{} || o.lora) return {};
        o.optimizer.name = "adamw8bit";
        return words.eight_bits;
      },
      [words](StepOptions& o) -> std::string {
        if (o.ranks == 1 || std::exchange(o.distributed_optimizer, true)) return {};
        return words.shares;
      },
      [words](StepOptions& o) -> std::string {
        if (o.sequence_length <= 512) return {};
        o.sequence_length /= 2;
        return fmt::format("{}{}", words.sequence, o.sequence_length);
      },
  };
}

struct Together {
  std::string keys;
  int count = 0;
  size_t total = 0;
};

// One change after the other but for `left_out`, until the plan fits.
Together take_all_but(const Change* left_out, const model::DecoderConfig& config, StepOptions options,
                      const std::vector<Change>& all, size_t total, size_t available) {
  Together taken{{}, 0, total};
  for (const Change& change : all) {
    if (taken.total <= available) break;
    if (&change == left_out) continue;
    StepOptions changed = options;
    const std::string keys = change(changed);
    if (keys.empty()) continue;
    const auto less = planned(config, changed);
    if (!less || less->total() >= taken.total) continue;
    options = changed;
    taken = {taken.keys + (taken.count ? " " : "") + keys, taken.count + 1, less->total()};
  }
  return taken;
}

// One may shut out another that saves more, as states in main memory do states in bf16.
Together take_together(const model::DecoderConfig& config, const StepOptions& options,
                       const std::vector<Change>& all, size_t total, size_t available) {
  Together taken = take_all_but(nullptr, config, options, all, total, available);
  for (const Change& change : all) {
    if (taken.total <= available) break;
    Together other = take_all_but(&change, config, options, all, total, available);
    if (other.total < taken.total) taken = std::move(other);
  }
  return taken;
}

// What would have fewer of the optimizer's states in main memory.
void require_host_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                         size_t available, size_t free, const PlanWords& words) {
  if (use.offloaded + use.staging <= free) return;
  if (use.offloaded == 0)
    throw DoesNotFit(fmt::format(
        "weights{} pass through main memory, {} at a time, which has {} free: end what else runs here",
        options.ranks > 2 ? " and the ranks' gradients" : "", gib(use.staging), gib(free)));
  const size_t host = free - std::min(free, use.staging);
  std::string text = fmt::format(
      "{} holds {} of what the optimizer keeps in main memory, which has {} free{}", words.offloading,
      gib(use.offloaded), gib(free),
      use.staging > 0 ? fmt::format(", {} of it for weights on their way", gib(use.staging)) : "");
  const auto less = offloaded_as_fits(config, options, host);
  const bool fits = less && less->first.offload < options.offload && less->second.total() <= available;
  if (less && less->first.offload < options.offload)
    text += fmt::format("\n  {}{:.2f} holds {} there and needs {}; {} has {} free", words.offload_share,
                        less->first.offload, gib(less->second.offloaded), gib(less->second.total()),
                        who_computes(options), gib(available));
  if (options.ranks > 1 && !options.distributed_optimizer) {
    StepOptions shared = options;
    shared.distributed_optimizer = true;
    text += fmt::format("\n  {} holds {} there for each rank", words.shares,
                        gib(TrainStep(config, shared).memory().offloaded));
  }
  if (!fits) {
    StepOptions without = options;
    without.offload = 0;
    const Together together = take_together(config, without, changes(config, host, words),
                                            TrainStep(config, without).memory().total(), available);
    if (together.total <= available)
      text += fmt::format("\n  {}{}: {} in all",
                          together.keys.find(words.offloading) == std::string::npos
                              ? std::string(words.no_offload) + " "
                              : "",
                          together.keys, gib(together.total));
  }
  throw DoesNotFit(text);
}

}  // namespace

std::string describe(const MemoryUse& use) {
  const std::string frozen = use.frozen > 0 ? fmt::format("frozen weights {}, ", gib(use.frozen)) : "";
  const std::string offloaded =
      use.offloaded > 0 ? fmt::format("; in main memory {} of what the optimizer keeps", gib(use.offloaded))
                        : "";
  const std::string graphs = use.graphs > 0 ? ", CUDA graphs " + gib(use.graphs) : "";
  return fmt::format("{}weights {}, gradients {}, optimizer {}, activations {}, inputs {}{}{}", frozen,
                     gib(use.weights), gib(use.gradients), gib(use.optimizer), gib(use.activations),
                     gib(use.inputs), graphs, offloaded);
}

std::string describe_host(const MemoryUse& use, size_t host, bool saves) {
  if (use.staging == 0) return {};
  const std::string taken = fmt::format(
      "main memory, which has {} free: {}weights on their way {}", gib(host),
      use.offloaded > 0 ? fmt::format("offloaded {}, ", gib(use.offloaded)) : "", gib(use.staging));
  if (!saves) return taken;
  if (use.copies_fit(host)) return fmt::format("{}, copies for a save {}", taken, gib(use.copies));
  return fmt::format("{}; no room for copies of the {} that a save writes, so the training waits for each",
                     taken, gib(use.copies));
}

std::string describe_parameters(TrainStep& step) {
  const std::string all = count(step.decoder().parameters().numel(), 1) + " parameters";
  if (!step.adapter()) return all;
  return fmt::format("{}, frozen, and {} of an adapter of rank {}", all, count(step.trained_parameters(), 2),
                     step.adapter()->spec().rank);
}

size_t usable(const StepOptions& options, size_t free) {
  return options.device == DeviceKind::kCuda ? free - std::min(free, cuda::kReserve) : free;
}

void require_weights(const model::DecoderConfig& config, const StepOptions& options, size_t free,
                     const PlanWords& words) {
  const size_t available = usable(options, free);
  constexpr double kGib = 1 << 30;
  const bool frozen = options.lora.has_value();
  const double tokens =
      static_cast<double>(options.micro_batch_size) * static_cast<double>(options.sequence_length);
  constexpr double kTokensQuicklyPlanned = 1 << 22;
  const double activation = tokens * static_cast<double>(config.hidden_size) * sizeof(BF16);
  if (tokens > kTokensQuicklyPlanned && activation > static_cast<double>(available))
    throw DoesNotFit(
        fmt::format("a micro-batch of {:.4g} tokens needs {:.1f} GiB for its hidden states alone, {}: set a "
                    "smaller {}",
                    tokens, activation / kGib, has_free(options, free), words.of_tokens));
  const StateTypes& types = options.optimizer.types;
  const auto bytes =
      static_cast<double>(frozen ? sizeof(BF16) : size_of(types.params) + size_of(types.grads));
  const double needed = model::parameter_count(config) * bytes;
  constexpr int kQuicklyPlanned = 4096;  // layers: a second or two
  if (config.num_layers <= kQuicklyPlanned || needed <= static_cast<double>(available)) return;
  throw DoesNotFit(
      fmt::format("training needs {:.1f} GiB for the weights{} of {:.4g} parameters alone, {}: "
                  "train a smaller model ({}) or use a machine with more memory",
                  needed / kGib, frozen ? "" : " and gradients", model::parameter_count(config),
                  has_free(options, free), words.of_model));
}

void require_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                    size_t free, size_t host, const PlanWords& words) {
  const size_t available = usable(options, free);
  if (use.total() <= available) return require_host_memory(config, options, use, available, host, words);
  std::string text =
      fmt::format("training needs {}, {} ({})", gib(use.total()), has_free(options, free), describe(use));
  const std::vector<Change> all = changes(config, host - std::min(host, use.staging), words);
  bool suffices = false;
  for (const Change& change : all) {
    StepOptions changed = options;
    const std::string keys = change(changed);
    if (keys.empty()) continue;
    const auto less = planned(config, changed);
    if (!less || less->total() >= use.total()) continue;
    text +=
        fmt::format("\n  {} saves {}: {} in all", keys, gib(use.total() - less->total()), gib(less->total()));
    suffices = suffices || less->total() <= available;
  }
  if (!suffices) {
    const Together together = take_together(config, options, all, use.total(), available);
    suffices = together.total <= available;
    if (together.count > 1)
      text += fmt::format("\n  {}: {}: {} in all",
                          suffices ? "together they suffice" : "even together they do not", together.keys,
                          gib(together.total));
  }
  const size_t fixed = use.total() - use.activations - use.inputs - use.graphs;
  if (!suffices && fixed > available)
    text += fmt::format(
        "\n  weights, gradients and optimizer alone need {}: train a smaller model ({}) or use a machine "
        "with "
        "more memory",
        gib(fixed), words.of_model);
  throw DoesNotFit(text);
}

}  // namespace flagscale::train
