#pragma once
// Who answers: a model in this process, or a server that speaks OpenAI's API.

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"
#include "serve/local_model.h"

namespace flagscale::chat {

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::string& name() const = 0;
  // POSTs a body to /v1/chat/completions. piece: of the answer as it comes, and empty ten times a second
  // while nothing does; false breaks off.
  virtual net::Response ask(const std::string& body, const std::function<bool(std::string_view)>& piece) = 0;
};

std::unique_ptr<Model> local_model(std::unique_ptr<serve::LocalModel> model);

struct ServerOptions {
  std::string url;    // "http://127.0.0.1:8000/v1"; without a path /v1 is added
  std::string key;    // "": none is sent
  std::string model;  // "": the first that the server names
};
// Asks the server for its models. Throws Error naming the URL and what it answered.
std::unique_ptr<Model> server_model(const ServerOptions& options);

bool is_url(const std::string& text);

// A model's answer as its parts come.
struct AnswerParts {
  std::function<void(const std::string&)> reasoning, content;
  std::function<bool()> stop;  // asked between parts
};
struct Answer {
  std::string content;
  std::string finish;    // "stop", "length", …; "" when it was stopped here
  bool stopped = false;  // by AnswerParts::stop
};
// Throws Error with what the model's side says: kInvalidArgument for what it refuses, kResource otherwise.
Answer ask(Model& model, const std::string& body, const AnswerParts& parts);

}  // namespace flagscale::chat
