#include "app/bench_row.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/does_not_fit.h"
#include "base/log.h"
#include "base/median.h"
#include "device/cuda/cuda.h"
#include "launch/launcher/this_program.h"
#include "launch/launcher/watched.h"
#include "launch/placement.h"
#include "serve/service_files.h"

namespace flagscale::bench_rows {

namespace {

using Json = nlohmann::json;
using Words = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

launch::Command command_of(const Words& words) { return {Words{launch::this_program({})} + words, {}, {}}; }

// The line with which a command ended.
std::string complaint(const launch::Watched& child) {
  const std::string said = child.said(), mark = "flagscale: error: ";
  const size_t at = said.rfind(mark);
  if (at == std::string::npos) return child.last_said();
  return said.substr(at + mark.size(), said.find('\n', at) - at - mark.size());
}

// Throws Error as the command has told it.
[[noreturn]] void fail_as(const launch::Watched& child, int code) {
  if (code == kDoesNotFit) throw DoesNotFit(complaint(child));
  fail(ErrorKind::kResource, "{}",
       code > 128 ? fmt::format("it ended by signal {}", code - 128) : complaint(child));
}

// Of a command that prints one JSON object. Throws Error with what it says where it fails.
Json json_of(const Words& words) {
  launch::Watched child(command_of(words));
  std::string line, text;
  while (child.next(line)) text += line;
  if (const int code = child.wait(); code != 0) fail_as(child, code);
  return Json::parse(text);
}

// -- training

Words training(const BenchRow& row, const BenchRowsOptions& o) {
  Words words{"train", "speed"};
  if (row.needs_model) words = {"train", o.model, o.folder + "/train.yaml"};
  return words + row.words + Words{"data_path=" + o.data, "--device", o.device};
}

// The number behind `label` in a log line.
std::optional<double> number_after(const std::string& line, const std::string& label) {
  const size_t at = line.find(label);
  if (at == std::string::npos) return std::nullopt;
  return std::strtod(line.c_str() + at + label.size(), nullptr);
}

struct Trained {
  double first_step_end = 0;  // seconds from the start of the process
  double step_ms = 0, teraflops = 0;
};

// As torchrun would start them.
std::vector<launch::Command> ranks_of(const Words& words, int ranks) {
  std::vector<launch::Command> commands;
  const int port = launch::free_port();
  for (int rank = 0; rank < ranks; ++rank) {
    commands.push_back(command_of(words));
    if (ranks == 1) continue;
    commands.back().env = {{"RANK", std::to_string(rank)},        {"LOCAL_RANK", std::to_string(rank)},
                           {"WORLD_SIZE", std::to_string(ranks)}, {"LOCAL_WORLD_SIZE", std::to_string(ranks)},
                           {"MASTER_ADDR", "127.0.0.1"},          {"MASTER_PORT", std::to_string(port)}};
  }
  return commands;
}

using Variables = std::map<std::string, std::string>;

Trained train(const Words& words, int ranks, int iterations, const Variables& variables = {}) {
  constexpr size_t kWarmup = 2;
  const auto start = Clock::now();
  std::vector<std::unique_ptr<launch::Watched>> children;
  for (launch::Command& command :
       ranks_of(words + Words{fmt::format("train.model.train_iters={}", iterations)}, ranks)) {
    command.env.insert(variables.begin(), variables.end());
    children.push_back(std::make_unique<launch::Watched>(command));
  }
  Trained result;
  std::vector<double> times, teraflops;
  for (std::string line; children[0]->next(line);) {
    const auto ms = number_after(line, "elapsed time per iteration (ms): ");
    if (!ms) continue;
    if (times.empty()) result.first_step_end = std::chrono::duration<double>(Clock::now() - start).count();
    times.push_back(*ms);
    teraflops.push_back(number_after(line, "throughput per GPU (TFLOP/s/GPU): ").value_or(0));
  }
  const launch::Watched* failed = nullptr;  // who does not fit ends the others, who tell it otherwise
  int why = 0;
  for (const auto& child : children)
    if (const int code = child->wait(); code != 0 && why != kDoesNotFit) failed = child.get(), why = code;
  if (failed) fail_as(*failed, why);
  if (times.empty()) fail(ErrorKind::kInvalidArgument, "the training told no iteration: log_interval=1");
  if (times.size() > kWarmup)
    for (auto* of : {&times, &teraflops}) of->erase(of->begin(), of->begin() + kWarmup);
  result.step_ms = median(times), result.teraflops = median(teraflops);
  return result;
}

BenchRowResult run_training(const BenchRow& row, const BenchRowsOptions& o) {
  const Words words = training(row, o) + o.overrides;
  BenchRowResult result;
  const Json plan = json_of(words + Words{"--action", "dryrun", "--json"});  // refuses what does not fit
  result.memory = plan["plan_bytes"]["total"];
  if (row.kind == BenchRow::Kind::kStart) {
    const Variables variables = row.cold ? Variables{{"FLAGSCALE_CACHE_BYTES", "0"}} : Variables{};
    train(words, 1, 1, variables);  // warm: which leaves the table of algorithms
    result.value = train(words, 1, 1, variables).first_step_end;
    return result;
  }
  const Trained trained = train(words, row.gpus, o.steps + 2);
  result.teraflops = trained.teraflops * row.arithmetic;
  const double tokens = plan["global_batch_size"].get<double>() * plan["seq_length"].get<double>();
  result.value = row.unit == BenchRow::Unit::kTeraflops ? *result.teraflops : tokens / trained.step_ms * 1e3;
  return result;
}

// -- serving

// Where the server answers, once it does.
std::string url_of(launch::Watched& server) {
  const std::string mark = " at http://";
  for (std::string line; server.next(line);)
    if (const size_t at = line.find(mark); at != std::string::npos)
      return line.substr(at + 4, line.find(' ', at + 4) - at - 4);
  fail_as(server, server.wait());
}

// Output tokens a second of the engine that the row's YAML serves with, under the requests of `load`.
double without_server(const BenchRow& row, const BenchRowsOptions& o, Words load) {
  for (std::string& word : load)
    if (word.starts_with("--random-")) word.erase(2, std::string("random-").size());
  const serve::ServiceConfig served = serve::read_service_config(o.folder + "/serve/" + row.yaml, "");
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) load.insert(load.end(), {flag, value});
  };
  const auto text = [](const std::optional<int64_t>& n) { return n ? std::to_string(*n) : ""; };
  add("--quantization", served.quantization);
  if (served.quantize_lm_head) load.emplace_back("--quantize-lm-head");
  add("--kv-cache-dtype", served.kv_cache_dtype);
  add("--max-model-len", text(served.max_model_len));
  add("--max-num-seqs", text(served.max_num_seqs));
  add("--max-num-batched-tokens", text(served.max_num_batched_tokens));
  return json_of(Words{"bench", "throughput", o.model, "--json", "--disable-tqdm", "--device", o.device} +
                 load)["output_tokens_per_second"];
}

BenchRowResult run_serving(const BenchRow& row, const BenchRowsOptions& o) {
  BenchRowResult result;
  Words load = row.words;
  for (std::string& word : load)
    if (word == "REQUESTS") word = std::to_string(o.requests);
  {
    launch::Watched server(
        command_of({"serve", o.model, o.folder + "/serve/" + row.yaml, "--port", "0", "--device", o.device}));
    const std::string url = url_of(server);
    const Json json = json_of(Words{"bench", "serve", "--base-url", url, "--json", "--disable-tqdm"} + load);
    result.value = row.prefill ? json["total_input_tokens"].get<double>() / json["duration"].get<double>()
                               : json["output_throughput"].get<double>();
    try {
      server.stop();
    } catch (const Error& error) {  // what was measured stands
      warn("{}: {}", row.name, error.what());
    }
  }
  const Json alone = json_of(Words{"bench", "decode", o.model, "--json", "--device", o.device} + row.alone);
  const Json& step = row.prefill ? alone["prefill"] : alone["decode"].front();
  result.alone = row.loads_engine ? without_server(row, o, load) : step["tokens_per_s"].get<double>();
  if (!row.prefill)
    result.floor =
        step["bytes"].get<double>() / step["seconds"].get<double>() / alone["read_bytes_per_s"].get<double>();
  if (step.contains("idle_us")) result.idle_us = step["idle_us"];
  result.memory = alone["planned_bytes"];
  return result;
}

// Why it cannot be measured here; empty where nothing is known against it.
std::string missing(const BenchRow& row, const BenchRowsOptions& o) {
  if (row.needs_model && !std::filesystem::exists(o.model + "/config.json"))
    return fmt::format("{} does not exist: bench/serve/random_llama.py writes it, --model names another",
                       o.model);
  const auto gpus = static_cast<int>(cuda::found().gpus.size());
  if (row.gpus > 1 && o.device == "cuda" && gpus < row.gpus)
    return fmt::format("it takes {} GPUs, here {} {}", row.gpus, gpus == 1 ? "is" : "are", gpus);
  return {};
}

}  // namespace

const std::vector<BenchRow>& bench_row_list() {
  using Kind = BenchRow::Kind;
  using Unit = BenchRow::Unit;
  const Words fp8{"--quantization", "fp8", "--kv-cache-dtype", "int8"};
  const auto one_stream = Words{"--num-prompts",      "2",   "--max-concurrency",   "1",
                                "--random-input-len", "128", "--random-output-len", "512"};
  const auto decode = [](const char* streams, const char* depth) {
    return Words{"--prompt-tokens", "0", "--streams", streams, "--depth", depth, "--steps", "50"};
  };
  const auto served = [&](const char* name, const std::string& under_way, const char* yaml) {
    return BenchRow{.name = name,
                    .what = "8B in fp8, 1000/1000, " + under_way + " under way",
                    .kind = Kind::kServe,
                    .goal = 17700,
                    .words = {"--num-prompts", "REQUESTS", "--max-concurrency", under_way,
                              "--random-input-len", "1000", "--random-output-len", "1000"},
                    .yaml = yaml,
                    .alone = fp8 + decode(under_way.c_str(), "1500"),
                    .loads_engine = true,
                    .needs_model = true};
  };
  static const std::vector<BenchRow> kRows{
      {.name = "124m", .what = "124M, B64 T1024", .goal = 580e3, .words = {"train=124m"}},
      {.name = "1b", .what = "LLaMA-3.2-1B, B8 T4096", .goal = 71e3, .words = {"train=1b"}},
      {.name = "1b-start",
       .what = "1B, process start to the end of step 1, warm",
       .kind = Kind::kStart,
       .goal = 3,
       .unit = Unit::kSeconds,
       .words = {"train=1b"}},
      {.name = "1b-start-cold",
       .what = "1B, process start to the end of step 1, cold",
       .kind = Kind::kStart,
       .unit = Unit::kSeconds,
       .words = {"train=1b"},
       .cold = true},
      {.name = "8b", .what = "LLaMA-3-8B, B1 T8192, all in bf16", .goal = 10500, .words = {"train=8b"}},
      {.name = "8b-fp32", .what = "LLaMA-3-8B, B1 T8192, fp32 states, recompute", .words = {"train=8b_fp32"}},
      {.name = "8b-lora",
       .what = "LLaMA-3-8B, LoRA r16, B1 T4096",
       .goal = 16e3,
       .words = {"train=8b_lora"},
       .needs_model = true,
       .arithmetic = 2.0 / 3},  // frozen weights have no gradients
      {.name = "8b-lora-fp8",
       .what = "LLaMA-3-8B in fp8, LoRA r16, B1 T4096",
       .goal = 1.3 * 14430,  // of the fastest peer's in bf16: bench/train/gpu_peer.py
       .words = {"train=8b_lora_fp8"},
       .needs_model = true,
       .arithmetic = 2.0 / 3},
      {.name = "30b-a3b-8l",
       .what = "8 layers of Qwen3-30B-A3B, B8 T4096",
       .goal = 400,
       .unit = Unit::kTeraflops,
       .words = {"train=30b_a3b_8l"}},
      {.name = "30b-a3b-8l-b9",
       .what = "8 layers of Qwen3-30B-A3B, B9 T4096",
       .goal = 400,
       .unit = Unit::kTeraflops,
       .words = {"train=30b_a3b_8l", "train.model.micro_batch_size=9", "train.model.global_batch_size=9"}},
      {.name = "1b-2gpu",
       .what = "1B on two GPUs",
       .goal = 1.95 * 71e3,
       .words = {"train=1b", "train.model.global_batch_size=16"},
       .gpus = 2,
       .times_one = 1.95},
      {.name = "8b-bf16",
       .what = "8B in bf16, 1 stream",
       .kind = Kind::kServe,
       .goal = 245,
       .words = one_stream,
       .yaml = "8b_bf16.yaml",
       .alone = Words{"--dtype", "bfloat16"} + decode("1", "128"),
       .needs_model = true},
      {.name = "8b-fp8",
       .what = "8B in fp8, 1 stream",
       .kind = Kind::kServe,
       .goal = 430,
       .words = one_stream,
       .yaml = "8b_fp8.yaml",
       .alone = fp8 + decode("1", "128"),
       .needs_model = true},
      {.name = "8b-prefill",
       .what = "8B in fp8, prefill",
       .kind = Kind::kServe,
       .goal = 57e3,
       .words = {"--num-prompts", "100", "--max-concurrency", "16", "--random-input-len", "2000",
                 "--random-output-len", "1"},
       .yaml = "8b_fp8.yaml",
       .alone = fp8 + Words{"--prompt-tokens", "2048", "--streams", "1", "--steps", "1"},
       .prefill = true,
       .needs_model = true},
      served("8b-serve", "256", "8b_fp8.yaml"),
      served("8b-serve-512", "512", "8b_fp8_512.yaml"),
  };
  return kRows;
}

BenchRowResult run_bench_row(const BenchRow& row, const BenchRowsOptions& options) {
  BenchRowResult absent;
  absent.skipped = missing(row, options);
  if (!absent.skipped.empty()) return absent;
  return row.kind == BenchRow::Kind::kServe ? run_serving(row, options) : run_training(row, options);
}

}  // namespace flagscale::bench_rows
