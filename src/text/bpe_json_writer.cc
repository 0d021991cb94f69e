#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/bpe_json.h"

namespace flagscale::text {
namespace {

using Json = nlohmann::ordered_json;

Json byte_level(bool prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json step_json(const PreTokenizerStep& step, bool prefix_space) {
  switch (step.kind) {
    case PreTokenizerStep::kSplit:
      return {{"type", "Split"},
              {"pattern", {{"Regex", step.regex}}},
              {"behavior", "Isolated"},
              {"invert", false}};
    case PreTokenizerStep::kDigits:
      return {{"type", "Digits"}, {"individual_digits", true}};
    case PreTokenizerStep::kByteLevel:
      break;
  }
  return byte_level(prefix_space, step.use_regex);
}

Json pre_tokenizer_json(const BpeSpec& spec) {
  const auto steps = spec.other_steps.empty() ? pre_tokenizer_steps(spec.pre) : spec.other_steps;
  if (steps.size() == 1) return step_json(steps[0], spec.prefix_space);
  Json list = Json::array();
  for (const PreTokenizerStep& step : steps) list.push_back(step_json(step, false));
  return {{"type", "Sequence"}, {"pretokenizers", list}};
}

Json post_processor_json(const BpeSpec& spec) {
  if (spec.before.empty() && spec.after.empty()) return byte_level(false, true);
  Json specials = Json::object(), single = Json::array(), pair = Json::array();
  const auto add = [&](Json& list, int32_t id, int type) {
    std::string text(spec.tokens.text(id));
    for (const AddedToken& token : spec.added)
      if (token.id == id) text = token.content;
    specials[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    list.push_back({{"SpecialToken", {{"id", text}, {"type_id", type}}}});
  };
  const auto around = [&](Json& list, const char* sequence, int type) {
    for (const int32_t id : spec.before) add(list, id, type);
    list.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
    for (const int32_t id : spec.after) add(list, id, type);
  };
  around(single, "A", 0);
  around(pair, "A", 0);
  around(pair, "B", 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

Json added_json(const BpeSpec& spec) {
  Json list = Json::array();
  for (const AddedToken& token : spec.added)
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", false},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  return list;
}

Json model_json(const BpeSpec& spec) {
  Json vocab = Json::object(), merges = Json::array();
  // Its own insertion looks for the key in all that are there, which is quadratic; ours are known to differ.
  auto& entries = vocab.get_ref<Json::object_t&>();
  for (int32_t id = 0; id < spec.tokens.size(); ++id)
    if (const std::string_view text = spec.tokens.text(id); !text.empty())
      entries.emplace_back(std::string(text), id);
  std::vector<BpeMerge> ordered = spec.merges;
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return a.rank < b.rank; });
  for (const BpeMerge& merge : ordered)
    merges.push_back({std::string(spec.tokens.text(merge.left)), std::string(spec.tokens.text(merge.right))});
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string write_bpe_json(const BpeSpec& spec) {
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_json(spec);
  json["normalizer"] = spec.nfc ? Json{{"type", "NFC"}} : Json();
  json["pre_tokenizer"] = pre_tokenizer_json(spec);
  json["post_processor"] = post_processor_json(spec);
  json["decoder"] = byte_level(false, true);
  json["model"] = model_json(spec);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace flagscale::text
