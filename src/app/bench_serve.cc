#include "app/bench_serve.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include "app/model_argument.h"
#include "app/numbers.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "engine/load.h"
#include "load/dataset.h"
#include "load/report.h"

namespace flagscale {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct ServeBenchOptions {
  std::string backend = "openai", base_url, host = "127.0.0.1", endpoint, model, served_model_name, tokenizer;
  int port = 8000;
  load::DatasetOptions dataset;
  std::optional<int64_t> input_length, output_length;
  load::RateOptions rate;
  int64_t concurrency = 0;
  int64_t warmups = 0, ready_check = 0;
  bool ignore_eos = false, no_progress = false, no_shuffle = false, no_oversample = false;
  std::optional<int> logprobs, top_k;
  std::optional<double> temperature, top_p, min_p, frequency_penalty, presence_penalty, repetition_penalty;
  std::string extra_body, id_prefix;
  std::vector<std::string> headers, metadata, goodput, adapters;
  std::string adapter_choice = "random";
  std::string percentile_metrics = "ttft,tpot,itl", percentiles = "99";
  bool save = false, detailed = false, append = false, json = false;
  std::string folder, filename, label;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

std::pair<std::string, std::string> key_value(const std::string& option, const std::string& text) {
  const size_t equal = text.find('=');
  if (equal == std::string::npos || equal == 0)
    fail(ErrorKind::kInvalidArgument, "{} takes KEY=VALUE, not '{}'", option, text);
  return {text.substr(0, equal), text.substr(equal + 1)};
}

net::Url server_of(const ServeBenchOptions& o) {
  const bool v6 = o.host.find(':') != std::string::npos;
  const std::string place = fmt::format("http://{}{}{}:{}", v6 ? "[" : "", o.host, v6 ? "]" : "", o.port);
  net::Url url = net::parse_url(o.base_url.empty() ? place : o.base_url);
  while (url.path.ends_with('/')) url.path.pop_back();
  return url;
}

bool is_chat(const ServeBenchOptions& o) { return o.backend == "openai-chat"; }

net::Headers headers_of(const ServeBenchOptions& o) {
  net::Headers headers;
  if (const char* key = std::getenv("OPENAI_API_KEY"); key && *key)
    headers.emplace_back("Authorization", std::string("Bearer ") + key);
  for (const std::string& header : o.headers) {
    auto pair = key_value("--header", header);
    std::erase_if(headers, [&](const auto& one) { return !net::find_header({one}, pair.first).empty(); });
    headers.push_back(std::move(pair));
  }
  return headers;
}

struct Served {
  std::string name, root;  // root: where its files are, for the server
};

Served first_model(net::Client& client, const net::Url& server, const net::Headers& headers) {
  const net::Response response = client.send("GET", server.path + "/v1/models", {}, headers);
  if (response.status == 401)
    fail(ErrorKind::kInvalidArgument, "the server wants an API key: set OPENAI_API_KEY");
  const Json json = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  if (response.status != 200 || !json.is_object() || !json.contains("data") || !json["data"].is_array() ||
      json["data"].empty())
    fail(ErrorKind::kResource, "{}:{} does not say which models it has ({} {}): name one with --model",
         server.host, server.port, response.status, net::reason(response.status));
  const Json& model = json["data"][0];
  return {model.value("id", ""),
          model.contains("root") && model["root"].is_string() ? model["root"].get<std::string>() : ""};
}

// Waits for the server to answer at all.
void wait_until_ready(const ServeBenchOptions& o, const net::Url& server) {
  for (int64_t left = o.ready_check; left > 0; --left) {
    try {
      net::Client(server).send("GET", server.path + "/v1/models");
      return;
    } catch (const Error&) {
      throw_if_interrupted();
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }
}

// --tokenizer; else the files that the server serves, where they are at hand; else what the server answers.
std::unique_ptr<load::Tokens> open_tokens(ServeBenchOptions& o, const net::Url& server, const Served& served,
                                          const net::Headers& headers) {
  if (o.tokenizer.empty() && !served.root.empty() && fs::exists(served.root)) o.tokenizer = served.root;
  if (o.tokenizer.empty() && !o.model.empty() && fs::exists(o.model)) o.tokenizer = o.model;
  if (o.tokenizer.empty()) return load::server_tokens(net::Client(server), served.name, headers);
  engine::LoadedModel model = engine::load_model(model_path(o.tokenizer));
  if (!model.tokenizer) fail(ErrorKind::kNotFound, "{} brings no tokenizer", o.tokenizer);
  return load::local_tokens(std::move(model.tokenizer));
}

// What every request says.
Json common_body(const ServeBenchOptions& o, const std::string& model) {
  Json body = {{"model", model}};
  if (!is_chat(o)) {
    body["repetition_penalty"] = 1.0;
    if (o.logprobs) body["logprobs"] = *o.logprobs;
  }
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (o.ignore_eos) body["ignore_eos"] = true;
  const auto give = [&](const char* name, const auto& value) {
    if (value) body[name] = *value;
  };
  give("temperature", o.temperature), give("top_p", o.top_p), give("top_k", o.top_k), give("min_p", o.min_p);
  give("frequency_penalty", o.frequency_penalty), give("presence_penalty", o.presence_penalty);
  give("repetition_penalty", o.repetition_penalty);
  if (!o.extra_body.empty()) {
    const Json extra = Json::parse(o.extra_body, nullptr, /*allow_exceptions=*/false);
    if (!extra.is_object())
      fail(ErrorKind::kInvalidArgument, "--extra-body is no JSON object: {}", o.extra_body);
    body.update(extra);
  }
  return body;
}

load::Load make_load(const ServeBenchOptions& o, const net::Url& server, const Served& served,
                     const std::vector<load::Sample>& samples) {
  load::Load load;
  load.server = server;
  load.server.path = server.path + (!o.endpoint.empty() ? o.endpoint
                                    : is_chat(o)        ? "/v1/chat/completions"
                                                        : "/v1/completions");
  load.headers = headers_of(o);
  load.headers.emplace_back("Content-Type", "application/json");
  load.concurrency = o.concurrency;
  load.times = load::send_times(o.rate, samples.size(), o.dataset.seed);
  Json body = common_body(o, served.name);
  std::mt19937_64 random(o.dataset.seed);
  for (size_t i = 0; i < samples.size(); ++i) {
    if (!o.adapters.empty())
      body["model"] =
          o.adapters[o.adapter_choice == "random" ? random() % o.adapters.size() : i % o.adapters.size()];
    if (is_chat(o))
      body["messages"] = {{{"role", "user"}, {"content", samples[i].prompt}}};
    else
      body["prompt"] = samples[i].prompt;
    body[is_chat(o) ? "max_completion_tokens" : "max_tokens"] = samples[i].output_tokens;
    if (!o.id_prefix.empty()) body["request_id"] = fmt::format("{}{}", o.id_prefix, i);
    load.bodies.push_back(body.dump(-1, ' ', false, Json::error_handler_t::replace));
    load.prompt_tokens.push_back(samples[i].prompt_tokens);
  }
  return load;
}

void warm_up(const ServeBenchOptions& o, const load::Load& load) {
  if (o.warmups == 0) return;
  load::Load some = load;
  some.bodies.assign(static_cast<size_t>(o.warmups), load.bodies[0]);
  some.times.assign(some.bodies.size(), 0.0);
  some.prompt_tokens.assign(some.bodies.size(), 0);
  load::drive(some, [](size_t) { return !interrupted(); });
  throw_if_interrupted();
}

load::Measured run(const ServeBenchOptions& o, const load::Load& load) {
  std::optional<Progress> progress;
  if (!o.no_progress) progress.emplace("requests", static_cast<int64_t>(load.bodies.size()), "requests");
  load::Measured measured = load::drive(load, [&](size_t done) {
    if (progress) progress->set(static_cast<int64_t>(done));
    return !interrupted();
  });
  if (progress && !measured.interrupted) progress->set(static_cast<int64_t>(load.bodies.size()));
  if (progress && measured.interrupted) Progress::clear_line();
  return measured;
}

load::ReportOptions report_options(const ServeBenchOptions& o, const Served& served) {
  load::ReportOptions report;
  report.backend = o.backend, report.label = o.label, report.model = served.name,
  report.tokenizer = o.tokenizer;
  report.num_prompts = o.dataset.num_prompts, report.concurrency = o.concurrency, report.rate = o.rate;
  report.goodput = !o.goodput.empty(), report.detailed = o.detailed;
  for (const std::string& one : o.metadata) report.metadata.push_back(key_value("--metadata", one));
  report.percentile_metrics = split(o.percentile_metrics);
  for (const std::string& name : report.percentile_metrics)
    if (name != "ttft" && name != "tpot" && name != "itl" && name != "e2el" && name != "client_queue_time" &&
        name != "e2el_including_client_queue")
      fail(ErrorKind::kInvalidArgument,
           "--percentile-metrics takes ttft, tpot, itl, e2el, client_queue_time and "
           "e2el_including_client_queue, not '{}'",
           name);
  report.percentiles.clear();
  for (const std::string& text : split(o.percentiles)) {
    char* end = nullptr;
    const double percent = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || !(percent >= 0 && percent <= 100))
      fail(ErrorKind::kInvalidArgument,
           "--metric-percentiles takes numbers from 0 to 100, as 50,99, not '{}'", text);
    report.percentiles.push_back(percent);
  }
  return report;
}

std::string date_now() { return fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::time(nullptr))); }

void save(const ServeBenchOptions& o, const load::ReportOptions& report, const load::Measured& measured,
          const load::Metrics& metrics) {
  const std::string date = date_now();
  const Json json = load::report_json(report, measured, metrics, date);
  if (!o.folder.empty()) fs::create_directories(o.folder);
  const std::string path =
      (fs::path(o.folder) / (o.filename.empty() ? load::report_name(report, date) : o.filename)).string();
  const bool more = o.append && fs::exists(path) && fs::file_size(path) > 0;
  std::ofstream file(path, o.append ? std::ios::app : std::ios::trunc);
  file << (more ? "\n" : "") << json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!file.flush()) fail(ErrorKind::kResource, "cannot write {}: {}", path, std::strerror(errno));
  info("the result is in {}", path);
}

void prepare(ServeBenchOptions& o) {
  if (o.backend == "vllm") o.backend = "openai";
  if (o.dataset.name == "prefix-repetition") o.dataset.name = "prefix_repetition";
  o.dataset.shuffle = !o.no_shuffle, o.dataset.oversample = !o.no_oversample;
  if (o.input_length) o.dataset.input_length = *o.input_length;
  if (o.output_length)
    o.dataset.output_length = o.dataset.repetition_output_length =
        *(o.dataset.sharegpt_output_length = o.output_length);
  // As vLLM: random text must not end an answer early.
  if (o.dataset.name == "random") o.ignore_eos = true;
}

void bench(ServeBenchOptions o) {
  prepare(o);
  const auto goodput = load::parse_goodput(o.goodput);
  load::ReportOptions report = report_options(o, {});  // what is wrong with the options is said first
  const net::Url server = server_of(o);
  const net::Headers headers = headers_of(o);
  load::check(o.rate), load::check(o.dataset), common_body(o, "");
  wait_until_ready(o, server);
  net::Client client(server);
  Served served{o.served_model_name.empty() ? o.model : o.served_model_name, ""};
  if (served.name.empty()) served = first_model(client, server, headers);
  const auto tokens = open_tokens(o, server, served, headers);
  const std::vector<load::Sample> samples = load::make_samples(o.dataset, *tokens);
  const load::Load load = make_load(o, server, served, samples);
  warm_up(o, load);
  const load::Measured measured = run(o, load);
  const load::Metrics metrics = load::measure(measured, goodput);
  report = report_options(o, served);
  size_t shown = 0;
  for (const load::Record& record : measured.records)
    if (!record.success && ++shown <= 10) warn("a request failed: {}", record.error);
  if (o.json)
    fmt::print("{}\n", load::report_json(report, measured, metrics, date_now())
                           .dump(-1, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{}", load::report_text(report, measured, metrics));
  if (o.save || o.append) save(o, report, measured, metrics);
  if (metrics.completed == 0 && !measured.interrupted) fail(ErrorKind::kResource, "no request succeeded");
}

void add_server_options(CLI::App& app, ServeBenchOptions& o) {
  app.add_option("--backend", o.backend, "openai (/v1/completions) or openai-chat (/v1/chat/completions)")
      ->check(CLI::IsMember({"openai", "openai-chat", "vllm"}))
      ->capture_default_str();
  app.add_option("--base-url", o.base_url,
                 "the server, as http://127.0.0.1:8000, in place of --host and --port");
  app.add_option("--host", o.host, "the server's")->capture_default_str();
  app.add_option("--port", o.port, "the server's")->check(between(1, 65535))->capture_default_str();
  app.add_option("--endpoint", o.endpoint, "path of the API (default: the backend's)");
  app.add_option("--header", o.headers, "KEY=VALUE of each request; OPENAI_API_KEY is sent by itself")
      ->expected(1, -1);
  app.add_option("--model", o.model, "the model's name (default: the first that the server names)");
  app.add_option("--served-model-name", o.served_model_name, "the name in requests, where --model is a path");
  app.add_option("--tokenizer", o.tokenizer, "a tokenizer's or model's path (default: the server's own)");
  app.add_option("--ready-check-timeout-sec", o.ready_check, "wait so long for the server")
      ->check(between(0, 1 << 20))
      ->capture_default_str();
}

void add_dataset_options(CLI::App& app, ServeBenchOptions& o) {
  load::DatasetOptions& d = o.dataset;
  const auto size = between(int64_t{0}, int64_t{1} << 40);
  app.add_option("--dataset-name", d.name, "what to send")
      ->check(CLI::IsMember({"random", "prefix_repetition", "prefix-repetition", "sharegpt"}))
      ->capture_default_str();
  app.add_option("--dataset-path", d.path, "ShareGPT's JSON file");
  app.add_option("--num-prompts", d.num_prompts, "requests")
      ->check(between(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  app.add_option("--seed", d.seed, "of prompts and times")->capture_default_str();
  app.add_flag("--disable-shuffle", o.no_shuffle, "take the data set in its order");
  app.add_flag("--no-oversample", o.no_oversample, "send fewer requests where the data set is shorter");
  app.add_option("--input-len", o.input_length, "for --random-input-len")->check(size);
  app.add_option("--output-len", o.output_length, "for the data set's own output length")->check(size);
  app.add_option("--random-input-len", d.input_length, "tokens of a prompt")
      ->check(size)
      ->capture_default_str();
  app.add_option("--random-output-len", d.output_length, "tokens of an answer")
      ->check(size)
      ->capture_default_str();
  app.add_option("--random-range-ratio", d.range_ratio, "lengths vary by this share, in [0, 1)")
      ->capture_default_str();
  app.add_option("--random-prefix-len", d.prefix_length, "tokens that all prompts begin with")
      ->check(size)
      ->capture_default_str();
  app.add_option("--prefix-repetition-prefix-len", d.repeated_prefix_length, "tokens of a shared beginning")
      ->check(size)
      ->capture_default_str();
  app.add_option("--prefix-repetition-suffix-len", d.suffix_length, "tokens after it")
      ->check(size)
      ->capture_default_str();
  app.add_option("--prefix-repetition-num-prefixes", d.num_prefixes, "different beginnings")
      ->check(size)
      ->capture_default_str();
  app.add_option("--prefix-repetition-output-len", d.repetition_output_length, "tokens of an answer")
      ->check(size)
      ->capture_default_str();
  app.add_option("--sharegpt-output-len", d.sharegpt_output_length,
                 "tokens of an answer (default: as in the file)")
      ->check(size);
}

void add_load_options(CLI::App& app, ServeBenchOptions& o) {
  app.add_option("--request-rate", o.rate.rate, "requests a second; inf: all at once")->capture_default_str();
  app.add_option("--burstiness", o.rate.burstiness, "1: a Poisson process; less comes in bursts, more evenly")
      ->capture_default_str();
  app.add_option("--max-concurrency", o.concurrency, "requests under way at once (default: any number)")
      ->check(between(int64_t{1}, int64_t{1} << 20));
  app.add_option("--ramp-up-strategy", o.rate.ramp_up, "how the rate rises over the run")
      ->check(CLI::IsMember({"linear", "exponential"}));
  app.add_option("--ramp-up-start-rps", o.rate.ramp_start, "the rate at first");
  app.add_option("--ramp-up-end-rps", o.rate.ramp_end, "the rate at last");
  app.add_option("--num-warmups", o.warmups, "requests before, not counted")
      ->check(between(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  app.add_flag("--disable-tqdm", o.no_progress, "no progress");
}

void add_request_options(CLI::App& app, ServeBenchOptions& o) {
  app.add_flag("--ignore-eos", o.ignore_eos, "answers of full length (always with random)");
  constexpr double kMostSampling = 1e6;  // as a server here has it
  app.add_option("--temperature", o.temperature, "of the requests (default: the server's, as the following)")
      ->check(between(0.0, kMostSampling));
  app.add_option("--top-p", o.top_p, "")->check(between(1e-9, 1.0));
  app.add_option("--top-k", o.top_k, "0 and -1: all")->check(between(-1, INT32_MAX));
  app.add_option("--min-p", o.min_p, "")->check(between(0.0, 1.0));
  app.add_option("--frequency-penalty", o.frequency_penalty, "")->check(between(-2.0, 2.0));
  app.add_option("--presence-penalty", o.presence_penalty, "")->check(between(-2.0, 2.0));
  app.add_option("--repetition-penalty", o.repetition_penalty, "")->check(between(1e-6, kMostSampling));
  app.add_option("--logprobs", o.logprobs, "with each token so many likeliest (openai)")
      ->check(between(0, 1 << 20));
  app.add_option("--extra-body", o.extra_body, "JSON object of further fields");
  app.add_option("--request-id-prefix", o.id_prefix, "requests are named so and numbered");
  app.add_option("--lora-modules", o.adapters, "adapters to spread the requests over")->expected(1, -1);
  app.add_option("--lora-assignment", o.adapter_choice, "how")
      ->check(CLI::IsMember({"random", "round-robin"}))
      ->capture_default_str();
}

void add_result_options(CLI::App& app, ServeBenchOptions& o) {
  app.add_option("--percentile-metrics", o.percentile_metrics, "what to report: ttft, tpot, itl, e2el, …")
      ->capture_default_str();
  app.add_option("--metric-percentiles", o.percentiles, "of these, as 50,90,99")->capture_default_str();
  app.add_option("--goodput", o.goodput,
                 "count requests that keep to limits in ms: ttft:200 tpot:50 e2el:1000")
      ->expected(1, -1);
  app.add_flag("--save-result", o.save, "write a JSON file under vLLM's keys");
  app.add_flag("--save-detailed", o.detailed, "with every request's times, texts and errors");
  app.add_flag("--append-result", o.append, "add a line to the file");
  app.add_flag("--json", o.json, "print the result as JSON, under those keys");
  app.add_option("--result-dir", o.folder, "where to");
  app.add_option("--result-filename", o.filename, "its name (default: vLLM's)");
  app.add_option("--metadata", o.metadata, "KEY=VALUE to put into it")->expected(1, -1);
  app.add_option("--label", o.label, "in place of the backend in its name");
}

}  // namespace

void add_bench_serve(CLI::App& bench_app) {
  auto* app = bench_app.add_subcommand("serve",
                                       "load a server with OpenAI's API, and measure (vLLM's `bench serve`)");
  const auto o = std::make_shared<ServeBenchOptions>();
  add_server_options(*app, *o);
  add_dataset_options(*app, *o);
  add_load_options(*app, *o);
  add_request_options(*app, *o);
  add_result_options(*app, *o);
  app->footer(
      "Examples:\n"
      "  flagscale bench serve --port 8000 --num-prompts 64 --random-input-len 128 --random-output-len 32 "
      "--max-concurrency 8\n"
      "  flagscale bench serve --base-url http://127.0.0.1:8000 --request-rate 4 --goodput ttft:500 tpot:60\n"
      "  flagscale bench serve --dataset-name sharegpt --dataset-path chats.json --backend openai-chat "
      "--save-result\n"
      "Ctrl-C ends the run and reports what was measured until then.");
  app->callback([o] { bench(*o); });
}

}  // namespace flagscale
