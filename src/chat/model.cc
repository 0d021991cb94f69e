#include "chat/model.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "net/client.h"
#include "serve/json.h"

namespace flagscale::chat {

using serve::Json;

namespace {

constexpr size_t kMostOfWhole = 8 << 20;  // of what comes before any event

class LocalSide final : public Model {
 public:
  explicit LocalSide(std::unique_ptr<serve::LocalModel> model) : model_(std::move(model)) {}
  const std::string& name() const override { return model_->name(); }
  net::Response ask(const std::string& body, const std::function<bool(std::string_view)>& piece) override {
    return model_->request("POST", "/v1/chat/completions", body, piece);
  }

 private:
  std::unique_ptr<serve::LocalModel> model_;
};

// What an answer that is no success says.
std::string reason_of(const net::Response& response, const std::string& body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("error")) {
    const Json& error = json["error"];
    if (error.is_string()) return error.get<std::string>();
    if (error.is_object() && error.contains("message") && error["message"].is_string())
      return error["message"].get<std::string>();
  }
  return fmt::format("{} {}", response.status, net::reason(response.status));
}

class ServerSide final : public Model {
 public:
  explicit ServerSide(const ServerOptions& options)
      : options_(options), url_(net::parse_url(options.url)), client_(url_, client_options()) {
    while (url_.path.ends_with('/')) url_.path.pop_back();
    if (url_.path.empty()) url_.path = "/v1";
    if (options_.model.empty()) options_.model = first_model();
  }
  const std::string& name() const override { return options_.model; }
  net::Response ask(const std::string& body, const std::function<bool(std::string_view)>& piece) override {
    idle_ = [&piece] { return piece({}); };
    try {
      return client_.stream("POST", url_.path + "/chat/completions", body, headers(), piece);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kInterrupted) throw;
      return {};
    }
  }

 private:
  net::ClientOptions client_options() {
    net::ClientOptions options;
    options.idle = [this] { return !idle_ || idle_(); };
    return options;
  }
  net::Headers headers() const {
    net::Headers headers = {{"Content-Type", "application/json"},
                            {"Accept", "text/event-stream, application/json"}};
    if (!options_.key.empty()) headers.emplace_back("Authorization", "Bearer " + options_.key);
    return headers;
  }
  std::string first_model() {
    const net::Response response = client_.send("GET", url_.path + "/models", {}, headers());
    if (response.status == 401)
      fail(ErrorKind::kInvalidArgument, "{} wants an API key: give it with --api-key or OPENAI_API_KEY",
           options_.url);
    const Json json = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
    if (response.status == 200 && json.is_object() && json.contains("data") && json["data"].is_array() &&
        !json["data"].empty() && json["data"][0].is_object() && json["data"][0].contains("id") &&
        json["data"][0]["id"].is_string())
      return json["data"][0]["id"].get<std::string>();
    fail(ErrorKind::kResource, "{} does not say which models it has ({}): name one with --model",
         options_.url, reason_of(response, response.body));
  }

  ServerOptions options_;
  net::Url url_;
  std::function<bool()> idle_;
  net::Client client_;
};

std::string text_at(const Json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

Json parsed(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    fail(ErrorKind::kResource, "the server's answer is none of OpenAI's API: '{}'", text.substr(0, 200));
  return json;
}

void take(const Json& event, const AnswerParts& parts, Answer& answer) {
  if (event.contains("error")) throw Error(ErrorKind::kResource, reason_of({}, event.dump()));
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array() || choices->empty()) return;
  const Json& choice = (*choices)[0];
  if (!choice.is_object()) return;
  if (const std::string finish = text_at(choice, "finish_reason"); !finish.empty()) answer.finish = finish;
  auto delta = choice.find("delta");
  if (delta == choice.end()) delta = choice.find("message");  // from a server that does not stream
  if (delta == choice.end() || !delta->is_object()) return;
  std::string reasoning = text_at(*delta, "reasoning_content");
  if (reasoning.empty()) reasoning = text_at(*delta, "reasoning");
  if (!reasoning.empty()) parts.reasoning(reasoning);
  const std::string content = text_at(*delta, "content");
  if (content.empty()) return;
  answer.content += content;
  parts.content(content);
}

}  // namespace

std::unique_ptr<Model> local_model(std::unique_ptr<serve::LocalModel> model) {
  return std::make_unique<LocalSide>(std::move(model));
}
std::unique_ptr<Model> server_model(const ServerOptions& options) {
  return std::make_unique<ServerSide>(options);
}

bool is_url(const std::string& text) { return text.starts_with("http://") || text.starts_with("https://"); }

Answer ask(Model& model, const std::string& body, const AnswerParts& parts) {
  Answer answer;
  net::EventStream events;
  std::string whole;  // until there is an event: what an error says, or an answer that is not streamed
  bool streams = false, done = false;
  const net::Response response = model.ask(body, [&](std::string_view piece) {
    if (!streams && whole.size() < kMostOfWhole) whole += piece;
    events.put(piece, [&](const std::string& data) {
      streams = true;
      done = done || data == "[DONE]";
      if (data != "[DONE]") take(parsed(data), parts, answer);
    });
    answer.stopped = answer.stopped || parts.stop();
    return !answer.stopped;
  });
  if (answer.stopped) return answer;
  if (response.status != 200) {
    const bool refused = response.status >= 400 && response.status < 500;
    throw Error(refused ? ErrorKind::kInvalidArgument : ErrorKind::kResource, reason_of(response, whole));
  }
  if (!streams && !whole.empty()) done = true, take(parsed(whole), parts, answer);
  if (!done && answer.finish.empty())
    fail(ErrorKind::kResource, "the answer broke off: the server ended it in the middle");
  return answer;
}

}  // namespace flagscale::chat
