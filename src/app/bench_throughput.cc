#include "app/bench_throughput.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/engine_options.h"
#include "app/model_argument.h"
#include "app/numbers.h"
#include "base/does_not_fit.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "engine/adapters.h"
#include "engine/throughput.h"

namespace flagscale {
namespace bench_throughput {
namespace {

using engine::Throughput;

struct Options {
  EngineOptions engine;
  engine::ThroughputOptions load;
  int64_t max_sequences = 0, max_tokens = 0;  // 0: as a server on this device
  bool no_progress = false;
};

double rate(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }
double share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }
double mean_of(int64_t sum, int64_t count) {
  return count > 0 ? static_cast<double>(sum) / static_cast<double>(count) : 0;
}
int64_t steps_of(const Throughput& t) { return t.prefill.count + t.decode.count; }
double idle_us(const Throughput& t) {
  return steps_of(t) > 0 ? 1e6 * t.idle_seconds / static_cast<double>(steps_of(t)) : 0;
}

// As vLLM's, and below it what the engine knows of its steps.
void print_text(const Options& o, const Throughput& t) {
  if (t.interrupted) fmt::print("so far, {} of {} requests:\n", t.finished, o.load.prompts);
  fmt::print("Throughput: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output tokens/s\n",
             rate(t.finished, t.seconds), rate(t.prompt_tokens + t.output_tokens, t.seconds),
             rate(t.output_tokens, t.seconds));
  fmt::print("Total num prompt tokens:  {}\nTotal num output tokens:  {}\n", t.prompt_tokens,
             t.output_tokens);
  const auto line = [](const char* what, const Throughput::Steps& s) {
    if (s.count == 0) return;
    fmt::print("  {:22} {} of {:.1f} tokens and {:.2f} ms on average, {:.1f} s in all: {:.1f} tokens/s\n",
               what, s.count, mean_of(s.tokens, s.count), 1e3 * s.seconds / static_cast<double>(s.count),
               s.seconds, rate(s.tokens, s.seconds));
  };
  line("steps with prompts", t.prefill);
  line("steps of decode alone", t.decode);
  fmt::print("  {:22} {:.2f} of {:.2f} s, {:.1f} %; planning {:.3f} s; it waits {:.1f} us a step\n",
             "in the model", t.model_seconds, t.seconds, share(t.model_seconds, t.seconds), t.plan_seconds,
             idle_us(t));
  if (t.launched_ahead > 0)
    fmt::print("  {:22} {:.1f} % of the steps\n", "launched ahead",
               share(static_cast<double>(t.launched_ahead), static_cast<double>(steps_of(t))));
  if (t.preemptions > 0)
    fmt::print("  {:22} {} times: the cache was full (--max-num-seqs, --gpu-memory-utilization)\n",
               "preempted", t.preemptions);
}

// The first five are vLLM's.
void print_json(const Options& o, const Throughput& t) {
  const auto steps = [](const Throughput::Steps& s) {
    return nlohmann::ordered_json{{"steps", s.count},
                                  {"tokens", s.tokens},
                                  {"seconds", s.seconds},
                                  {"tokens_per_s", rate(s.tokens, s.seconds)}};
  };
  const nlohmann::ordered_json json{{"elapsed_time", t.seconds},
                                    {"num_requests", t.finished},
                                    {"total_num_tokens", t.prompt_tokens + t.output_tokens},
                                    {"requests_per_second", rate(t.finished, t.seconds)},
                                    {"tokens_per_second", rate(t.prompt_tokens + t.output_tokens, t.seconds)},
                                    {"output_tokens_per_second", rate(t.output_tokens, t.seconds)},
                                    {"prompt_tokens", t.prompt_tokens},
                                    {"output_tokens", t.output_tokens},
                                    {"model", o.engine.model},
                                    {"max_num_seqs", o.max_sequences},
                                    {"max_num_batched_tokens", o.max_tokens},
                                    {"with_prompts", steps(t.prefill)},
                                    {"decode", steps(t.decode)},
                                    {"launched_ahead", t.launched_ahead},
                                    {"model_s", t.model_seconds},
                                    {"plan_s", t.plan_seconds},
                                    {"idle_us", idle_us(t)},
                                    {"preemptions", t.preemptions}};
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

// What a sequence may have, which no answer may be cut off by.
int64_t length_of(const Options& o, const model::DecoderConfig& model) {
  const int64_t length = o.load.input_tokens + o.load.output_tokens, given = o.engine.max_model_len;
  const auto refuse = [&](const std::string& why) {
    fail(ErrorKind::kInvalidArgument, "--input-len {} and --output-len {} are {} tokens, {}",
         o.load.input_tokens, o.load.output_tokens, length, why);
  };
  if (given > 0 && given < length) refuse(fmt::format("--max-model-len is {}", given));
  if (length > model.max_positions)
    refuse(
        fmt::format("the model has {} positions (max_position_embeddings): give fewer", model.max_positions));
  return given > 0 ? given : length;
}

std::unique_ptr<engine::Runner> runner_of(const Options& o, const engine::LoadedModel& model,
                                          const engine::RunnerOptions& options) {
  try {
    return std::make_unique<engine::Runner>(model.config, *model.weights, options);
  } catch (const DoesNotFit&) {
    rethrow_with(fmt::format("--max-num-seqs {}, --max-num-batched-tokens {}, sequences of {} tokens",
                             o.max_sequences, o.max_tokens, options.max_length));
  }
}

engine::Engine engine_of(Options& o, const engine::LoadedModel& model) {
  engine::RunnerOptions options = runner_options(o.engine);
  options.max_length = length_of(o, model.config);
  if (o.max_sequences == 0) o.max_sequences = usual_sequences(options.device);
  if (o.max_tokens == 0) o.max_tokens = usual_step_tokens(options.device);
  options.max_sequences = o.max_sequences;
  options.max_tokens = o.max_tokens = std::max(o.max_tokens, o.max_sequences);
  auto runner = runner_of(o, model, options);
  if (!o.engine.lora.empty()) {
    runner->adapters()->load(o.engine.lora, o.engine.lora);
    o.load.adapter = o.engine.lora;
  }
  engine::EngineOptions plain;
  plain.prefix_caching = false;
  return engine::Engine(std::move(runner), plain);
}

void measure(Options& o) {
  const engine::LoadedModel model = engine::load_model(model_path(o.engine.model), {}, o.engine.weight_cache);
  engine::Engine loaded = engine_of(o, model);
  throw_if_interrupted();
  std::optional<Progress> progress;
  if (!o.no_progress) progress.emplace("requests", o.load.prompts, "requests");
  const Throughput result = engine::measure_throughput(loaded, o.load, [&](const Throughput& t) {
    if (progress) {
      progress->note(fmt::format("{:.0f} output tokens/s", rate(t.output_tokens, t.seconds)));
      progress->set(t.finished);
    }
    return !interrupted();
  });
  if (progress && result.interrupted) Progress::clear_line();
  progress.reset();
  o.engine.json ? print_json(o, result) : print_text(o, result);
  if (result.interrupted) throw_if_interrupted();
}

void add_load_options(CLI::App& app, engine::ThroughputOptions& load) {
  app.add_option("--num-prompts", load.prompts, "requests")
      ->check(between(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--input-len", load.input_tokens, "tokens of a prompt, random ones")
      ->check(between(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--output-len", load.output_tokens, "tokens of an answer; nothing ends it earlier")
      ->check(between(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--max-concurrency", load.concurrency,
                 "requests under way at once, the next begins when one ends (default: all are given at once)")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  app.add_option("--temperature", load.temperature, "0: the likeliest token")
      ->check(between(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--seed", load.seed, "of prompts and drawing")->capture_default_str();
}

}  // namespace
}  // namespace bench_throughput

void add_bench_throughput(CLI::App& bench) {
  auto* app = bench.add_subcommand("throughput",
                                   "tokens/s of the engine under many requests, without a server (vLLM's)");
  const auto o = std::make_shared<bench_throughput::Options>();
  o->engine.compute = "fast";
  add_engine_options(*app, o->engine);
  for (const char* of_texts : {"--tokenizer", "--prompts", "--json"})
    app->remove_option(app->get_option(of_texts));
  bench_throughput::add_load_options(*app, o->load);
  app->add_option("--max-num-seqs", o->max_sequences, "sequences of a step (default: 256 on a GPU, else 32)")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  app->add_option("--max-num-batched-tokens", o->max_tokens,
                  "tokens of a step, at least --max-num-seqs (default: 2048 on a GPU, else 256)")
      ->check(between(int64_t{1}, int64_t{1} << 24));
  app->add_option("--lora", o->engine.lora, "folder of a PEFT adapter that every request uses");
  app->add_flag("--disable-tqdm", o->no_progress, "no progress");
  app->add_flag("--json", o->engine.json, "one JSON object");
  app->footer(
      "Examples:\n"
      "  flagscale bench throughput SmolLM2.gguf --num-prompts 64 --input-len 128 --output-len 32\n"
      "  flagscale bench throughput models/llama3-8b --quantization fp8 --kv-cache-dtype int8 --num-prompts "
      "1024 --input-len 1000 --output-len 1000 --max-concurrency 512 --max-num-seqs 512\n"
      "Ctrl-C ends the run and reports what was measured until then.");
  app->callback([o] { bench_throughput::measure(*o); });
}

}  // namespace flagscale
