#include "serve/generation/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "serve/json.h"
#include "text/unicode.h"

namespace flagscale::serve {

namespace {

// JSON has no infinity: what vLLM writes for a token that cannot come.
double finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

std::string label(const text::Tokenizer& tokenizer, int32_t id, const LogprobStyle& style) {
  return style.as_token_ids ? "token_id:" + std::to_string(id) : token_text(tokenizer, id);
}

Json one(const text::Tokenizer& tokenizer, int32_t id, float logprob, const LogprobStyle& style) {
  Json bytes = Json::array();
  for (const char c : token_bytes(tokenizer, id)) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", label(tokenizer, id, style)}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
}

size_t code_points(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string token_bytes(const text::Tokenizer& tokenizer, int32_t id) {
  if (auto bytes = tokenizer.encoder().token_bytes(id, false)) return *bytes;
  return tokenizer.decode({&id, 1}, false);
}

std::string token_text(const text::Tokenizer& tokenizer, int32_t id) {
  return text::utf8_lossy(token_bytes(tokenizer, id));
}

std::string chat_logprobs(const text::Tokenizer& tokenizer, const std::vector<engine::OutputToken>& tokens,
                          const LogprobStyle& style) {
  Json content = Json::array();
  for (const engine::OutputToken& token : tokens) {
    Json entry = one(tokenizer, token.id, token.logprob, style);
    entry["top_logprobs"] = Json::array();
    for (size_t i = 0; i < token.best.size() && static_cast<int>(i) < style.top; ++i)
      entry["top_logprobs"].push_back(one(tokenizer, token.best[i].id, token.best[i].logprob, style));
    content.push_back(std::move(entry));
  }
  return dump({{"content", std::move(content)}, {"refusal", nullptr}});
}

std::string completion_logprobs(const text::Tokenizer& tokenizer,
                                const std::vector<engine::OutputToken>& tokens, const LogprobStyle& style,
                                size_t& offset) {
  Json texts = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const engine::OutputToken& token : tokens) {
    std::string text = label(tokenizer, token.id, style);
    offsets.push_back(offset);
    offset += code_points(text);
    if (std::isnan(token.logprob)) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
    } else {
      Json top = Json::object();
      for (size_t i = 0; i < token.best.size() && static_cast<int>(i) < style.top; ++i) {
        const std::string key = label(tokenizer, token.best[i].id, style);
        if (!top.contains(key)) top[key] = finite(token.best[i].logprob);
      }
      if (!top.contains(text)) top[text] = finite(token.logprob);
      logprobs.push_back(finite(token.logprob));
      tops.push_back(std::move(top));
    }
    texts.push_back(std::move(text));
  }
  return dump({{"tokens", std::move(texts)},
               {"token_logprobs", std::move(logprobs)},
               {"top_logprobs", std::move(tops)},
               {"text_offset", std::move(offsets)}});
}

std::string prompt_logprobs(const text::Tokenizer& tokenizer,
                            const std::vector<engine::OutputToken>& tokens) {
  // Written as it goes: a long prompt has millions.
  const auto entry = [&tokenizer](int32_t id, float logprob, int rank) {
    return fmt::format("\"{}\":{{\"logprob\":{},\"rank\":{},\"decoded_token\":{}}}", id, finite(logprob),
                       rank, json_string(token_text(tokenizer, id)));
  };
  std::string list = "[null";
  for (const engine::OutputToken& token : tokens) {
    list += ",{";
    for (const engine::TokenLogprob& best : token.best) list += entry(best.id, best.logprob, best.rank) + ",";
    if (std::ranges::find(token.best, token.id, &engine::TokenLogprob::id) == token.best.end())
      list += entry(token.id, token.logprob, token.rank);
    else
      list.pop_back();
    list += '}';
  }
  return list + "]";
}

}  // namespace flagscale::serve
