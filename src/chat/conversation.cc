#include "chat/conversation.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text_encoding.h"
#include "serve/api_error.h"
#include "serve/request/chat_request.h"

namespace flagscale::chat {

using serve::Json;

namespace {

// Given by the chat itself.
constexpr const char* kOwn[] = {"messages", "model", "stream", "stream_options"};

std::string at_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  return path.starts_with("~/") && home ? home + path.substr(1) : path;
}

Json parse_value(const std::string& text) {
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? Json(text) : value;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::kNotFound, "cannot read {}: {}", path, std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  refuse_other_encoding(text.str(), path);
  return text.str();
}

}  // namespace

void Conversation::say(const std::string& role, const std::string& text) {
  messages.push_back({{"role", role}, {"content", text}});
}

bool Conversation::take_back_answer() {
  if (!messages.empty() && messages.back()["role"] == "assistant") messages.erase(messages.size() - 1);
  return !messages.empty();
}

std::vector<std::string> Conversation::names() {
  std::vector<std::string> names;
  const Json schema = Json::parse(serve::chat_fields().schema());
  for (const auto& [name, field] : schema["properties"].items())
    if (std::find(std::begin(kOwn), std::end(kOwn), name) == std::end(kOwn)) names.push_back(name);
  return names;
}

void Conversation::set(const std::string& name, const std::string& value) {
  const std::vector<std::string> known = names();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    const std::string near = nearest(name, known);
    fail(ErrorKind::kInvalidArgument, "there is no setting {}{}", name,
         near.empty() ? "" : ": did you mean " + near + "?");
  }
  const Json parsed = parse_value(value);
  try {
    serve::chat_fields().read({{"messages", {{{"role", "user"}, {"content", ""}}}}, {name, parsed}});
  } catch (const serve::ApiError& error) {
    throw Error(ErrorKind::kInvalidArgument, error.what());
  }
  if (parsed.is_null())
    settings_.erase(name);
  else
    settings_[name] = parsed;
}

std::string Conversation::body(const std::string& model) const {
  Json all = Json::array();
  if (!system.empty()) all.push_back({{"role", "system"}, {"content", system}});
  for (const Json& message : messages) all.push_back(message);
  Json body = {{"model", model}, {"messages", std::move(all)}, {"stream", true}};
  body.update(settings_);
  return serve::dump(body);
}

void Conversation::save(const std::string& path) const {
  Json all = Json::array();
  if (!system.empty()) all.push_back({{"role", "system"}, {"content", system}});
  for (const Json& message : messages) all.push_back(message);
  std::ofstream file(at_home(path), std::ios::binary);
  file << Json{{"settings", settings_}, {"messages", std::move(all)}}.dump(2, ' ', false,
                                                                           Json::error_handler_t::replace)
       << '\n';
  if (!file.flush()) fail(ErrorKind::kResource, "cannot write {}: {}", path, std::strerror(errno));
}

void Conversation::load(const std::string& path) {
  Conversation read;
  try {
    const Json file = serve::parse_json(read_file(at_home(path)), {.depth = 128, .keys = 1024});
    const Json& all = file.is_array() ? file : file.is_object() ? file.value("messages", Json()) : Json();
    serve::read_messages(all);  // as a server would
    for (const Json& message : all)
      if (message["role"] == "system" && read.messages.empty())
        read.system = message["content"].get<std::string>();
      else
        read.messages.push_back(message);
    const Json settings = file.is_object() ? file.value("settings", Json::object()) : Json::object();
    for (const auto& [name, value] : settings.items()) read.set(name, value.dump());
  } catch (const serve::ApiError& error) {
    fail(ErrorKind::kCorrupt, "{} holds no conversation: {}", path, error.what());
  } catch (const Json::exception& error) {
    fail(ErrorKind::kCorrupt, "{} holds no conversation: {}", path, error.what());
  }
  *this = std::move(read);
}

}  // namespace flagscale::chat
