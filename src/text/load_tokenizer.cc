#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/bpe_encoder.h"
#include "text/bpe_json.h"
#include "text/files.h"
#include "text/number_encoder.h"
#include "text/rust_tokenizer.h"
#include "text/sentencepiece_encoder.h"
#include "text/tokenizer.h"
#include "text/vocab_files.h"

namespace flagscale::text {
namespace {

namespace fs = std::filesystem;

nlohmann::json read_json(const std::string& path) {
  if (!is_file(path)) return nlohmann::json::object();
  nlohmann::json json = nlohmann::json::parse(read_text_file(path), nullptr, false);
  if (!json.is_object()) fail(ErrorKind::kCorrupt, "{}: not a JSON object", path);
  return json;
}

// What stands beside the vocabulary in a Hugging Face folder.
struct Surroundings {
  explicit Surroundings(const std::string& folder)
      : config(read_json(folder + "/tokenizer_config.json")),
        specials(read_json(folder + "/special_tokens_map.json")) {
    if (is_file(folder + "/chat_template.jinja"))
      chat_template = read_text_file(folder + "/chat_template.jinja");
    if (!chat_template.empty() || !config.contains("chat_template")) return;
    const nlohmann::json& given = config["chat_template"];
    if (given.is_string()) chat_template = given.get<std::string>();
    if (!given.is_array()) return;
    for (const nlohmann::json& each :
         given)  // [{"name": "default", "template": ...}, {"name": "tool_use", ...}]
      if (each.is_object() && each.value("name", nlohmann::json()) == "default" &&
          each.value("template", nlohmann::json()).is_string())
        chat_template = each["template"].get<std::string>();
  }

  // "bos_token": "<s>", or {"content": "<s>", ...}
  std::string special(const char* key) const {
    for (const nlohmann::json* json : {&config, &specials}) {
      if (!json->contains(key)) continue;
      const nlohmann::json& value = (*json)[key];
      if (value.is_string()) return value.get<std::string>();
      if (value.is_object() && value.value("content", nlohmann::json()).is_string())
        return value["content"].get<std::string>();
    }
    return {};
  }
  bool flag(const char* key, bool fallback) const {
    return config.contains(key) && config[key].is_boolean() ? config[key].get<bool>() : fallback;
  }
  std::vector<AddedToken> added() const {
    std::map<int64_t, AddedToken> tokens;
    if (!config.contains("added_tokens_decoder") || !config["added_tokens_decoder"].is_object()) return {};
    for (const auto& item : config["added_tokens_decoder"].items()) {
      const std::string& key = item.key();
      const nlohmann::json& value = item.value();
      const bool digits = !key.empty() && key.size() <= 8 && key.find_first_not_of("0123456789") == key.npos;
      if (!digits || !value.is_object() || !value.value("content", nlohmann::json()).is_string()) continue;
      const int64_t id = std::stoll(key);
      if (id > static_cast<int64_t>(kMaxTokenId)) continue;
      const auto is = [&](const char* name) { return value.value(name, nlohmann::json()) == true; };
      tokens[id] = {static_cast<int32_t>(id),
                    value["content"].get<std::string>(),
                    is("special"),
                    false,
                    is("lstrip"),
                    is("rstrip")};
    }
    std::vector<AddedToken> list;
    for (auto& [id, token] : tokens) list.push_back(std::move(token));
    return list;
  }

  nlohmann::json config, specials;
  std::string chat_template;
};

TokenizerInfo info_of(const Encoder& encoder, const Surroundings& around, const std::string& source) {
  const auto id = [&](const char* key) {
    const std::string token = around.special(key);
    return token.empty() ? -1 : encoder.token_to_id(token).value_or(-1);
  };
  return {source, id("bos_token"), id("eos_token"), id("pad_token"), id("unk_token"), around.chat_template};
}

std::unique_ptr<Tokenizer> wrap(std::unique_ptr<const Encoder> encoder, TokenizerInfo info) {
  return std::make_unique<Tokenizer>(std::move(encoder), std::move(info));
}

std::unique_ptr<Tokenizer> load_json(const std::string& path, const Surroundings& around) {
  const std::string json = read_text_file(path);
  std::string why;
  auto spec = read_bpe_json(json, path, why);
  std::unique_ptr<const Encoder> encoder;
  try {
    encoder = !spec              ? make_rust_tokenizer(json)
              : spec->characters ? make_character_bpe(std::move(*spec), path)
                                 : make_bpe_encoder(std::move(*spec));
  } catch (const Error&) {
    rethrow_with(path);
  }
  TokenizerInfo info = info_of(*encoder, around, path);
  return wrap(std::move(encoder), std::move(info));
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path, const std::string& proto,
                                              const Surroundings& around) {
  const SentencePieceOptions options{around.flag("add_bos_token", true), around.flag("add_eos_token", false),
                                     around.added()};
  SentencePieceModel model = make_sentencepiece(proto, options, path);
  TokenizerInfo info = info_of(*model.encoder, around, path);
  if (info.bos < 0) info.bos = model.bos;
  if (info.eos < 0) info.eos = model.eos;
  if (info.pad < 0) info.pad = model.pad;
  if (info.unk < 0) info.unk = model.unk;
  return wrap(std::move(model.encoder), std::move(info));
}

// The specials that Qwen's and LLaMA-3's own code adds to their rank files.
std::vector<std::string> tiktoken_specials(int32_t ranks) {
  if (ranks == 151643) return {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  if (ranks == 128000)
    return {"<|begin_of_text|>",
            "<|end_of_text|>",
            "<|reserved_special_token_0|>",
            "<|reserved_special_token_1|>",
            "<|finetune_right_pad_id|>",
            "<|reserved_special_token_2|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>"};
  return {"<|endoftext|>"};
}

std::unique_ptr<Tokenizer> load_tiktoken(const std::string& path, const std::string& text,
                                         const Surroundings& around) {
  BpeSpec spec = read_tiktoken(text, path);
  spec.added = around.added();
  int32_t next = spec.tokens.size();
  if (spec.added.empty())
    for (const std::string& token : tiktoken_specials(next)) spec.added.push_back({next++, token, true});
  const bool llama3 = spec.tokens.size() == 128000;
  if (llama3) spec.before = {128000};
  const int32_t ranks = spec.tokens.size();
  auto encoder = make_bpe_encoder(std::move(spec));
  TokenizerInfo info = info_of(*encoder, around, path);
  if (info.bos < 0 && llama3) info.bos = ranks;
  if (info.eos < 0)
    info.eos = encoder->token_to_id(llama3 ? "<|end_of_text|>" : "<|endoftext|>").value_or(-1);
  return wrap(std::move(encoder), std::move(info));
}

std::unique_ptr<Tokenizer> load_vocab_and_merges(const std::string& vocab, const std::string& merges,
                                                 const std::string& special, const Surroundings& around) {
  std::vector<std::string> tokens =
      special.empty() ? std::vector<std::string>() : read_special_tokens(special);
  BpeSpec spec = read_vocab_and_merges(vocab, merges, {});
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (const std::string token = around.special(key); !token.empty()) tokens.push_back(token);
  tokens.emplace_back("<|endoftext|>");
  int32_t next = spec.tokens.size();
  for (AddedToken& token : around.added()) {
    next = std::max(next, token.id + 1);
    spec.added.push_back(std::move(token));
  }
  for (const std::string& token : tokens) {
    bool known = false;
    for (const AddedToken& added : spec.added) known |= added.content == token;
    const auto id = spec.tokens.find(token);
    const bool listed = token != "<|endoftext|>" || id;  // GPT-2's own end, where the vocabulary has it
    if (!known && listed) spec.added.push_back({id ? *id : next++, token, true});
  }
  auto encoder = make_bpe_encoder(std::move(spec));
  TokenizerInfo info = info_of(*encoder, around, vocab);
  const auto either = [&](int32_t given, const char* first, const char* second) {
    if (given >= 0) return given;
    return encoder->token_to_id(first).value_or(encoder->token_to_id(second).value_or(-1));
  };
  info.eos = either(info.eos, "</s>", "<|endoftext|>");  // Aquila's, GPT-2's
  info.bos = either(info.bos, "[CLS]", "<|endoftext|>");
  info.pad = either(info.pad, "<|endoftext|>", "<pad>");
  return wrap(std::move(encoder), std::move(info));
}

std::unique_ptr<Tokenizer> load_model_file(const std::string& path, const Surroundings& around) {
  const std::string bytes = read_text_file(path);
  return looks_like_tiktoken(bytes) ? load_tiktoken(path, bytes, around)
                                    : load_sentencepiece(path, bytes, around);
}

std::unique_ptr<Tokenizer> load_folder(const std::string& folder) {
  const Surroundings around(folder);
  if (fs::exists(folder + "/tokenizer.json")) return load_json(folder + "/tokenizer.json", around);
  if (fs::exists(folder + "/tokenizer.model")) return load_model_file(folder + "/tokenizer.model", around);
  if (is_file(folder + "/vocab.json") && is_file(folder + "/merges.txt")) {
    const std::string special = folder + "/special_tokens.txt";
    return load_vocab_and_merges(folder + "/vocab.json", folder + "/merges.txt",
                                 is_file(special) ? special : "", around);
  }
  std::map<std::string, bool> rank_files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".tiktoken") rank_files[entry.path().string()] = true;
  if (rank_files.size() == 1) return load_model_file(rank_files.begin()->first, around);
  fail(ErrorKind::kNotFound,
       "{}: no tokenizer here: looked for tokenizer.json, tokenizer.model, vocab.json with merges.txt, "
       "*.tiktoken",
       folder);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  if (is_folder(path)) return load_folder(path);
  std::error_code error;
  if (!fs::exists(path, error))
    fail(ErrorKind::kNotFound, "no tokenizer at {}: {}", path,
         error ? error.message() : "there is no such file or folder");
  const fs::path file(path);
  const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
  const std::string extension = file.extension().string();
  if (extension == ".json" && file.filename() == "vocab.json" && is_file(folder + "/merges.txt"))
    return load_folder(folder);
  if (extension == ".json") return load_json(path, Surroundings(folder));
  if (extension == ".model" || extension == ".tiktoken") return load_model_file(path, Surroundings(folder));
  fail(ErrorKind::kUnsupported, "{}: not a tokenizer file known here (.json, .model, .tiktoken, or a folder)",
       path);
}

namespace {

enum class Files { kPath, kVocabAndMerges, kModel, kNumbers };
struct MegatronType {
  const char* name;
  Files files;
};
// FlagScale's names end in FS; the others are Megatron-LM's.
constexpr MegatronType kMegatronTypes[] = {
    {"AquilaTokenizerFS", Files::kVocabAndMerges},
    {"GPT2BPETokenizer", Files::kVocabAndMerges},
    {"GPT2BPETokenizerFS", Files::kVocabAndMerges},
    {"HFGPT2TokenizerFS", Files::kPath},
    {"HFGPT2TokenizersFS", Files::kPath},
    {"QwenTokenizerFS", Files::kPath},
    {"HFTokenizerFS", Files::kPath},
    {"HFTokenizersFS", Files::kPath},
    {"Llama3TokenizerFS", Files::kPath},
    {"Qwen2TokenizerFS", Files::kPath},
    {"Qwen2VLTokenizer", Files::kPath},
    {"HuggingFaceTokenizer", Files::kPath},
    {"Llama2Tokenizer", Files::kModel},
    {"SentencePieceTokenizer", Files::kModel},
    {"GPTSentencePieceTokenizer", Files::kModel},
    {"TikTokenizer", Files::kModel},
    {"NullTokenizer", Files::kNumbers},
};

std::string need(const std::string& value, const std::string& type, const char* keys) {
  if (value.empty())
    fail(ErrorKind::kConfig, "required value {} is not set: tokenizer_type {} reads it", keys, type);
  return value;
}

std::string either(const std::string& first, const std::string& second) {
  return first.empty() ? second : first;
}

}  // namespace

std::unique_ptr<Tokenizer> load_megatron_tokenizer(const MegatronTokenizer& spec) {
  const MegatronType* type = nullptr;
  std::string names;
  for (const MegatronType& each : kMegatronTypes) {
    if (spec.type == each.name) type = &each;
    names += std::string(names.empty() ? "" : ", ") + each.name;
  }
  if (!type)
    fail(ErrorKind::kUnsupported, "train.data.tokenizer.tokenizer_type '{}' is not known here; these are: {}",
         spec.type, names);
  constexpr char kPathKeys[] = "train.data.tokenizer.tokenizer_path";
  switch (type->files) {
    case Files::kPath:
      return load_tokenizer(need(either(spec.tokenizer_path, spec.tokenizer_model), spec.type, kPathKeys));
    case Files::kModel:
      return load_tokenizer(need(either(spec.tokenizer_model, spec.tokenizer_path), spec.type,
                                 "train.data.tokenizer.tokenizer_model"));
    case Files::kVocabAndMerges:
      if (spec.vocab_file.empty() && !spec.tokenizer_path.empty()) return load_tokenizer(spec.tokenizer_path);
      need(spec.vocab_file, spec.type, "train.data.tokenizer.vocab_file");
      need(spec.merge_file, spec.type, "train.data.tokenizer.merge_file");
      return load_vocab_and_merges(spec.vocab_file, spec.merge_file, spec.special_tokens_file,
                                   Surroundings(fs::path(spec.vocab_file).parent_path().string()));
    case Files::kNumbers:
      break;
  }
  if (spec.vocab_size <= 0 || spec.vocab_size > static_cast<int64_t>(kMaxTokenId))
    fail(ErrorKind::kConfig, "NullTokenizer needs train.data.tokenizer.vocab_size, found {}",
         spec.vocab_size);
  const auto size = static_cast<int32_t>(spec.vocab_size);
  return wrap(make_number_encoder(size), {"NullTokenizer", -1, size, -1, -1, ""});
}

}  // namespace flagscale::text
