#include "app/bench_decode.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/engine_options.h"
#include "app/model_argument.h"
#include "app/numbers.h"
#include "base/process_age.h"
#include "engine/adapters.h"
#include "engine/bench.h"
#include "model/peft.h"

namespace flagscale {
namespace {

struct DecodeBenchOptions {
  EngineOptions engine;
  engine::StepBenchOptions steps;
};

std::string what(const engine::StepRate& r, int64_t prompt) {
  return r.streams == 0 ? fmt::format("prefill {}", prompt)
                        : fmt::format("decode, {} stream{}", r.streams, r.streams == 1 ? "" : "s");
}

void print_text(const DecodeBenchOptions& o, const std::string& formats, double ready,
                const engine::StepBenchResult& r) {
  fmt::print("{}: {}, compute {}, cache {}, ready in {:.2f} s\n", o.engine.model, formats, o.engine.compute,
             o.engine.cache, ready);
  const auto line = [&](const engine::StepRate& rate) {
    fmt::print("  {:20} {:8.1f} tokens/s  {:6.1f} Gop/s  {:5.1f} GB/s, {:3.0f} % of reading alone{}\n",
               what(rate, o.steps.prompt), rate.tokens_per_s, rate.flops / rate.seconds * 1e-9,
               rate.bytes / rate.seconds * 1e-9, 100 * rate.bytes / rate.seconds / r.read_bandwidth,
               rate.idle ? fmt::format(", GPU idle {:.1f} us a step", *rate.idle * 1e6) : "");
  };
  if (r.prefill.seconds > 0) line(r.prefill);
  for (const engine::StepRate& rate : r.decode) line(rate);
  fmt::print(
      "  reading alone {:.1f} GB/s; weights {:.1f} MB, planned {:.1f} MB, resident at most {:.1f} MB\n",
      r.read_bandwidth * 1e-9, static_cast<double>(r.weight_bytes) * 1e-6,
      static_cast<double>(r.peak_bytes) * 1e-6, static_cast<double>(r.resident_bytes) * 1e-6);
}

void print_json(const DecodeBenchOptions& o, const std::string& formats, double ready,
                const engine::StepBenchResult& r) {
  nlohmann::ordered_json json{{"model", o.engine.model},
                              {"formats", formats},
                              {"compute", o.engine.compute},
                              {"cache", o.engine.cache},
                              {"ready_s", ready},
                              {"read_bytes_per_s", r.read_bandwidth},
                              {"weight_bytes", r.weight_bytes},
                              {"planned_bytes", r.peak_bytes},
                              {"resident_bytes", r.resident_bytes}};
  const auto rate = [](const engine::StepRate& x) {
    nlohmann::ordered_json out{
        {"tokens_per_s", x.tokens_per_s}, {"seconds", x.seconds}, {"flops", x.flops}, {"bytes", x.bytes}};
    if (x.idle) out["idle_us"] = *x.idle * 1e6;
    return out;
  };
  if (r.prefill.seconds > 0) json["prefill"] = rate(r.prefill);
  for (const engine::StepRate& x : r.decode) json["decode"][std::to_string(x.streams)] = rate(x);
  fmt::print("{}\n", json.dump());
}

void measure(DecodeBenchOptions& o) {
  const engine::LoadedModel model =
      engine::load_model(model_path(o.engine.model), o.engine.tokenizer, o.engine.weight_cache);
  const engine::RunnerOptions options = runner_options(o.engine);
  engine::Runner runner(model.config, *model.weights, engine::with_room(options, o.steps));
  std::shared_ptr<const engine::Adapter> adapter;
  if (!o.engine.lora.empty()) {
    adapter = runner.adapters()->load(o.engine.lora, o.engine.lora);
    o.steps.adapter = adapter->slot;
  }
  const double ready = process_age();
  o.engine.cache = name(*runner.options().cache);
  const auto result = engine::bench_steps(runner, o.steps);
  const std::string formats = engine::weight_formats(runner.decoder());
  o.engine.json ? print_json(o, formats, ready, result) : print_text(o, formats, ready, result);
}

}  // namespace

void add_bench_decode(CLI::App& bench) {
  auto* app = bench.add_subcommand(
      "decode", "tokens/s of a model's prefill and decode steps, with their share of the floor");
  const auto o = std::make_shared<DecodeBenchOptions>();
  o->engine.compute = "fast";
  add_engine_options(*app, o->engine);
  app->add_option("--prompt-tokens", o->steps.prompt, "of the prefill; 0: none")
      ->check(between(0, 1 << 20))
      ->capture_default_str();
  app->add_option("--depth", o->steps.depth, "tokens in the cache before decoding")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--steps", o->steps.steps, "decode steps of a measurement")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--repeats", o->steps.repeats, "measurements, of which the median counts")
      ->check(between(1, 1000))
      ->capture_default_str();
  app->add_option("--lora", o->engine.lora, "folder of a PEFT adapter that every token uses");
  app->add_option("--streams", o->steps.streams, "sequences decoded together")
      ->delimiter(',')
      ->check(between(1, 1024));
  app->footer("Examples:\n  flagscale bench decode SmolLM2.gguf --streams 1,8,32 --json");
  app->callback([o] { measure(*o); });
}

}  // namespace flagscale
