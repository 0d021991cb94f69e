#include <fmt/core.h>
#include <simdjson.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "data/documents.h"

namespace flagscale::data {

struct DocumentParser::Json {
  simdjson::dom::parser fast;
  nlohmann::json slow;  // holds what the views of a line parsed the slow way point to
};

namespace {

constexpr std::string_view kSpace = " \t\r\n\f\v";

std::string_view without_mark(std::string_view text) {  // a byte-order mark at the start of a file
  return text.starts_with("\xef\xbb\xbf") ? text.substr(3) : text;
}

// Empty, or why the value is no text.
std::string take_text(const simdjson::dom::element& value, std::vector<std::string_view>& pieces) {
  pieces.clear();
  std::string_view text;
  if (!value.get(text)) {
    pieces.push_back(text);
    return {};
  }
  simdjson::dom::array list;
  if (value.get(list)) return "is neither a string nor a list of strings";
  for (const auto& item : list) {
    if (item.get(text)) return "is a list that holds something other than strings";
    pieces.push_back(text);
  }
  return {};
}

std::string take_text(const nlohmann::json& value, std::vector<std::string_view>& pieces) {
  pieces.clear();
  if (value.is_string()) {
    pieces.push_back(value.get_ref<const std::string&>());
    return {};
  }
  if (!value.is_array()) return "is neither a string nor a list of strings";
  for (const auto& item : value) {
    if (!item.is_string()) return "is a list that holds something other than strings";
    pieces.push_back(item.get_ref<const std::string&>());
  }
  return {};
}

std::string_view without_newline(std::string_view text) {  // at its end
  return text.substr(0, text.find_last_not_of("\r\n") + 1);
}

int64_t newlines(std::string_view text) { return std::count(text.begin(), text.end(), '\n'); }

}  // namespace

DocumentParser::DocumentParser(InputFormat format, std::vector<std::string> keys)
    : format_(format), keys_(std::move(keys)), json_(std::make_unique<Json>()) {}
DocumentParser::~DocumentParser() = default;

// Fills the document's texts; returns why it cannot. `room` bytes past the line are readable.
std::string DocumentParser::parse_line(std::string_view line, size_t room, Document& document) {
  FLAGSCALE_CHECK(room >= simdjson::SIMDJSON_PADDING);
  simdjson::dom::element root;
  const auto error = json_->fast.parse(line.data(), line.size(), false).get(root);
  if (error == simdjson::UTF8_ERROR) return "not valid UTF-8";
  if (error) {
    // A second opinion: an integer beyond 64 bits or deep nesting in a field that nobody asked for is no
    // reason to refuse.
    json_->slow = nlohmann::json::parse(line, nullptr, false);
    if (json_->slow.is_discarded()) return fmt::format("not JSON: {}", simdjson::error_message(error));
    if (!json_->slow.is_object()) return "not a JSON object";
    for (size_t k = 0; k < keys_.size(); ++k) {
      const auto value = json_->slow.find(keys_[k]);
      if (value == json_->slow.end()) return fmt::format("has no key \"{}\"", keys_[k]);
      if (auto why = take_text(*value, document.texts[k]); !why.empty())
        return fmt::format("\"{}\" {}", keys_[k], why);
    }
    return {};
  }
  simdjson::dom::object object;
  if (root.get(object)) return "not a JSON object";
  std::vector<bool> found(keys_.size(), false);
  for (const auto& field : object)  // of a key given twice the last counts, as in Python
    for (size_t k = 0; k < keys_.size(); ++k) {
      if (field.key != keys_[k]) continue;
      found[k] = true;
      if (auto why = take_text(field.value, document.texts[k]); !why.empty())
        return fmt::format("\"{}\" {}", keys_[k], why);
    }
  for (size_t k = 0; k < keys_.size(); ++k)
    if (!found[k]) return fmt::format("has no key \"{}\"", keys_[k]);
  return {};
}

void DocumentParser::parse(const Block& block, const std::function<void(const Document&)>& document,
                           const std::function<bool(int64_t line, const std::string& why)>& broken) {
  Document current{block.begin.line, std::vector<std::vector<std::string_view>>(keys_.size())};
  const std::string_view all = block.text();
  std::string_view rest = block.begin.offset == 0 ? without_mark(all) : all;
  const bool parsed = format_ == InputFormat::kJsonLines;
  const bool json = parsed || format_ == InputFormat::kRecords;  // a line each
  const auto give = [&](std::string_view text) {
    if (text.find_first_not_of(kSpace) == std::string_view::npos) return true;
    std::string why;
    if (parsed) {
      why = parse_line(
          text, static_cast<size_t>(block.buffer.data() + block.buffer.size() - (text.data() + text.size())),
          current);
    } else if (simdjson::validate_utf8(text.data(), text.size())) {
      current.texts[0].assign(1, text);
    } else {
      why = "not valid UTF-8";
    }
    if (!why.empty()) return broken(current.line, why);
    document(current);
    return true;
  };
  if (format_ == InputFormat::kWholeFile) {
    give(rest);
    return;
  }
  // A document is a run of lines: one for JSON, up to a blank one for paragraphs.
  while (!rest.empty()) {
    size_t end = 0, next = 0;
    do {
      end = next;
      next = std::min(rest.find('\n', end), rest.size() - 1) + 1;
    } while (!json && next < rest.size() &&
             rest.substr(end, next - end).find_first_not_of(kSpace) != std::string_view::npos);
    if (!json && rest.substr(end, next - end).find_first_not_of(kSpace) != std::string_view::npos) end = next;
    if (!give(without_newline(rest.substr(0, json ? next : end)))) return;
    current.line += newlines(rest.substr(0, next));
    rest.remove_prefix(next);
  }
}

}  // namespace flagscale::data
