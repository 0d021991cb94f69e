#include "io/gguf_weights.h"

#include <array>
#include <charconv>

#include "base/error.h"

namespace flagscale::io {

namespace {
struct Rename {
  std::string_view gguf, hf;
};
constexpr std::array<Rename, 3> kTop{
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<Rename, 19> kBlock{{{"attn_norm", "input_layernorm"},
                                         {"ffn_norm", "post_attention_layernorm"},
                                         {"attn_q", "self_attn.q_proj"},
                                         {"attn_k", "self_attn.k_proj"},
                                         {"attn_v", "self_attn.v_proj"},
                                         {"attn_output", "self_attn.o_proj"},
                                         {"attn_q_norm", "self_attn.q_norm"},
                                         {"attn_k_norm", "self_attn.k_norm"},
                                         {"ffn_gate", "mlp.gate_proj"},
                                         {"ffn_up", "mlp.up_proj"},
                                         {"ffn_down", "mlp.down_proj"},
                                         {"ffn_gate_inp", "mlp.gate"},
                                         {"ffn_gate_exps", "mlp.experts.gate_proj"},
                                         {"ffn_up_exps", "mlp.experts.up_proj"},
                                         {"ffn_down_exps", "mlp.experts.down_proj"},
                                         {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
                                         {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                                         {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                                         {"ffn_down_shexp", "mlp.shared_expert.down_proj"}}};

bool known(std::string_view architecture) {
  for (const char* name : {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe"})
    if (architecture == name) return true;
  return false;
}

// Mixtral's names, in a `llama` file with experts.
std::string as_mixtral(std::string name) {
  constexpr std::array<Rename, 5> kNames{{{".mlp.gate.", ".block_sparse_moe.gate."},
                                          {".mlp.experts.", ".block_sparse_moe.experts."},
                                          {".gate_proj.", ".w1."},
                                          {".up_proj.", ".w3."},
                                          {".down_proj.", ".w2."}}};
  for (const Rename& part : kNames)
    if (const size_t at = name.find(part.gguf); at != name.npos) name.replace(at, part.gguf.size(), part.hf);
  return name;
}

// The rows of q and k in `llama` files lie interleaved: row (head, 2j + i) holds Hugging Face's (head, i *
// d/2 + j).
class GgufWeights : public WeightSet {
 public:
  explicit GgufWeights(const std::string& path) : file_(path) {
    const std::string architecture = file_.architecture();
    for (const GgufTensor& tensor : file_.tensors()) {
      TensorInfo info = tensor.info;
      const std::string_view stored = tensor.info.name;
      if (known(architecture)) info.name = hf_name(stored);
      if (info.name.empty()) continue;
      if (architecture == "llama" && file_.integer("llama.expert_count").value_or(0) > 0)
        info.name = as_mixtral(std::move(info.name));
      if (known(architecture) && stored.find("_exps.") != stored.npos) {
        add_experts(info, file_.bytes(tensor));
        continue;
      }
      if (stored.find(".ffn_gate_inp_shexp.") != stored.npos && info.shape.size() == 1)
        info.shape.insert(info.shape.begin(), 1);  // a row, stored as a vector
      head_rows_.push_back(architecture == "llama" ? permuted_head_rows(tensor.info) : 0);
      add(std::move(info));
      stored_.push_back(file_.bytes(tensor));
    }
  }

 protected:
  std::span<const std::byte> stored(size_t index) const override { return stored_[index]; }
  bool in_order(size_t index) const override { return head_rows_[index] == 0; }
  int64_t stored_row(size_t index, int64_t i) const override {
    const int64_t d = head_rows_[index];
    if (d == 0) return i;
    const int64_t within = i % d, half = d / 2;
    return i - within + within % half * 2 + within / half;
  }

 private:
  // "model.layers.0.mlp.experts.up_proj.weight" [experts, out, in] as a matrix for each expert, where it
  // lies.
  void add_experts(const TensorInfo& all, std::span<const std::byte> bytes) {
    constexpr std::string_view kExperts = ".experts.";
    if (all.shape.size() != 3 || all.shape[0] < 1 || all.bytes % static_cast<uint64_t>(all.shape[0]) != 0)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' has {} dimensions, expected experts, rows and columns",
           all.file, all.name, all.shape.size());
    const size_t at = all.name.find(kExperts) + kExperts.size();
    const auto each = static_cast<size_t>(all.bytes) / static_cast<size_t>(all.shape[0]);
    for (int64_t e = 0; e < all.shape[0]; ++e) {
      TensorInfo one = all;
      one.name = fmt::format("{}{}.{}", all.name.substr(0, at), e, all.name.substr(at));
      one.shape.erase(one.shape.begin());
      one.bytes = each;
      head_rows_.push_back(0);
      add(std::move(one));
      stored_.push_back(bytes.subspan(static_cast<size_t>(e) * each, each));
    }
  }

  // The head size of a permuted tensor, 0 for any other.
  int64_t permuted_head_rows(const TensorInfo& info) const {
    const std::string_view name = info.name;
    const bool q = name.find(".attn_q.") != name.npos, k = name.find(".attn_k.") != name.npos;
    if ((!q && !k) || !name.starts_with("blk.")) return 0;
    int64_t heads = file_.required("llama.attention.head_count");
    if (k) heads = file_.integer("llama.attention.head_count_kv").value_or(heads);
    if (heads < 1 || info.rows() % heads != 0 || info.rows() / heads % 2 != 0 || info.rows() == 0)
      fail(ErrorKind::kCorrupt, "{}: tensor '{}' has {} rows, which are not {} heads of an even size",
           info.file, name, info.rows(), heads);
    if (block_size(info.encoding, info.dtype).elements > 1 && info.shape.size() < 2)
      fail(ErrorKind::kUnsupported, "{}: tensor '{}' is a vector in {}", info.file, name,
           io::name(info.encoding));
    return info.rows() / heads;
  }

  GgufFile file_;
  std::vector<std::span<const std::byte>> stored_;
  std::vector<int64_t> head_rows_;
};
}  // namespace

std::unique_ptr<WeightSet> open_gguf_weights(const std::string& path) {
  return std::make_unique<GgufWeights>(path);
}

std::string hf_name(std::string_view gguf_name) {
  if (gguf_name == "rope_freqs.weight" || gguf_name.ends_with(".attn_rot_embd")) return "";
  const size_t dot = gguf_name.rfind('.');
  if (dot == gguf_name.npos) return std::string(gguf_name);
  std::string_view base = gguf_name.substr(0, dot);
  const std::string_view suffix = gguf_name.substr(dot);  // ".weight", ".bias"
  if (!base.starts_with("blk.")) {
    for (const Rename& rename : kTop)
      if (base == rename.gguf) return std::string(rename.hf) + std::string(suffix);
    return std::string(gguf_name);
  }
  base.remove_prefix(4);
  const size_t end = base.find('.');
  int layer = 0;
  if (end == base.npos || std::from_chars(base.data(), base.data() + end, layer).ptr != base.data() + end ||
      end == 0)
    return std::string(gguf_name);
  for (const Rename& rename : kBlock)
    if (base.substr(end + 1) == rename.gguf)
      return fmt::format("model.layers.{}.{}{}", layer, rename.hf, suffix);
  return std::string(gguf_name);
}

GgufTokenizer gguf_tokenizer(const GgufFile& file) {
  GgufTokenizer result;
  const auto model = file.text("tokenizer.ggml.model");
  const GgufStrings* tokens = file.strings("tokenizer.ggml.tokens");
  if (!model || !tokens) fail(ErrorKind::kNotFound, "{}: the file carries no tokenizer", file.path());
  result.model = *model;
  result.pre = file.text("tokenizer.ggml.pre").value_or("");
  result.tokens = *tokens;
  if (const auto* merges = file.strings("tokenizer.ggml.merges")) result.merges = *merges;
  if (const auto* types = file.integers("tokenizer.ggml.token_type")) result.types = *types;
  if (const auto* scores = file.numbers("tokenizer.ggml.scores")) result.scores = *scores;
  const size_t count = result.tokens.size();
  if ((!result.types.empty() && result.types.size() != count) ||
      (!result.scores.empty() && result.scores.size() != count))
    fail(ErrorKind::kCorrupt, "{}: {} tokens, but {} types and {} scores", file.path(), count,
         result.types.size(), result.scores.size());
  const auto id = [&](std::string_view key) {
    const int64_t value = file.integer(key).value_or(-1);
    if (value == 0xffffffff) return int64_t{-1};  // ggml's «none»
    if (value >= static_cast<int64_t>(count))
      fail(ErrorKind::kCorrupt, "{}: '{}' is {}, beyond the {} tokens", file.path(), key, value, count);
    return value < 0 ? int64_t{-1} : value;
  };
  result.bos = id("tokenizer.ggml.bos_token_id");
  result.eos = id("tokenizer.ggml.eos_token_id");
  result.unk = id("tokenizer.ggml.unknown_token_id");
  result.pad = id("tokenizer.ggml.padding_token_id");
  result.add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(result.model == "llama");
  result.add_eos = file.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  result.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  result.chat_template = file.text("tokenizer.chat_template").value_or("");
  return result;
}

}  // namespace flagscale::io
