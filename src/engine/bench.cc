#include "engine/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <random>

#include "base/median.h"
#include "device/cuda/cuda.h"
#include "op/paged_attention/paged_attention.h"

namespace flagscale::engine {

namespace {

using Clock = std::chrono::steady_clock;

template <class Body>
double seconds(Body&& body) {
  const auto start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of a mixture's experts, of which a token reads a share.
struct ExpertUse {
  double bytes = 0, share = 1;
  explicit ExpertUse(Runner& runner) {
    for (const nn::Parameter& p : runner.decoder().parameters().parameters())
      if (p.groups > 1) {
        bytes += static_cast<double>(p.packed.defined()   ? p.packed.bytes()
                                     : p.narrow.defined() ? p.narrow.bytes()
                                                          : p.value.bytes());
        share = static_cast<double>(runner.config().moe.top_k) / static_cast<double>(p.groups);
      }
  }
  // What a step reads beside one token's, where each expert is as likely as another.
  double more_for(double tokens) const { return bytes * (1 - std::pow(1 - share, tokens) - share); }
};

class StepBench {
 public:
  StepBench(Runner& runner, const StepBenchOptions& options)
      : runner_(runner), options_(options), use_(weight_use(runner.decoder())), experts_(runner) {
    std::minstd_rand random(1);
    ids_.resize(static_cast<size_t>(std::max<int64_t>(options.prompt, 4096)));
    for (int32_t& id : ids_)
      id = static_cast<int32_t>(random() % static_cast<unsigned>(runner.config().vocab_size));
  }

  StepRate prefill() {
    const std::vector<int32_t> pages = pages_of(0, options_.prompt);
    std::vector<double> times;
    for (int i = 0; i <= options_.repeats; ++i) {
      const double time = seconds([&] { fill(pages, options_.prompt); });
      if (i > 0) times.push_back(time);  // the first touches memory for the first time
    }
    return rate(0, median(times), options_.prompt, static_cast<double>(options_.prompt) / 2);
  }

  StepRate decode(int streams) {
    const int64_t length = options_.depth + options_.steps + 1;
    std::vector<std::vector<int32_t>> pages;
    for (int s = 0; s < streams; ++s) pages.push_back(pages_of(s * pages_for(length), length));
    for (int s = 0; s < streams; ++s) fill(pages[static_cast<size_t>(s)], options_.depth);
    std::vector<double> times;
    run_steps(pages, 1);
    for (int i = 0; i < options_.repeats; ++i)
      times.push_back(seconds([&] { run_steps(pages, options_.steps); }) /
                      static_cast<double>(options_.steps));
    StepRate result =
        rate(streams, median(times), streams, static_cast<double>(2 * options_.depth + options_.steps) / 2);
    if (runner_.options().device == DeviceKind::kCuda) result.idle = idle(pages);
    return result;
  }

 private:
  // Seconds of a step in which the GPU does nothing of it. Steps are timed on it here alone.
  double idle(const std::vector<std::vector<int32_t>>& pages) {
    runner_.time_gpu(true);
    double busy = 0, time = 0;
    for (int i = 0; i < 3; ++i) {  // runs, records, and counts
      time = seconds([&] { busy = run_steps(pages, options_.steps); });
    }
    runner_.time_gpu(false);
    return (time - busy) / static_cast<double>(options_.steps);
  }

  static int64_t pages_for(int64_t length) { return (length + op::kPageTokens - 1) / op::kPageTokens; }
  static std::vector<int32_t> pages_of(int64_t first, int64_t length) {
    std::vector<int32_t> pages(static_cast<size_t>(pages_for(length)));
    for (size_t i = 0; i < pages.size(); ++i)
      pages[i] = static_cast<int32_t>(first + static_cast<int64_t>(i));
    return pages;
  }

  void fill(const std::vector<int32_t>& pages, int64_t length) {
    const int64_t most = runner_.options().max_tokens;
    for (int64_t first = 0; first < length; first += most) {
      StepChunk chunk;
      const int64_t count = std::min(most, length - first);
      chunk.ids = std::span(ids_).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      chunk.first = static_cast<int32_t>(first);
      chunk.pages = &pages;
      chunk.adapter = options_.adapter;
      if (first + count == length) chunk.first_row = count - 1, chunk.rows = 1;
      runner_.run({&chunk, 1});
    }
  }

  // As the engine runs them: each launched, where the runner launches steps, before the one before it has
  // ended. The seconds that a GPU took for them, where it is timed.
  double run_steps(const std::vector<std::vector<int32_t>>& pages, int64_t steps) {
    double busy = 0;
    const auto finish = [&](int turn) {
      runner_.finish(turn);
      busy += runner_.gpu_seconds(turn);
    };
    for (int64_t t = 0; t < steps; ++t) {
      place_step(pages, options_.depth + t);
      const auto turn = static_cast<int>(t % 2);
      if (!runner_.launches()) {
        runner_.run(chunks_);
        continue;
      }
      runner_.launch(chunks_, turn);
      if (t > 0) finish(1 - turn);
      if (t + 1 == steps) finish(turn);
    }
    return busy;
  }

  void place_step(const std::vector<std::vector<int32_t>>& pages, int64_t position) {
    chunks_.resize(pages.size());
    for (size_t s = 0; s < pages.size(); ++s) {
      chunks_[s].ids = std::span(ids_).subspan(s, 1);
      chunks_[s].first = static_cast<int32_t>(position);
      chunks_[s].pages = &pages[s];
      chunks_[s].adapter = options_.adapter;
      chunks_[s].rows = 1;
      if (runner_.draws()) chunks_[s].draws = {&kLikeliest, 1};
    }
  }

  // context: keys that a token sees, on average.
  StepRate rate(int64_t streams, double time, int64_t tokens, double context) const {
    const auto& c = runner_.config();
    const double head = static_cast<double>(c.vocab_size * c.hidden_size), n = static_cast<double>(tokens);
    const double rows = streams == 0 ? 1 : n, layers = c.num_layers;
    const double attention = 4.0 * c.num_heads * c.head_dim * context * layers;
    const double cache = 2.0 * c.num_kv_heads * c.head_dim * context * layers *
                         static_cast<double>(size_of(*runner_.options().cache));
    StepRate r;
    r.streams = streams, r.seconds = time, r.tokens_per_s = n / time;
    r.flops = 2 * (use_.matrix_elements * n + head * rows) + attention * n;
    r.bytes = static_cast<double>(use_.read_bytes) + experts_.more_for(n) + cache * (streams == 0 ? 1 : n);
    return r;
  }

  static constexpr op::Draw kLikeliest{};
  Runner& runner_;
  const StepBenchOptions& options_;
  WeightUse use_;
  ExpertUse experts_;
  std::vector<int32_t> ids_;
  std::vector<StepChunk> chunks_;
};

// Of a GPU's memory by copies within it, far larger than its caches.
double copy_bandwidth() {
  constexpr size_t kMost = size_t{1} << 30;
  constexpr int kTimes = 8;
  const size_t bytes = std::min(kMost, cuda::free_memory() / 4);
  const auto allocator = make_allocator(DeviceKind::kCuda);
  const auto from = allocator->allocate(bytes), to = allocator->allocate(bytes);
  cuda::copy(to.get(), from.get(), bytes);
  cuda::synchronize();
  const double time = seconds([&] {
    for (int i = 0; i < kTimes; ++i) cuda::copy(to.get(), from.get(), bytes);
    cuda::synchronize();
  });
  return 2.0 * kTimes * static_cast<double>(bytes) / time;
}

double bandwidth(Runner& runner, const WeightUse& use) {
  if (runner.options().device == DeviceKind::kCuda) return copy_bandwidth();
  return static_cast<double>(use.bytes) / seconds([&] { read_weights(runner.decoder(), runner.team()); });
}

}  // namespace

RunnerOptions with_room(RunnerOptions options, const StepBenchOptions& bench) {
  int most = 1;
  for (const int streams : bench.streams) most = std::max(most, streams);
  const int64_t length = bench.depth + bench.steps + 1;
  options.max_sequences = most;
  options.max_length = std::max(length, bench.prompt);
  const int64_t chunk = options.device == DeviceKind::kCuda ? 8192 : 512;
  options.max_tokens = std::max<int64_t>({std::min<int64_t>(bench.prompt, chunk), most, 16});
  options.pages = static_cast<int32_t>(std::max(most * ((length + 15) / 16), (options.max_length + 15) / 16));
  options.lower = "--streams, --depth or --prompt-tokens";
  return options;
}

StepBenchResult bench_steps(Runner& runner, const StepBenchOptions& options) {
  StepBench bench(runner, options);
  StepBenchResult result;
  const WeightUse use = weight_use(runner.decoder());
  if (options.prompt > 0) result.prefill = bench.prefill();
  for (const int streams : options.streams) result.decode.push_back(bench.decode(streams));
  for (int i = 0; i < 3; ++i) result.read_bandwidth = std::max(result.read_bandwidth, bandwidth(runner, use));
  result.weight_bytes = use.bytes;
  result.peak_bytes = runner.bytes();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  result.resident_bytes = static_cast<size_t>(usage.ru_maxrss) * 1024;
  return result;
}

}  // namespace flagscale::engine
