#pragma once
// A real model, weights and all, that says what a test wants: attention and feed-forward are zero, each token
// has a vector of random signs in the head, and its embedding is the vector of the token that shall follow
// it. So greedy decoding walks a chosen chain, through the whole engine. A token has one successor, so the
// pieces of all answers must differ.
//
//   const ScriptedModel model({{"", {"Hel", "lo", "!"}}, {"2", {"Good", " day"}}});
//
// A prompt that ends in the byte '2' is answered "Good day", any other one "Hello!"; then the end-of-sequence
// token. Pieces are tokens of their own; every other text is bytes, one token each.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/runner.h"
#include "text/byte_alphabet.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"

namespace flagscale::engine::testing {

class MemoryWeights final : public io::WeightSet {
 public:
  void add_tensor(const std::string& name, std::vector<int64_t> shape, std::vector<float> values) {
    io::TensorInfo info;
    info.name = name;
    info.shape = std::move(shape);
    info.bytes = values.size() * sizeof(float);
    info.file = "memory";
    data_.push_back(std::move(values));
    add(std::move(info));
  }

 private:
  std::span<const std::byte> stored(size_t index) const override {
    return std::as_bytes(std::span(data_[index]));
  }
  std::vector<std::vector<float>> data_;
};

struct Script {
  std::string trigger;              // one byte: what a prompt's last token must be; empty: any other
  std::vector<std::string> pieces;  // of the answer
};

class ScriptedModel {
 public:
  static constexpr int64_t kHidden = 128;

  // sharpness: logits of the token that follows, above those of the others; 20 leaves sampling no choice.
  explicit ScriptedModel(const std::vector<Script>& scripts, std::string chat_template = {},
                         float sharpness = 20)
      : template_(std::move(chat_template)) {
    for (const uint8_t byte : text::kBytesInOrder)
      add_token(text::bytes_to_alphabet(std::string(1, static_cast<char>(byte))), 1);
    eos = add_token("<|end|>", 3);
    for (const Script& script : scripts)
      for (const std::string& piece : script.pieces) add_piece(piece);
    next_.assign(tokens_.size(), eos);
    for (const Script& script : scripts)
      if (script.trigger.empty()) follow(script, [](int32_t id) { return id < 256; });
    for (const Script& script : scripts)
      if (!script.trigger.empty()) {
        const int32_t trigger = ids_.at(text::bytes_to_alphabet(script.trigger));
        follow(script, [&](int32_t id) { return id == trigger; });
      }
    fill(sharpness);
  }

  std::unique_ptr<text::Tokenizer> tokenizer() const {
    text::GgufVocab vocab;
    vocab.model = "gpt2";
    vocab.pre = "gpt-2";
    for (const std::string& token : tokens_) vocab.tokens.push_back(token);
    vocab.types = types_;
    vocab.eos = eos;
    vocab.chat_template = template_;
    return text::tokenizer_from_gguf(vocab, "the scripted model");
  }

  std::unique_ptr<Runner> runner(RunnerOptions options = {}) const {
    if (options.threads == 0) options.threads = 1;
    return std::make_unique<Runner>(config, weights, options);
  }

  int32_t id(const std::string& piece) const { return ids_.at(piece); }

  model::DecoderConfig config;
  MemoryWeights weights;
  int32_t eos = 0;

 private:
  int32_t add_token(const std::string& token, int64_t type) {
    const auto [at, fresh] = ids_.emplace(token, static_cast<int32_t>(tokens_.size()));
    if (!fresh) throw std::logic_error("scripted model: \"" + token + "\" is a byte's name");
    tokens_.push_back(token);
    types_.push_back(type);
    return at->second;
  }

  // A piece of one byte is that byte's token.
  void add_piece(const std::string& piece) {
    if (!pieces_.insert(piece).second)
      throw std::logic_error("scripted model: two pieces are \"" + piece + "\"");
    if (piece.size() > 1)
      add_token(piece, 4);
    else
      ids_.emplace(piece, ids_.at(text::bytes_to_alphabet(piece)));
  }

  template <class Starts>
  void follow(const Script& script, Starts starts) {
    const int32_t first = script.pieces.empty() ? eos : ids_.at(script.pieces[0]);
    for (size_t id = 0; id < next_.size(); ++id)
      if (starts(static_cast<int32_t>(id))) next_[id] = first;
    for (size_t i = 0; i + 1 < script.pieces.size(); ++i)
      next_[static_cast<size_t>(ids_.at(script.pieces[i]))] = ids_.at(script.pieces[i + 1]);
    if (!script.pieces.empty()) next_[static_cast<size_t>(ids_.at(script.pieces.back()))] = eos;
  }

  void fill(float sharpness) {
    const auto vocab = static_cast<int64_t>(tokens_.size());
    config.vocab_size = vocab;
    config.hidden_size = kHidden;
    config.intermediate_size = 32;
    config.num_layers = 1;
    config.num_heads = config.num_kv_heads = 2;
    config.head_dim = 64;
    config.max_positions = 4096;
    config.rope.head_dim = config.head_dim;
    config.eos_ids = {eos};
    std::mt19937 random(7);
    std::vector<float> embedding(static_cast<size_t>(vocab * kHidden)), head(embedding.size());
    for (float& x : head) x = random() % 2 ? 1.f : -1.f;
    for (size_t t = 0; t < next_.size(); ++t)
      std::copy_n(head.begin() + next_[t] * kHidden, kHidden,
                  embedding.begin() + static_cast<std::ptrdiff_t>(t) * kHidden);
    for (float& x : head)
      x *= sharpness / (0.65f * kHidden);  // two of them meet by a third of their length at most
    const auto zeros = [&](const char* name, int64_t rows, int64_t columns) {
      weights.add_tensor(std::string("model.layers.0.") + name, {rows, columns},
                         std::vector<float>(static_cast<size_t>(rows * columns)));
    };
    const auto ones = [&](const char* name) {
      weights.add_tensor(name, {kHidden}, std::vector<float>(kHidden, 1.f));
    };
    weights.add_tensor("model.embed_tokens.weight", {vocab, kHidden}, std::move(embedding));
    weights.add_tensor("lm_head.weight", {vocab, kHidden}, std::move(head));
    for (const char* name : {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
                             "self_attn.o_proj.weight"})
      zeros(name, kHidden, kHidden);
    zeros("mlp.gate_proj.weight", 32, kHidden);
    zeros("mlp.up_proj.weight", 32, kHidden);
    zeros("mlp.down_proj.weight", kHidden, 32);
    for (const char* name : {"model.layers.0.input_layernorm.weight",
                             "model.layers.0.post_attention_layernorm.weight", "model.norm.weight"})
      ones(name);
  }

  std::string template_;
  std::vector<std::string> tokens_;
  std::vector<int64_t> types_;
  std::map<std::string, int32_t> ids_;
  std::set<std::string> pieces_;
  std::vector<int32_t> next_;
};

}  // namespace flagscale::engine::testing
