#pragma once
// What has been said, and how the model is to answer: the body of a request, and a file.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "serve/json.h"

namespace flagscale::chat {

class Conversation {
 public:
  std::string system;                           // the system message; empty: none
  serve::Json messages = serve::Json::array();  // OpenAI's, without the system message

  void say(const std::string& role, const std::string& text);
  // Forgets the last answer; false when there is none to give again.
  bool take_back_answer();
  void forget() { messages = serve::Json::array(); }

  // A field of /v1/chat/completions. value: JSON, or else text; "null" takes the server's own again. Throws
  // Error{kInvalidArgument} naming the nearest field, or what the value may be.
  void set(const std::string& name, const std::string& value);
  const serve::Json& settings() const { return settings_; }
  static std::vector<std::string> names();  // of such fields

  // Of the request for the next answer.
  std::string body(const std::string& model) const;

  // A JSON object with "messages" (and "settings"), or a list of messages alone. load() leaves all as it was
  // when it throws: Error{kNotFound}, {kResource}, {kCorrupt} naming the file.
  void save(const std::string& path) const;
  void load(const std::string& path);

 private:
  serve::Json settings_ = serve::Json::object();
};

}  // namespace flagscale::chat
