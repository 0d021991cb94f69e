#include "train/bench.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/median.h"
#include "base/process_age.h"
#include "kernel/cuda/cublas.h"
#include "kernel/eager.h"
#include "op/matmul/matmul.h"
#include "train/memory.h"
#include "train/step.h"

namespace flagscale::train {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The most that was resident so far.
size_t peak_resident_bytes() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return static_cast<size_t>(use.ru_maxrss) * 1024;
}

// Processor time of all threads.
double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void fill_random(const data::MicroBatch& batch, int64_t sequences, int64_t vocab, double learnt,
                 unsigned seed) {
  std::mt19937 random(seed);
  const auto per_sequence = static_cast<int64_t>(batch.tokens.size()) / sequences;
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    batch.labels[i] = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    const int64_t position = static_cast<int64_t>(i) % per_sequence;
    const bool prompt = static_cast<double>(position) < (1 - learnt) * static_cast<double>(per_sequence);
    batch.loss_mask[i] = prompt ? 0.f : 1.f;
    batch.position_ids[i] = static_cast<int32_t>(position);
  }
  for (int64_t s = 0; s <= sequences; ++s)
    batch.cu_seqlens[static_cast<size_t>(s)] = static_cast<int32_t>(s * per_sequence);
}

// Numbers of some size for a base that no file gives; memory that nothing touched would not count as used.
void fill_row(const nn::Parameter& p, int64_t row, std::vector<float>& values) {
  uint32_t state = static_cast<uint32_t>(row) * 2654435761u + 1;
  values.resize(static_cast<size_t>(p.shape.numel() / p.shape[0]));
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = 0.03f * (static_cast<float>(state >> 8) * 0x1p-23f - 1);
  }
}

void fill_base(TrainStep& step) {
  const auto memory = make_cpu_allocator();
  for (const nn::Parameter& p : step.decoder().parameters().parameters()) {
    const bool packed = p.packed.defined();
    const Tensor value = packed ? Tensor() : make_tensor(*memory, p.shape, step.options().compute);
    std::vector<int64_t> firsts{0};  // row of each segment in its group
    for (const op::PackedSegment& s : p.packed.segments) firsts.push_back(firsts.back() + s.rows);
    step.team().for_each(p.shape[0], [&](int64_t row) {
      std::vector<float> values;
      fill_row(p, row, values);
      if (!packed) {
        const auto at = static_cast<size_t>(row) * values.size();
        for (size_t i = 0; i < values.size(); ++i)
          if (value.dtype() == DType::kBF16)
            value.data<BF16>()[at + i] = to_bf16(values[i]);
          else
            value.data<float>()[at + i] = values[i];
        return;
      }
      const int64_t of_group = firsts.back(), in_group = row % of_group;
      size_t s = 0;
      while (in_group >= firsts[s + 1]) ++s;
      const op::PackedSegment& to = p.packed.segments[s];
      const int64_t origin = row / of_group * op::panels_of(to.rows) * op::kPanel;
      op::pack_row(to.data, to.packing, origin + in_group - firsts[s], values);
    });
    if (!packed) step.take_frozen(p, value);
  }
}

// Options of `bench train`.
constexpr PlanWords kWords{.micro_batch = "--batch 1",
                           .accumulates = false,
                           .recompute = "--recompute",
                           .offloading = "--offload",
                           .offload = "--offload 1",
                           .offload_some = "--offload ",
                           .offload_share = "--offload ",
                           .no_offload = "--offload 0",
                           .eight_bits = "--optimizer adamw8bit",
                           .typed_states = "",
                           .params_type = "--main-params-dtype ",
                           .grads_type = "--main-grads-dtype ",
                           .exp_avg_type = "--exp-avg-dtype ",
                           .exp_avg_sq_type = "--exp-avg-sq-dtype ",
                           .shares = "",  // of one rank there are none
                           .sequence = "--seq ",
                           .of_tokens = "--batch or --seq",
                           .of_model = "--shape"};

}  // namespace

model::DecoderConfig named_shape(const std::string& name) {
  struct Named {
    int layers;
    int64_t hidden;
    int heads, kv_heads;
    int64_t ffn, vocab;
    int experts = 0, top_k = 0;
    bool tied = true;
    int head_dim = 0;                // 0: hidden / heads
    const char* family = "mixtral";  // of a mixture
  };
  static const std::map<std::string, Named> kShapes{
      {"15m", {6, 288, 6, 6, 768, 32000}},
      {"8x15m", {6, 288, 6, 6, 768, 32000, 8, 2}},
      {"20m", {6, 288, 6, 6, 1536, 32000}},  // as wide as 2 of 8
      {"124m", {12, 768, 12, 12, 2048, 50304}},
      {"135m", {30, 576, 9, 3, 1536, 49152}},
      {"1b", {16, 2048, 32, 8, 8192, 128256}},
      {"8b", {32, 4096, 32, 8, 14336, 128256, 0, 0, false}},
      {"30b-a3b-8l", {8, 2048, 32, 4, 768, 151936, 128, 8, false, 128, "qwen3_moe"}}};
  const auto it = kShapes.find(name);
  if (it == kShapes.end())
    fail(ErrorKind::kInvalidArgument,
         "--shape {} is not known; known: 15m, 8x15m (8 experts, 2 a token), 20m (as many active weights), "
         "124m, 135m (SmolLM2), 1b, 8b (LLaMA 3's), 30b-a3b-8l (8 layers of Qwen3-30B-A3B)",
         name);
  const Named& n = it->second;
  model::DecoderConfig c;
  c.num_layers = n.layers, c.hidden_size = n.hidden, c.num_heads = n.heads, c.num_kv_heads = n.kv_heads;
  c.intermediate_size = n.ffn, c.vocab_size = n.vocab, c.tie_embeddings = n.tied;
  if (n.experts > 0)
    c.model_type = n.family, c.moe.experts = n.experts, c.moe.top_k = n.top_k, c.moe.size = n.ffn;
  c.qk_norm = c.model_type == "qwen3_moe";
  c.head_dim = n.head_dim > 0 ? n.head_dim : static_cast<int>(n.hidden / n.heads);
  c.rope.head_dim = c.head_dim;
  return c;
}

double product_ceiling(DType dtype, DeviceKind device, int threads) {
  const Team team(threads);
  const auto allocator = make_allocator(device);
  EagerRecorder recorder(*allocator, team, isa_of(device));
  const int64_t n = device == DeviceKind::kCuda ? 8192 : 2048;
  const Tensor a = make_tensor(*allocator, {n, n}, dtype), b = make_tensor(*allocator, {n, n}, dtype);
  const Tensor c = make_tensor(*allocator, {n, n}, DType::kF32);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    op::launch_matmul(recorder, {a, b, c, {}, false, true, nullptr, {}});
    best = std::max(best, 2.0 * static_cast<double>(n * n * n) / seconds_since(start) * 1e-9);
  }
  return best;
}

BenchResult bench_train(const BenchOptions& o) {
  model::DecoderConfig config = named_shape(o.shape);
  config.max_positions = o.sequence_length;
  BenchResult result;
  StepOptions options;
  options.compute = o.dtype;
  options.fp8 = o.fp8;
  options.micro_batch_size = o.batch;
  options.sequence_length = o.sequence_length;
  options.evaluation = false;
  options.threads = o.threads;
  options.device = o.device;
  options.graphs = o.graphs;
  options.optimizer.name = o.optimizer;
  options.optimizer.types = o.types;
  if (o.lora_rank > 0)
    options.lora = LoraSpec{{"all-linear"}, o.lora_rank, 2.0 * static_cast<double>(o.lora_rank), 0, false,
                            "kaiming",      "zero"};
  options.frozen = o.frozen;
  options.offload = o.offload;
  options.masked = o.learnt < 1;
  if (o.offload > 0 && o.device == DeviceKind::kCpu)
    fail(ErrorKind::kInvalidArgument, "--offload concerns GPUs: on the CPU all is in main memory");
  if (o.recompute) options.recompute = {model::Recompute::kFull, -1};
  if (o.device == DeviceKind::kCuda) cuda::cublas_library();
  require_weights(config, options, available_memory(o.device), kWords);
  TrainStep step(config, options);
  require_memory(config, options, step.memory(), available_memory(o.device), available_memory(), kWords);
  const auto allocator = make_allocator(o.device);
  step.allocate(*allocator);
  step.initialise(1234);
  if (options.lora) fill_base(step);
  fill_random(step.inputs(), o.batch, config.vocab_size, o.learnt, 1);
  result.first_step_start_s = process_age();

  std::vector<double> times, processor_times, idle;
  op::StepScalars scalars{1e-4f, 0.01f, 1, 1, 1, 0};
  float power1 = 1, power2 = 1;
  for (int i = 0; i < o.steps + 2; ++i) {
    throw_if_interrupted();
    const auto start = std::chrono::steady_clock::now();
    const double processor_start = processor_seconds();
    scalars.bias1 = 1 - (power1 *= 0.9f);
    scalars.bias2 = 1 - (power2 *= 0.999f);
    scalars.update = i + 1;
    TrainStep::Sums sums;
    if (step.steps_whole(1)) {
      const auto fill = [&](int64_t, const data::MicroBatch& inputs) {
        if (i == 0) fill_random(inputs, o.batch, config.vocab_size, o.learnt, 1);
        return o.batch;
      };
      sums = step.whole_step({1, 0, fill}, scalars).sums;
    } else {
      sums = step.micro_batch(o.batch, true, 1);
      step.gradient_norm();
      step.update(scalars);
    }
    result.loss = sums.loss / sums.tokens;
    if (i == 0) result.first_step_s = seconds_since(start);
    if (i < 2) continue;
    times.push_back(seconds_since(start));
    processor_times.push_back(processor_seconds() - processor_start);
    if (const double gpu = step.gpu_seconds()) idle.push_back(times.back() - gpu);
  }
  result.step_s = median(times);
  result.step_processor_s = median(processor_times);
  if (!idle.empty()) result.idle_s = median(idle);
  const auto tokens = static_cast<double>(o.batch * o.sequence_length);
  result.tokens_per_s = tokens / result.step_s;
  result.gflops = step.decoder().train_flops_per_token(o.sequence_length) * result.tokens_per_s * 1e-9;
  result.planned_bytes = step.bytes();
  result.peak_bytes = allocator->peak();
  result.offloaded_bytes = step.pinned_peak();
  result.resident_bytes = peak_resident_bytes();
  if (o.profile) {
    for (const auto& [name, seconds] : step.profile(o.batch))
      result.profile.emplace_back(name, seconds / result.step_s);
    std::sort(result.profile.begin(), result.profile.end(),
              [](auto& a, auto& b) { return a.second > b.second; });
  }
  result.ceiling = product_ceiling(o.dtype, o.device, o.threads);
  return result;
}

}  // namespace flagscale::train
