#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <optional>

#include "app/command.h"
#include "app/served_engine.h"
#include "base/error.h"
#include "base/process_age.h"
#include "chat/chat.h"
#include "chat/stop_key.h"
#include "serve/local_model.h"
#include "serve/service_files.h"

namespace flagscale::chat_command {
namespace {

struct Options {
  std::string model, name, key, system, file, arguments, chat_template;
  std::vector<std::string> settings;
  bool plain = false;
};

std::string key_of(const Options& o) {
  const char* variable = std::getenv("OPENAI_API_KEY");
  return o.key.empty() && variable ? variable : o.key;
}

std::unique_ptr<chat::Model> open_server(const Options& o) {
  if (!o.arguments.empty() || !o.chat_template.empty())
    fail(ErrorKind::kInvalidArgument, "--engine-args and --chat-template are the server's affair at {}",
         o.model);
  return chat::server_model({o.model, key_of(o), o.name});
}

// greeting: what was loaded.
std::unique_ptr<chat::Model> open_model(const Options& o, std::string& greeting) {
  serve::ServiceConfig one_conversation;
  one_conversation.max_num_seqs = 1;  // a small cache
  serve::ServiceConfig config = serve::read_service_config("", o.arguments, one_conversation);
  config.model = o.model;
  if (!o.name.empty()) config.served_model_name = {o.name};
  if (!o.chat_template.empty()) config.chat_template = o.chat_template;
  ServedEngine loaded = load_served_engine(config);
  greeting = fmt::format(" ({} weights, compute {}, ready in {:.2f} s)", loaded.formats, loaded.compute,
                         process_age());
  return chat::local_model(
      std::make_unique<serve::LocalModel>(config, std::move(loaded.model), std::move(loaded.engine)));
}

chat::Conversation conversation_of(const Options& o) {
  chat::Conversation conversation;
  if (!o.file.empty()) conversation.load(o.file);
  if (!o.system.empty()) conversation.system = o.system;
  for (const std::string& setting : o.settings) {
    const size_t equal = setting.find('=');
    if (equal == std::string::npos)
      fail(ErrorKind::kInvalidArgument, "--set takes NAME=VALUE, not '{}'", setting);
    conversation.set(setting.substr(0, equal), setting.substr(equal + 1));
  }
  return conversation;
}

void chat_with(const Options& o) {
  chat::Conversation conversation = conversation_of(o);
  std::string greeting;
  const auto model = chat::is_url(o.model) ? open_server(o) : open_model(o, greeting);
  chat::Screen screen = chat::detect_screen();
  if (o.plain) screen.markdown = false;
  std::optional<chat::StopKey> stop;
  if (screen.prompts) {
    stop.emplace();
    fmt::print("{}{}. /help lists the commands, Ctrl-D ends.\n\n", model->name(), greeting);
  }
  const auto lines = screen.prompts ? chat::terminal_reader() : chat::plain_reader();
  chat::run_chat(*model, std::move(conversation), *lines, screen);
}

void setup(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option(
         "model-or-url", o->model,
         "Hugging Face folder, checkpoint, .gguf file, an example's name, owner/name on the hub; or the URL "
         "of a server with OpenAI's API")
      ->required();
  app.add_option("--model", o->name, "which of a server's models (default: the first that it names)");
  app.add_option("--api-key", o->key, "a server's key (default: OPENAI_API_KEY)");
  app.add_option("--system", o->system, "the system message");
  app.add_option("--set", o->settings,
                 "NAME=VALUE of a request's fields, as temperature=0.2; may be repeated");
  app.add_option("--load", o->file, "a conversation that /save has written");
  app.add_option("--engine-args", o->arguments, "JSON object of engine arguments, as `serve` takes them");
  app.add_option("--chat-template", o->chat_template, "a Jinja file in place of the model's own template");
  app.add_flag("--plain", o->plain, "answers as they come, without rendering their markdown");
  app.footer(
      "Examples:\n"
      "  flagscale chat models/SmolLM2-135M-Instruct --set temperature=0.2\n"
      "  flagscale chat http://127.0.0.1:8000/v1 --api-key \"$KEY\"\n"
      "  printf '%s\\n' 'What is the capital of France?' 'And of Italy?' | flagscale chat SmolLM2.gguf");
  app.callback([o] { chat_with(*o); });
}

const Registration<Command> kChat{"chat", {"talk to a model, or to a server, in the terminal", &setup}};

}  // namespace
}  // namespace flagscale::chat_command
