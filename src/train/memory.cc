#include "train/memory.h"

#include <cmath>
#include <optional>

#include "base/error.h"

namespace flagscale::train {

namespace {

std::string gib(size_t bytes) {
  const double value = static_cast<double>(bytes) / static_cast<double>(size_t{1} << 30);
  if (value >= 0.1) return fmt::format("{:.1f} GiB", value);
  return value * 1024 >= 0.1 ? fmt::format("{:.1f} MiB", value * 1024)
                             : fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
}

std::string count(int64_t n, int decimals) {
  return n >= 100'000 ? fmt::format("{:.{}f}M", static_cast<double>(n) * 1e-6, decimals)
                      : fmt::format("{:.1f}K", static_cast<double>(n) * 1e-3);
}

// What a change saves, measured by planning it; nothing where it saves nothing.
std::string saving(const model::DecoderConfig& config, const StepOptions& options, size_t total,
                   const std::string& change) {
  const size_t changed = TrainStep(config, options).memory().total();
  if (changed >= total) return {};
  return fmt::format("\n  {} saves {}: {} in all", change, gib(total - changed), gib(changed));
}

constexpr const char* kOffload = "++train.system.optimizer_cpu_offload=true";
constexpr const char* kFraction = "++train.system.optimizer_offload_fraction";
constexpr const char* kShares = "++train.system.use_distributed_optimizer=true";

// The plan with as much offloaded as `host` holds, in hundredths; nothing where that is not more than now.
std::optional<std::pair<StepOptions, MemoryUse>> offloaded_as_fits(const model::DecoderConfig& config,
                                                                   const StepOptions& options, size_t host) {
  StepOptions changed = options;
  changed.offload = 1;
  MemoryUse use = TrainStep(config, changed).memory();
  // The last of the whole weights goes beyond the share.
  for (const int beyond : {0, 2, 5, 10, 20}) {
    if (use.offloaded <= host) break;
    const double all = static_cast<double>(use.offloaded) / changed.offload;
    changed.offload = std::max(0.0, std::floor(100 * static_cast<double>(host) / all) - beyond) / 100;
    if (changed.offload == 0) return {};
    use = TrainStep(config, changed).memory();
  }
  if (use.offloaded > host || changed.offload == options.offload) return {};
  return std::pair{changed, use};
}

std::string offload_keys(double before, double share) {
  if (before == 0 && share == 1) return kOffload;
  return fmt::format("{}{}={:.2f}", before == 0 ? std::string(kOffload) + " " : "", kFraction, share);
}

// What would have fewer of the optimizer's states in main memory.
void require_host_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                         size_t host) {
  if (use.offloaded <= host) return;
  std::string text = fmt::format(
      "optimizer_cpu_offload holds {} of what the optimizer keeps in main memory, which has {} free",
      gib(use.offloaded), gib(host));
  const auto less = offloaded_as_fits(config, options, host);
  if (less && less->first.offload < options.offload)
    text += fmt::format("\n  {}={:.2f} holds {} there and needs {} of the {}'s memory", kFraction,
                        less->first.offload, gib(less->second.offloaded), gib(less->second.total()),
                        name(options.device));
  if (options.ranks > 1 && !options.distributed_optimizer) {
    StepOptions shared = options;
    shared.distributed_optimizer = true;
    text += fmt::format("\n  {} holds {} there for each rank", kShares,
                        gib(TrainStep(config, shared).memory().offloaded));
  }
  throw Error(ErrorKind::kResource, text);
}

}  // namespace

std::string describe(const MemoryUse& use) {
  const std::string frozen = use.frozen > 0 ? fmt::format("frozen weights {}, ", gib(use.frozen)) : "";
  const std::string offloaded =
      use.offloaded > 0 ? fmt::format("; in main memory {} of what the optimizer keeps", gib(use.offloaded))
                        : "";
  return fmt::format("{}weights {}, gradients {}, optimizer {}, activations {}, inputs {}{}", frozen,
                     gib(use.weights), gib(use.gradients), gib(use.optimizer), gib(use.activations),
                     gib(use.inputs), offloaded);
}

std::string describe_parameters(TrainStep& step) {
  const std::string all = count(step.decoder().parameters().numel(), 1) + " parameters";
  if (!step.adapter()) return all;
  return fmt::format("{}, frozen, and {} of an adapter of rank {}", all, count(step.trained_parameters(), 2),
                     step.adapter()->spec().rank);
}

void require_weights(const model::DecoderConfig& config, const StepOptions& options, size_t available) {
  constexpr double kGib = 1 << 30;
  const bool frozen = options.lora.has_value();
  const double tokens =
      static_cast<double>(options.micro_batch_size) * static_cast<double>(options.sequence_length);
  constexpr double kTokensQuicklyPlanned = 1 << 22;
  const double activation = tokens * static_cast<double>(config.hidden_size) * sizeof(BF16);
  if (tokens > kTokensQuicklyPlanned && activation > static_cast<double>(available))
    fail(ErrorKind::kResource,
         "a micro-batch of {:.4g} tokens needs {:.1f} GiB for its hidden states alone, this machine has {} "
         "free: set a smaller micro_batch_size or seq_length",
         tokens, activation / kGib, gib(available));
  const double bytes = frozen ? sizeof(BF16) : 2 * sizeof(float);
  const double needed = model::parameter_count(config) * bytes;
  constexpr int kQuicklyPlanned = 4096;  // layers: a second or two
  if (config.num_layers <= kQuicklyPlanned || needed <= static_cast<double>(available)) return;
  fail(ErrorKind::kResource,
       "training needs {:.1f} GiB for the weights{} of {:.4g} parameters alone, this "
       "machine has {} free: train a smaller model (num_layers, hidden_size) or use a machine with more "
       "memory",
       needed / kGib, frozen ? "" : " and gradients", model::parameter_count(config), gib(available));
}

void require_memory(const model::DecoderConfig& config, const StepOptions& options, const MemoryUse& use,
                    size_t available, size_t host) {
  if (use.total() <= available) return require_host_memory(config, options, use, host);
  std::string text = fmt::format("training needs {}, this machine has {} free ({})", gib(use.total()),
                                 gib(available), describe(use));
  if (options.micro_batch_size > 1) {
    StepOptions one = options;
    one.micro_batch_size = 1;
    one.cu_seqlens_capacity = 0;
    text += saving(config, one, use.total(), "++train.model.micro_batch_size=1");
  }
  if (options.recompute.granularity == model::Recompute::kNone) {
    StepOptions again = options;
    again.recompute = {model::Recompute::kFull, -1};
    text += saving(config, again, use.total(),
                   "++train.system.recompute_granularity=full ++train.system.recompute_method=uniform");
  }
  if (options.device != DeviceKind::kCpu && options.offload < 1)
    if (const auto offloaded = offloaded_as_fits(config, options, host))
      text += saving(config, offloaded->first, use.total(),
                     offload_keys(options.offload, offloaded->first.offload));
  OptimizerSpec smaller_state = options.optimizer;
  smaller_state.name = "adamw8bit";
  if (options.optimizer.name == "adam" && !options.lora &&
      make_optimizer(smaller_state)->runs_on(options.device)) {
    StepOptions smaller = options;
    smaller.optimizer = smaller_state;
    text += saving(config, smaller, use.total(), "++train.model.optimizer.optimizer=adamw8bit");
  }
  if (options.ranks > 1 && !options.distributed_optimizer) {
    StepOptions shared = options;
    shared.distributed_optimizer = true;
    text += saving(config, shared, use.total(), kShares);
  }
  if (options.sequence_length > 512) {
    StepOptions shorter = options;
    shorter.sequence_length = options.sequence_length / 2;
    text += saving(config, shorter, use.total(),
                   fmt::format("++train.model.seq_length={}", shorter.sequence_length));
  }
  const size_t fixed = use.total() - use.activations - use.inputs;
  if (fixed > available)
    text += fmt::format(
        "\n  weights, gradients and optimizer alone need {}: train a smaller model (num_layers, hidden_size) "
        "or use a machine with more memory",
        gib(fixed));
  throw Error(ErrorKind::kResource, text);
}

}  // namespace flagscale::train
