#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "app/command.h"
#include "app/numbers.h"
#include "app/served_engine.h"
#include "app/serving.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/transcript.h"
#include "serve/serve.h"
#include "serve/service_files.h"

namespace flagscale {
namespace {

constexpr double kDrainSeconds = 600;   // a second signal ends at once
constexpr double kFarewellSeconds = 5;  // for the last answers of a server that failed

void refuse_empty(const std::vector<std::string>& list, const char* what) {
  if (std::find(list.begin(), list.end(), "") != list.end())
    fail(ErrorKind::kInvalidArgument, "{} must not be empty", what);
}

void warn_of_open_door(const serve::ServiceConfig& config) {
  const bool loopback = config.host == "localhost" || config.host == "::1" || config.host.starts_with("127.");
  if (!loopback && config.api_key.empty())
    warn(
        "{} is open to the network and asks for no key: anyone who reaches it can use the model. Give one "
        "with --api-key",
        config.host);
}

}  // namespace

void serve_model(const serve::ServiceConfig& config) {
  const auto start = std::chrono::steady_clock::now();
  refuse_empty(config.api_key, "an API key");
  refuse_empty(config.served_model_name, "served_model_name");
  ServedEngine loaded = load_served_engine(config);
  serve::ModelServer server(config, std::move(loaded.model), std::move(loaded.engine));
  warn_of_open_door(config);  // now that it is open
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  say(stdout,
      "Serving {} at {} ({} weights, compute {}, cache of {} tokens in {}, ready in {:.2f} s). Ctrl-C stops "
      "it.\n",
      server.name(), server.url(), loaded.formats, loaded.compute, loaded.capacity, loaded.cache, seconds);
  std::fflush(stdout);
  while (!interrupted() && server.failure().empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (server.failure().empty()) {
    info("stopping: no new requests; a second signal ends at once");
    server.drain(kDrainSeconds);
  } else {
    server.drain(kFarewellSeconds);
  }
  if (const std::string failure = server.failure(); !failure.empty())
    fail(ErrorKind::kDevice, "the server stops: {}", failure);
}

}  // namespace flagscale

namespace flagscale::serve_command {
namespace {

struct Options {
  std::string model, yaml, arguments, model_path, host;
  int port = -1;
  std::vector<std::string> api_keys, names, loras;
  config::NodePtr flags = config::Node::map();  // engine arguments given as flags
};

bool is_yaml(const std::string& path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

// What the command line says wins over --engine-args, which win over the file.
serve::ServiceConfig configuration(Options o) {
  if (is_yaml(o.model) && o.yaml.empty()) std::swap(o.model, o.yaml);
  serve::ServiceConfig config = serve::read_service_config(o.yaml, o.arguments);
  serve::read_arguments(serve::service_keys(), o.flags, config);
  if (!o.model_path.empty()) o.model = o.model_path;
  if (!o.model.empty()) config.model = o.model;
  if (config.model.empty())
    fail(ErrorKind::kInvalidArgument,
         "which model? `flagscale serve MODEL`, or engine_args.model in the YAML");
  if (!o.host.empty()) config.host = o.host;
  if (o.port >= 0) config.port = o.port;
  if (!o.api_keys.empty()) config.api_key = o.api_keys;
  for (const std::string& lora : o.loras) config.lora_modules.list.push_back(serve::parse_lora_module(lora));
  if (!o.names.empty()) config.served_model_name = o.names;
  return config;
}

// A JSON list, as vLLM's command line takes some, comes in its parts.
std::string unquoted(const std::string& part) {
  const size_t first = part.find_first_not_of(' '), last = part.find_last_not_of(' ');
  if (first == std::string::npos || first == last || part[first] != '"' || part[last] != '"') return part;
  return part.substr(first + 1, last - first - 1);
}

std::string flag_names(const config::KeyInfo& key) {
  std::string names;
  for (const std::string& name : key.aliases) names += ",--" + name;
  names = "--" + key.name + names;
  std::replace(names.begin(), names.end(), '_', '-');
  return names;
}

// Every key is a flag too, as with vLLM: --max-model-len 4096, --no-enable-prefix-caching. Those that do
// nothing here, or are refused, are not in the help.
void add_engine_flags(CLI::App& app, const std::shared_ptr<Options>& o) {
  for (const config::KeyInfo& key : serve::service_keys().keys()) {
    const std::string first = flag_names(key).substr(0, key.name.size() + 2);
    if (key.name == "model" || app.get_option_no_throw(first)) continue;
    CLI::Option* option = nullptr;
    if (serve::is_switch(key)) {
      const std::string name = flag_names(key);
      option = app.add_flag_function(
          name + ",!--no-" + name.substr(2),
          [o, name = key.name](int64_t times) { o->flags->set({name}, config::Node::boolean(times > 0)); },
          key.doc);
    } else if (key.type == "list of strings") {
      option = app.add_option_function<std::vector<std::string>>(
          flag_names(key),
          [o, name = key.name](const std::vector<std::string>& values) {
            const config::NodePtr list = config::Node::list();
            for (const std::string& value : values) list->append(config::Node::string(unquoted(value)));
            o->flags->set({name}, list);
          },
          key.doc);
    } else {
      option = app.add_option_function<std::string>(
          flag_names(key),
          [o, name = key.name](const std::string& value) {
            o->flags->set({name}, config::Node::string(value));
          },
          key.doc);
    }
    option->group(key.key_class == config::KeyClass::kActs ? "Engine arguments, under vLLM's names" : "");
  }
}

void setup(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("model-or-yaml", o->model,
                 "Hugging Face folder, checkpoint, .gguf file, or an example's name");
  app.add_option("yaml", o->yaml, "FlagScale's serve file: engine_args with vLLM's names");
  app.add_option("--model-path,--model", o->model_path, "the model, in place of MODEL");
  app.add_option("--engine-args", o->arguments,
                 "JSON object of further engine arguments, which win over the file's");
  app.add_option("--host", o->host,
                 "address to listen on (default 127.0.0.1); 0.0.0.0 opens it to the network");
  app.add_option("--port", o->port, "port (default 8000); 0: any free one")->check(between(0, 65535));
  app.add_option("--api-key", o->api_keys, "a key that each request must bring; may be repeated");
  app.add_option("--lora", o->loras, "NAME=FOLDER: serve a PEFT adapter under a name; may be repeated");
  app.add_option("--served-model-name", o->names, "what requests call the model; may be repeated");
  add_engine_flags(app, o);
  app.footer(
      "Arguments of vLLM's that change no answer here, as --tensor-parallel-size, are taken and do nothing.\n"
      "Examples:\n"
      "  flagscale serve models/SmolLM2-135M-Instruct --port 8000\n"
      "  flagscale serve Qwen2.5-0.5B.gguf --max-model-len 4096 --max-num-seqs 16\n"
      "  flagscale serve models/Qwen3-0.6B examples/qwen3/conf/serve/8b.yaml --host 0.0.0.0 --api-key "
      "\"$KEY\"");
  app.callback([o] { serve_model(configuration(*o)); });
}

const Registration<Command> kServe{"serve", {"answer OpenAI's API with a model", &setup}};

}  // namespace
}  // namespace flagscale::serve_command
