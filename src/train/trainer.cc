#include "train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/heartbeat.h"
#include "base/interrupt.h"
#include "base/interrupt_notice.h"
#include "base/log.h"
#include "base/progress.h"
#include "device/cuda/cuda.h"
#include "io/tokenizer_files.h"
#include "io/xxh64.h"
#include "kernel/cuda/cublas.h"
#include "train/evaluation.h"
#include "train/memory.h"
#include "train/ranks.h"
#include "train/run_log.h"
#include "train/saving.h"
#include "train/starting_weights.h"

namespace flagscale::train {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Whether [first, end) meets one of the half-open ranges.
bool meets(const std::vector<std::pair<int64_t, int64_t>>& ranges, int64_t first, int64_t end) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& r) { return first < r.second && r.first < end; });
}

}  // namespace

StepOptions step_options(const TrainOptions& o, int rank, int ranks) {
  StepOptions s;
  s.compute = o.compute;
  s.fp8 = o.fp8;
  s.micro_batch_size = o.micro_batch_size;
  s.micro_batches = o.global_batch_size / (o.micro_batch_size * ranks);
  s.sequence_length = o.seq_length;
  s.cu_seqlens_capacity = data::max_cu_seqlens(o.micro_batch_size, o.seq_length, o.mask);
  s.recompute = o.recompute;
  s.balance_loss = static_cast<float>(o.balance_loss);
  s.z_loss = static_cast<float>(o.z_loss);
  s.evaluation = o.eval_iters > 0;
  s.optimizer = o.optimizer;
  s.threads = o.threads;
  s.device = o.device;
  s.lora = o.lora;
  if (o.lora) s.frozen = o.frozen;
  if (o.lora && !o.init_from.empty()) s.base = io::open_weights(o.init_from);
  s.seed = static_cast<uint64_t>(o.seed);
  s.rank = rank, s.ranks = ranks;
  s.distributed_optimizer = o.distributed_optimizer;
  s.offload = o.offload;
  s.masked = o.data.sft || o.data.separated_loss_mask;
  return s;
}

struct Trainer::Run {
  TrainOptions options;
  Ranks ranks;
  int64_t iterations;
  std::unique_ptr<Allocator> allocator;
  std::unique_ptr<TrainStep> step;
  data::DatasetSplits data;
  std::string order;  // of the samples, as checkpoints tell it
  Progression at;
  std::unique_ptr<io::AsideFile> aside;  // what of a save other ranks have sent; outlives the writer
  std::unique_ptr<io::CheckpointWriter> writer;
  bool tokenizer_kept = false;  // beside its checkpoints, with the first
  std::optional<RunLog> log;
  TrainResult result;

  data::TokenCounts counts;  // of what was trained on

  op::RouterLossValues router{};  // of the last iteration

  Run(TrainOptions o, comm::ProcessGroup* group, const std::function<void()>& begin)
      : options(std::move(o)), ranks(group), iterations(0) {
    beat(Phase::kStart);
    validate(options, ranks.size());
    options.events.ranks = ranks.size();
    iterations = total_iterations(options);
    find_base(options);
    const bool gpu = options.device == DeviceKind::kCuda;
    if (gpu) cuda::cublas_library();
    const StepOptions wanted = step_options(options, ranks.rank(), ranks.size());
    require_weights(options.model, wanted, available_memory(options.device));
    step = std::make_unique<TrainStep>(options.model, wanted);
    const size_t main_memory = ranks.share_of_host(available_memory());
    const size_t available =
        gpu ? ranks.share_of(available_memory(options.device), cuda::identity()) : main_memory;
    require_memory(options.model, wanted, step->memory(), available, main_memory);
    log.emplace(options, *step, ranks.size(), ranks.first());
    info("plan: {}; {}", describe_parameters(*step), describe(step->memory()));
    const MemoryUse use = step->memory();
    if (const std::string host = describe_host(use, main_memory, saves() && ranks.first()); !host.empty())
      info("{}", host);
    if (begin) begin();
    const size_t planned = (options.device == DeviceKind::kCpu ? step->bytes() : 0) + use.offloaded +
                           use.staging + (saves() && use.copies_fit(main_memory) ? use.copies : 0),
                 free = available_memory();
    options.data.memory = free > planned ? free - planned : 0;
    data = data::build_datasets(options.data);
    if (!data[data::kTrain])
      fail(ErrorKind::kConfig, "the training split has no data; check data_path and split");
    if (options.eval_iters > 0 && !data[data::kValid]) {
      warn("eval_iters is {}, the validation split has no data: nothing is evaluated (as in Megatron-LM)",
           options.eval_iters);
      options.eval_iters = 0;
    }
    throw_if_interrupted();
    if (saves() && ranks.first())
      writer = std::make_unique<io::CheckpointWriter>(options.save,
                                                      io::SaveOptions{.keep_last = options.keep_last});
    if (writer) io::check_tokenizer(options.tokenizer, options.save);
    if (!data::learns_anything(*data[data::kTrain], options.mask))
      fail(ErrorKind::kConfig,
           "no token of the training split is learnt: all are masked. Where conversations are cut, "
           "seq_length {} may end before their answers; `flagscale data inspect` shows the mask",
           options.seq_length);
    if (ranks.first()) order = data_order(options, *data[data::kTrain]);
    allocator = make_allocator(options.device);
    step->allocate(*allocator);
    ranks.agree_on("what they train", [this] { return options_text(); });
    if (gpu) ranks.join_gpus(*step);
    beat(Phase::kLoad);
    if (options.lora) step->load(*step->options().base);
    std::unique_ptr<io::Checkpoint> checkpoint;
    if (ranks.first()) checkpoint = start_weights(options, order, *step, at);
    ranks.take_from_first(at, *step, checkpoint.get());
    began = at.iteration;
    log->open_events(*allocator);  // the last that may fail, since it leaves a file
  }

  bool saves() const { return !options.save.empty(); }

  // All that must be alike for the ranks to make the same updates.
  std::string options_text() const {
    io::Xxh64 hash;
    hash.update(std::as_bytes(std::span(options.config_text)));
    return fmt::format("configuration {:x}, {} samples, instruction set {}, {}", hash.digest(),
                       data[data::kTrain]->size(), name(isa_of(options.device)), name(options.compute));
  }

  // What of the next global batch is learnt, where the loss is divided by it.
  double tokens_of_batch(int64_t micro_batches) {
    if (!options.per_token_loss) return 0;
    const data::MicroBatch inputs = step->inputs();
    double tokens = 0;
    for (int64_t m = ranks.rank(); m < micro_batches; m += ranks.size()) {
      data::fill_micro_batch(*data[data::kTrain], at.consumed_samples + m * options.micro_batch_size,
                             options.mask, inputs);
      for (const float learnt : inputs.loss_mask) tokens += static_cast<double>(learnt);
    }
    ranks.sum({&tokens, 1});
    return std::max(tokens, 1.0);
  }

  // The gradients of the next global batch, and its mean loss. False when some rank was interrupted.
  bool accumulate(int64_t micro_batches, double& loss) {
    double loss_sum = 0, tokens = 0, balance = 0, z = 0;
    const data::MicroBatch inputs = step->inputs();
    const double batch_tokens = tokens_of_batch(micro_batches);
    for (int64_t m = ranks.rank(); m < micro_batches; m += ranks.size()) {
      const int64_t first = at.consumed_samples + m * options.micro_batch_size;
      const int64_t entries =
          data::fill_micro_batch(*data[data::kTrain], first, options.mask, inputs, &counts);
      // Once a batch: what the last micro-batch begins, all ranks end.
      const bool last = m + ranks.size() >= micro_batches;
      if ((last || interrupted()) && ranks.any(interrupted())) return false;
      const auto sums = step->micro_batch(entries - 1, m < ranks.size(), micro_batches, first, batch_tokens,
                                          last ? ranks.gpus() : nullptr);
      loss_sum += sums.loss, tokens += sums.tokens;
      balance += sums.router.balance / static_cast<double>(micro_batches);
      z += sums.router.z / static_cast<double>(micro_batches);
    }
    std::array values{loss_sum, tokens, balance, z};
    ranks.sum(values);
    ranks.sum_gradients(*step);
    loss = values[0] / std::max(values[1], 1.0);
    router = {values[2], values[3]};
    return true;
  }

  // Megatron's rule for auto_skip_spiky_loss: a jump of more than the threshold after warm-up.
  bool is_spike(double loss) const {
    if (!options.skip_spiky_loss || at.last_loss <= 0 || at.schedule_samples < options.lr.warmup_samples)
      return false;
    return std::isinf(loss) || (loss - at.last_loss) / at.last_loss >= options.spiky_loss_threshold;
  }

  op::StepScalars next_scalars() const {
    op::StepScalars scalars;
    const auto power = static_cast<double>(at.updates + 1);
    scalars.lr = static_cast<float>(learning_rate(options.lr, at.schedule_samples));
    scalars.weight_decay = static_cast<float>(weight_decay(options.weight_decay, at.schedule_samples));
    scalars.bias1 = static_cast<float>(1 - std::pow(options.optimizer.adam_beta1, power));
    scalars.bias2 = static_cast<float>(1 - std::pow(options.optimizer.adam_beta2, power));
    scalars.clip = static_cast<float>(options.clip_grad);
    scalars.update = at.updates + 1;
    return scalars;
  }

  // A save may still read the weights.
  void wait_for_save() {
    if (writer) {
      if (saved_iteration == at.iteration) beat(Phase::kSave, at.iteration);
      writer->wait();
    }
    aside.reset();
  }

  // The update, unless it must not be.
  RunLog::Outcome apply(double loss, float norm, int64_t samples) {
    op::StepScalars scalars = next_scalars();
    const bool finite = std::isfinite(norm) && std::isfinite(loss);
    scalars.skip = is_spike(loss) || !finite;
    wait_for_save();
    step->update(scalars);
    if (!scalars.skip) ranks.gather_weights(*step);
    return settle(loss, norm, samples);
  }

  // Where nothing but what a GPU sees decides whether the update is made.
  bool steps_whole(int64_t micro_batches) const {
    return step->steps_whole(micro_batches) && !options.skip_spiky_loss;
  }
  // Batch and update at once. False when interrupted, and nothing was done.
  bool whole_step(int64_t micro_batches, RunLog::Outcome& outcome) {
    const double batch_tokens = tokens_of_batch(micro_batches);
    if (interrupted()) return false;
    const auto fill = [&](int64_t m, const data::MicroBatch& inputs) {
      const int64_t first = at.consumed_samples + m * options.micro_batch_size;
      return data::fill_micro_batch(*data[data::kTrain], first, options.mask, inputs, &counts) - 1;
    };
    const auto done = step->whole_step({micro_batches, batch_tokens, fill}, next_scalars());
    wait_for_save();  // of the host's copies, which only the next save changes
    router = {};
    outcome = settle(done.sums.loss / std::max(done.sums.tokens, 1.0), done.norm,
                     micro_batches * options.micro_batch_size);
    return true;
  }

  // What an iteration is in the log and in what the next one knows.
  RunLog::Outcome settle(double loss, float norm, int64_t samples) {
    const bool finite = std::isfinite(norm) && std::isfinite(loss), spike = is_spike(loss);
    not_finite_in_a_row = finite ? 0 : not_finite_in_a_row + 1;
    if (spike || !finite) {
      ++at.skipped_iterations;
      const bool is_nan = !spike && !std::isfinite(loss);
      at.nan_iterations += is_nan;
      log->count_skipped(is_nan);
      RunLog::Outcome skipped;
      if (!spike) skipped.loss = loss;
      skipped.router = router;
      return skipped;
    }
    ++at.updates;
    at.schedule_samples += samples;
    at.last_loss = loss;
    result.lm_loss = loss;
    RunLog::Outcome outcome{loss, static_cast<double>(norm), {}, {}, router};
    log->count_update(outcome);
    if (options.log_num_zeros_in_grad) outcome.zeros = ranks.zero_gradients(*step);
    return outcome;
  }

  void evaluate_and_print(data::Split split, const std::string& prefix, int64_t before) {
    const auto start = Clock::now();
    const auto loss = evaluate(options, *data[split], ranks, *step, at.iteration, before, result.interrupted);
    log->pause(Clock::now() - start);
    if (!loss) return;
    log->validation(prefix, *loss);
    if (split != data::kValid) return;
    result.validation_loss = loss;
    log->validation_event(at, *loss);
  }

  // One bad batch is passed over; weights that give nothing else will not mend, and the checkpoints from
  // before must outlive them.
  void stop_if_diverged() {
    if (not_finite_in_a_row < kMostNanInARow) return;
    if (writer) writer->wait();
    fail(ErrorKind::kInvalidArgument,
         "the loss or the gradient was NaN or infinite in each of the last {} iterations, up to {}: the run "
         "has "
         "diverged{}. Go on with a lower lr, a longer warm-up or clip_grad, from a checkpoint before "
         "iteration {}",
         kMostNanInARow, at.iteration,
         saved_iteration < 0 ? std::string()
                             : fmt::format(" (the last checkpoint is of iteration {})", saved_iteration),
         at.iteration - kMostNanInARow + 1);
  }

  void save() {
    if (!saves()) return;
    ranks.agree_on("their weights, which should be the same", [this] { return step->weights_checksum(); });
    saved_iteration = at.iteration;
    beat(Phase::kSave, at.iteration);
    const auto start = Clock::now();
    if (writer) writer->wait();  // for what it has put aside
    auto slices = ranks.gather_snapshot(*step, !options.no_save_optim, options.save, aside);
    if (!writer) return;
    if (!std::exchange(tokenizer_kept, true)) io::keep_tokenizer(options.tokenizer, options.save);
    writer->start(training_state(options, *step, at, order), std::move(slices));
    if (!options.async_save) writer->wait();
    log->pause(Clock::now() - start);
  }
  int64_t began = 0, saved_iteration = -1;
  static constexpr int64_t kMostNanInARow = 10;
  int64_t not_finite_in_a_row = 0;

  // Such iterations have no line in the log, as FlagScale's have none: this names them.
  void say_drained() {
    if (drained_from == 0) return;
    info("the samples of iterations {} to {} are dropped, as skip_iters_range or skip_samples_range asks",
         drained_from, at.iteration);
    drained_from = 0;
  }
  int64_t drained_from = 0;  // 0: the last iteration was not drained

  // One iteration; false to stop before it is done.
  bool iterate() {
    const int64_t batch = global_batch_at(options, at.consumed_samples);
    const int64_t next = at.iteration + 1;
    if (meets(options.skip_iters, at.iteration, next) ||
        meets(options.skip_samples, at.consumed_samples, at.consumed_samples + batch)) {
      if (drained_from == 0) drained_from = next;
      at.skipped_samples += batch;
      at.consumed_samples += batch;
      at.iteration = next;
      return true;
    }
    say_drained();
    const auto start = Clock::now();
    const int64_t micro_batches = batch / options.micro_batch_size;
    RunLog::Outcome outcome;
    if (steps_whole(micro_batches)) {
      if (!whole_step(micro_batches, outcome)) return false;
    } else {
      double loss = 0;
      if (!accumulate(micro_batches, loss)) return false;
      const float norm = ranks.gradient_norm(*step);
      outcome = apply(loss, norm, batch);
    }
    at.consumed_samples += batch;
    at.iteration = next;
    if (options.log_params_norm && log->is_told(at.iteration))
      outcome.params_norm = ranks.parameters_norm(*step);
    log->iteration(at, iterations, batch, outcome, seconds_since(start));
    stop_if_diverged();
    return true;
  }

  // A step that is one graph is stopped by nothing.
  std::string stop_notice() const {
    return fmt::format(
        "stopping after this {}{} (Ctrl-C again ends at once{})",
        steps_whole(options.global_batch_size / options.micro_batch_size) ? "step" : "micro-batch",
        saves() ? "; then the last whole iteration is saved" : "",
        saves() ? ", with what was saved before" : "");
  }

  void loop() {
    std::optional<InterruptNotice> notice;
    if (ranks.first()) notice.emplace(stop_notice());
    std::optional<Progress> progress;
    if (ranks.first()) progress.emplace("train", iterations, "it").resume_at(at.iteration);
    beat(Phase::kFirstStep, at.iteration);
    while (at.iteration < iterations) {
      if (!iterate()) {
        result.interrupted = true;
        break;
      }
      if (progress && result.lm_loss) progress->note(fmt::format("loss {:.4f}", *result.lm_loss));
      if (progress) progress->set(at.iteration);
      if (options.eval_iters > 0 && at.iteration % options.eval_interval == 0)
        evaluate_and_print(data::kValid, fmt::format("iteration {}", at.iteration),
                           at.iteration / options.eval_interval - 1);
      const bool due = options.save_interval > 0 && at.iteration % options.save_interval == 0;
      if (due && not_finite_in_a_row == 0) save();  // else the weights are those of the last save or near it
      beat(Phase::kStep, at.iteration);             // after what was none
      if (options.exit_interval > 0 && at.iteration % options.exit_interval == 0) break;
    }
    if (progress) progress->finish();
  }

  void tell_tokens() {
    std::array values{static_cast<double>(counts.learnt), static_cast<double>(counts.masked),
                      static_cast<double>(counts.padding)};
    ranks.sum(values);
    counts = {static_cast<int64_t>(values[0]), static_cast<int64_t>(values[1]),
              static_cast<int64_t>(values[2])};
    result.tokens = counts;
    if (counts.masked + counts.padding == 0) return;
    info("trained on {} tokens; {} more were masked, {} positions were padding", counts.learnt, counts.masked,
         counts.padding);
    if (counts.learnt == 0)
      warn(
          "nothing was learnt: every token of the samples that were taken is masked; `flagscale data "
          "inspect` shows "
          "the mask");
  }

  // For a run whose GPU is lost.
  const char* way_on() const {
    return began > 0 || saved_iteration >= 0 ? "started again, the run goes on from its last checkpoint"
                                             : "the run has saved no checkpoint yet";
  }

  TrainResult run(std::FILE* out) {
    log->start(out);
    loop();
    say_drained();
    tell_tokens();
    if (not_finite_in_a_row > 0)
      warn(
          "the loss or the gradient was NaN or infinite in the last {} of {} iterations: no update was made "
          "there",
          not_finite_in_a_row, at.iteration);
    if (saved_iteration != at.iteration && at.iteration > 0) save();
    if (!result.interrupted && options.eval_iters > 0) {
      // As Megatron: once more where the loop has just done so, on samples of its own.
      evaluate_and_print(data::kValid, fmt::format("iteration {} on validation set", at.iteration),
                         at.iteration / options.eval_interval);
      if (data[data::kTest])
        evaluate_and_print(data::kTest, fmt::format("iteration {} on test set", at.iteration), 0);
    }
    beat(Phase::kSave, at.iteration);
    if (writer) writer->wait();
    if (writer && at.iteration > 0) result.checkpoint = options.save;
    result.iteration = at.iteration;
    result.consumed_samples = at.consumed_samples;
    ranks.leave_gpus();
    return result;
  }
};

Trainer::Trainer(TrainOptions options, comm::ProcessGroup* group, const std::function<void()>& begin)
    : group_(group) {
  tell_others([&] { run_ = std::make_unique<Run>(std::move(options), group, begin); });
}

// What stops this rank stops the others, with its words.
void Trainer::tell_others(const std::function<void()>& work) const {
  try {
    work();
  } catch (const std::exception& error) {
    if (group_) group_->abort(error.what());
    throw;
  }
}

Trainer::~Trainer() = default;
TrainResult Trainer::run(std::FILE* out) {
  TrainResult result;
  tell_others([&] {
    try {
      result = run_->run(out);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kDevice) throw;
      fail(ErrorKind::kDevice, "{}; {}", error.what(), run_->way_on());
    }
  });
  return result;
}
const TrainStep& Trainer::step() const { return *run_->step; }
const TrainOptions& Trainer::options() const { return run_->options; }

}  // namespace flagscale::train
