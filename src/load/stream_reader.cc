#include "load/stream_reader.h"

#include <simdjson.h>

namespace flagscale::load {

namespace dom = simdjson::dom;

namespace {

constexpr size_t kMostOfRest = 4096;

std::string_view text_of(dom::element choice) {
  std::string_view text;
  if (choice["text"].get(text) == simdjson::SUCCESS) return text;
  dom::element delta;
  if (choice["delta"].get(delta) != simdjson::SUCCESS) return {};
  for (const char* field : {"content", "reasoning_content"})
    if (delta[field].get(text) == simdjson::SUCCESS && !text.empty()) return text;
  return {};
}

}  // namespace

struct StreamReader::Parser {
  dom::parser json;
};

StreamReader::StreamReader() : parser_(std::make_unique<Parser>()) {}
StreamReader::~StreamReader() = default;

void StreamReader::reset() {
  line_.clear(), rest_.clear();
  started_ = ended_ = false;
  last_ = 0;
}

void StreamReader::put(std::string_view piece, double now, Record& record) {
  while (!piece.empty()) {
    const size_t end = piece.find('\n');
    line_ += piece.substr(0, end);
    if (end == std::string_view::npos) return;
    piece.remove_prefix(end + 1);
    std::string_view line = line_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("data:")) {
      line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
      if (line == "[DONE]")
        ended_ = true;
      else
        event(line, now, record);
    } else if (!line.empty() && line[0] != ':' && rest_.size() < kMostOfRest) {
      rest_ += line;
    }
    line_.clear();
  }
}

void StreamReader::event(std::string_view data, double now, Record& record) {
  dom::element event, error;
  if (parser_->json.parse(data.data(), data.size()).get(event) != simdjson::SUCCESS) {
    record.error = "an event is not JSON: " + std::string(data.substr(0, 200));
    return;
  }
  if (event["error"].get(error) == simdjson::SUCCESS) record.error = error_message(std::string(data));
  dom::array choices;
  if (event["choices"].get(choices) == simdjson::SUCCESS && choices.begin() != choices.end()) {
    // As vLLM counts: a chunk is a token, even one without text.
    if (started_)
      record.token_gaps.push_back(now - last_);
    else
      record.first_token = now;
    started_ = true;
    last_ = record.latency = now;
    record.text += text_of(*choices.begin());
    std::string_view reason;
    ended_ = ended_ || (*choices.begin())["finish_reason"].get(reason) == simdjson::SUCCESS;
  }
  dom::element usage;
  if (event["usage"].get(usage) != simdjson::SUCCESS || !usage.is_object()) return;
  int64_t count = 0;
  if (usage["completion_tokens"].get(count) == simdjson::SUCCESS) record.output_tokens = count;
  if (usage["prompt_tokens"].get(count) == simdjson::SUCCESS) record.prompt_tokens = count;
}

std::string error_message(const std::string& body) {
  dom::parser parser;
  dom::element json;
  std::string_view message;
  if (parser.parse(body).get(json) != simdjson::SUCCESS) return {};
  if (json["error"]["message"].get(message) != simdjson::SUCCESS) return {};
  return std::string(message);
}

}  // namespace flagscale::load
