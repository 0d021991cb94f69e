#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/bench_decode.h"
#include "app/bench_rows.h"
#include "app/bench_serve.h"
#include "app/bench_throughput.h"
#include "app/command.h"
#include "app/numbers.h"
#include "train/bench.h"
#include "train/optimizer/optimizer.h"
#include "train/optimizer/state_types.h"

namespace flagscale::bench_command {
namespace {

// "bfloat16", or with what products are rounded to: "fp8 hybrid blockwise".
std::string precision(const train::BenchOptions& o) {
  if (!o.fp8) return std::string(name(o.dtype));
  const auto& [recipe, gradients] = o.fp8->training;
  return fmt::format("fp8 {} {}", gradients == Fp8::kE5M2 ? "hybrid" : "e4m3", op::name(recipe));
}

void print_text(const train::BenchOptions& o, const train::BenchResult& r) {
  fmt::print("{} B{} T{} {}: {:.0f} tokens/s\n", o.shape, o.batch, o.sequence_length, precision(o),
             r.tokens_per_s);
  fmt::print("  arithmetic           {:.1f} GFLOP/s, {:.0f} % of a large product's {:.1f}{}\n", r.gflops,
             100 * r.gflops / r.ceiling, r.ceiling, o.fp8 ? " in bf16" : "");
  fmt::print("  memory               {:.1f} MB planned, {:.1f} MB handed out, {:.1f} MB resident\n",
             static_cast<double>(r.planned_bytes) * 1e-6, static_cast<double>(r.peak_bytes) * 1e-6,
             static_cast<double>(r.resident_bytes) * 1e-6);
  if (r.offloaded_bytes > 0)
    fmt::print("  main memory          {:.1f} MB of the optimizer's, pinned\n",
               static_cast<double>(r.offloaded_bytes) * 1e-6);
  fmt::print("  start to step 1      {:.2f} s; step 1 takes {:.2f} times a later step ({:.0f} ms)\n",
             r.first_step_start_s, r.first_step_s / r.step_s, r.step_s * 1e3);
  if (r.idle_s > 0) fmt::print("  GPU idle             {:.0f} us a step\n", r.idle_s * 1e6);
  for (const auto& [op, share] : r.profile) fmt::print("    {:24} {:5.1f} %\n", op, 100 * share);
}

void print_json(const train::BenchOptions& o, const train::BenchResult& r) {
  nlohmann::ordered_json json{{"shape", o.shape},
                              {"batch", o.batch},
                              {"seq", o.sequence_length},
                              {"dtype", precision(o)},
                              {"optimizer", o.optimizer},
                              {"main_params_dtype", name(o.types.params)},
                              {"main_grads_dtype", name(o.types.grads)},
                              {"exp_avg_dtype", name(o.types.exp_avg)},
                              {"exp_avg_sq_dtype", name(o.types.exp_avg_sq)},
                              {"tokens_per_s", r.tokens_per_s},
                              {"gflops", r.gflops},
                              {"ceiling_gflops", r.ceiling},
                              {"first_step_start_s", r.first_step_start_s},
                              {"first_step_s", r.first_step_s},
                              {"step_s", r.step_s},
                              {"step_processor_s", r.step_processor_s},
                              {"gpu_idle_s", r.idle_s},
                              {"planned_bytes", r.planned_bytes},
                              {"peak_bytes", r.peak_bytes},
                              {"offloaded_bytes", r.offloaded_bytes},
                              {"resident_bytes", r.resident_bytes},
                              {"loss", r.loss}};
  for (const auto& [op, share] : r.profile) json["profile"][op] = share;
  fmt::print("{}\n", json.dump());
}

void setup(CLI::App& app) {
  app.require_subcommand(1);
  app.footer(
      "Examples:\n  flagscale bench train --shape 15m\n  flagscale bench decode SmolLM2.gguf --streams 1,8");
  add_bench_decode(app);
  add_bench_serve(app);
  add_bench_throughput(app);
  add_bench_rows(app);
  auto* train = app.add_subcommand(
      "train", "tokens/s of a training step on random tokens, with its share of the ceiling");
  auto options = std::make_shared<train::BenchOptions>();
  auto dtype = std::make_shared<std::string>("fp32");
  auto device = std::make_shared<std::string>("auto");
  auto load_in = std::make_shared<std::string>();
  auto fp8 = std::make_shared<std::string>();
  auto recipe = std::make_shared<std::string>("tensorwise");
  auto json = std::make_shared<bool>(false);
  train
      ->add_option("--shape", options->shape,
                   "15m, 8x15m (8 experts), 20m, 124m, 135m (SmolLM2's), 1b, 8b or 30b-a3b-8l (8 layers of "
                   "Qwen3-30B-A3B)")
      ->capture_default_str();
  train->add_option("--batch", options->batch, "sequences a step")
      ->capture_default_str()
      ->check(between(1, 1 << 20));
  train->add_option("--seq", options->sequence_length, "tokens a sequence")
      ->capture_default_str()
      ->check(between(1, 1 << 20));
  train->add_option("--dtype", *dtype, "fp32 or bf16")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "bf16"}));
  auto* products = train
                       ->add_option("--fp8", *fp8,
                                    "with --dtype bf16, products of the layers in fp8: e4m3, or hybrid with "
                                    "gradients in e5m2")
                       ->check(CLI::IsMember({"e4m3", "hybrid"}));
  train->add_option("--fp8-recipe", *recipe, "scales of fp8: tensorwise or blockwise")
      ->capture_default_str()
      ->check(CLI::IsMember({"tensorwise", "blockwise"}))
      ->needs(products);
  train->add_option("--steps", options->steps, "timed steps, after two more")
      ->capture_default_str()
      ->check(between(1, 1 << 20));
  train->add_option("--device", *device, "auto, cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  train
      ->add_option("--optimizer", options->optimizer,
                   fmt::format("{}", fmt::join(train::optimizer_names(), ", ")))
      ->capture_default_str();
  const auto add_type = [&](const char* option, DType* type, const char* of) {
    train
        ->add_option_function<std::string>(
            option, [=](const auto& name) { *type = *train::state_type(name); }, of)
        ->default_str("fp32")
        ->check(CLI::IsMember({"fp32", "bf16"}));
  };
  add_type("--main-params-dtype", &options->types.params, "type of the weights that are updated, with bf16");
  add_type("--main-grads-dtype", &options->types.grads, "type of gradients, with bf16");
  add_type("--exp-avg-dtype", &options->types.exp_avg, "type of the first moments, with bf16");
  add_type("--exp-avg-sq-dtype", &options->types.exp_avg_sq, "type of the second moments, with bf16");
  train->add_option("--threads", options->threads, "0: all cores")
      ->check(between(0, 4096))
      ->capture_default_str();
  auto* lora = train
                   ->add_option("--lora", options->lora_rank,
                                "train an adapter of this rank alone, of every projection")
                   ->check(between(1, 512));
  train->add_option("--load-in", *load_in, "hold the frozen weights in 8bit or 4bit")
      ->check(CLI::IsMember({"8bit", "4bit"}))
      ->needs(lora);
  train
      ->add_option("--learnt", options->learnt, "share of the tokens that are trained on: the rest is prompt")
      ->capture_default_str()
      ->check(between(0.0, 1.0));
  train->add_flag("!--enforce-eager", options->graphs, "on a GPU: kernel by kernel, without CUDA graphs");
  train
      ->add_option("--offload", options->offload,
                   "share of what the optimizer keeps that lies in main memory, on a GPU")
      ->capture_default_str()
      ->check(between(0.0, 1.0));
  train->add_flag("--recompute", options->recompute, "keep one tensor a layer for the backward pass");
  train->add_flag("--profile", options->profile, "also the share of each op");
  train->add_flag("--json", *json, "one JSON object");
  train->footer(
      "Examples:\n  flagscale bench train --shape 124m --batch 4 --seq 64\n  flagscale bench train --shape "
      "15m --dtype bf16 --json");
  train->callback([=] {
    options->dtype = *dtype == "bf16" ? DType::kBF16 : DType::kF32;
    options->device = choose_device(*device);
    if (!fp8->empty())
      options->fp8 =
          train::Fp8Spec{{*recipe == "blockwise" ? op::Fp8Recipe::kBlockwise : op::Fp8Recipe::kTensorwise,
                          *fp8 == "hybrid" ? Fp8::kE5M2 : Fp8::kE4M3},
                         0,
                         0};
    if (*load_in == "8bit") options->frozen = op::Packing::kInt8;
    if (*load_in == "4bit") options->frozen = op::Packing::kQ4_0;
    const auto result = train::bench_train(*options);
    *json ? print_json(*options, result) : print_text(*options, result);
  });
}

const Registration<Command> kBench{"bench", {"measure speed on this machine", &setup}};

}  // namespace
}  // namespace flagscale::bench_command
