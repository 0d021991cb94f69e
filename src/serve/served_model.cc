#include "serve/served_model.h"

#include <chrono>
#include <filesystem>

#include "base/error.h"
#include "config/yaml.h"
#include "serve/api_error.h"
#include "serve/output/output_parser.h"

namespace flagscale::serve {

namespace {

std::unique_ptr<text::ChatTemplate> read_template(const std::string& path, const text::Tokenizer& tokenizer,
                                                  std::string& source) {
  source = config::read_text_file(path);
  std::vector<std::pair<std::string, std::string>> variables;
  if (tokenizer.bos() >= 0) variables.emplace_back("bos_token", tokenizer.id_to_token(tokenizer.bos()));
  if (tokenizer.eos() >= 0) variables.emplace_back("eos_token", tokenizer.id_to_token(tokenizer.eos()));
  try {
    return std::make_unique<text::ChatTemplate>(source, variables);
  } catch (const Error&) {
    rethrow_with("--chat-template " + path);
  }
}

std::string tool_format(const std::string& chosen, const std::string& template_source) {
  if (chosen == "none") return {};
  if (chosen == "qwen") return "hermes";
  if (chosen != "auto") return chosen;
  const auto& formats = Registry<ToolFormat>::instance();
  for (const std::string& name : formats.names())
    if (template_source.find(formats.find(name)->mark) != std::string::npos) return name;
  // LLaMA 3.2's template says what a call looks like, without the tag.
  return template_source.find("\"parameters\": dictionary of argument name") != std::string::npos
             ? "llama3_json"
             : "";
}

// A path is known by its last part, and by all of it, as vLLM has it.
std::vector<std::string> default_names(const std::string& path) {
  std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();  // "folder/"
  const std::string last = normal.filename().string();
  if (last.empty() || last == path) return {path};
  return {last, path};
}

}  // namespace

const text::ChatTemplate& ServedModel::chat_template() const {
  if (own_template) return *own_template;
  if (!tokenizer().has_chat_template())
    throw ApiError(400,
                   "this model has no chat template: start the server with --chat-template FILE, or use "
                   "/v1/completions");
  return tokenizer().chat_template();
}

ServedModel describe_model(engine::LoadedModel loaded, const ServiceConfig& config, int64_t max_model_len) {
  ServedModel model;
  model.loaded = std::move(loaded);
  model.names = config.served_model_name;
  if (model.names.empty()) model.names = default_names(config.model);
  if (config.generation_config == "auto") model.defaults = read_generation_defaults(model.loaded.path);
  model.limits = {max_model_len, model.loaded.config.vocab_size, config.max_n,
                  static_cast<int>(config.max_logprobs)};
  model.created =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  if (!config.chat_template.empty())
    model.own_template = read_template(config.chat_template, model.tokenizer(), model.template_source);
  else
    model.template_source = model.tokenizer().chat_template_source();
  model.tool_format = tool_format(config.tool_call_parser, model.template_source);
  model.always_reasons = config.reasoning_parser == "deepseek_r1";
  model.reasoning = config.reasoning_parser == "auto"
                        ? model.template_source.find("</think>") != std::string::npos
                        : config.reasoning_parser != "none";
  return model;
}

}  // namespace flagscale::serve
