#include "model/decoder/decoder.h"

#include <fmt/core.h>

#include <cmath>

#include "op/elementwise/elementwise.h"
#include "op/rms_norm/rms_norm.h"

namespace flagscale::model {

using nn::Init;
using nn::Part;
using nn::Shard;

namespace {
Init normal(float std) { return {Init::Kind::kNormal, std}; }
constexpr Init kOnes{Init::Kind::kOnes, 0}, kZeros{Init::Kind::kZeros, 0};
}  // namespace

Decoder::Decoder(DecoderConfig config, nn::Partition& partition)
    : config_(std::move(config)), partition_(partition) {
  validate(config_);
  const auto& c = config_;
  embedding_ = &list_.add(nn::Parameter{"model.embed_tokens.weight",
                                        {c.vocab_size, c.hidden_size},
                                        Shard::kVocabulary,
                                        normal(c.init_std),
                                        true,
                                        {},
                                        {},
                                        {}});
  const Shape angles{c.max_positions, c.head_dim / 2};
  cos_ =
      &list_.add(nn::Constant{"rope.cos",
                              angles,
                              [this](float* p) { op::fill_rope_cos(config_.rope, config_.max_positions, p); },
                              {}});
  sin_ =
      &list_.add(nn::Constant{"rope.sin",
                              angles,
                              [this](float* p) { op::fill_rope_sin(config_.rope, config_.max_positions, p); },
                              {}});
  for (int i = 0; i < c.num_layers; ++i) declare_layer(i);
  norm_ = &list_.add(
      nn::Parameter{"model.norm.weight", {c.hidden_size}, Shard::kReplicated, kOnes, false, {}, {}, {}});
  head_ = c.tie_embeddings ? embedding_ : declare_head("lm_head.weight");
}

nn::Parameter* Decoder::declare_head(const std::string& tensor) {
  const auto& c = config_;
  return &list_.add(nn::Parameter{"lm_head.weight",
                                  {c.vocab_size, c.hidden_size},
                                  Shard::kVocabulary,
                                  normal(c.init_std),
                                  true,
                                  {{tensor, c.vocab_size}},
                                  {},
                                  {}});
}

void Decoder::separate_head() {
  if (head_ == embedding_) head_ = declare_head(embedding_->name);
}

std::vector<nn::Linear*> Decoder::linears() {
  std::vector<nn::Linear*> all;
  for (Layer& layer : layers_) {
    std::optional<nn::Mlp>& mlp = layer.moe ? layer.moe->shared() : layer.mlp;
    for (nn::Linear* linear : {&layer.qkv, &layer.o}) all.push_back(linear);
    if (mlp)
      for (nn::Linear* linear : {&mlp->gate_up, &mlp->down}) all.push_back(linear);
  }
  return all;
}

std::vector<nn::ExpertLinear*> Decoder::expert_linears() {
  std::vector<nn::ExpertLinear*> all;
  for (Layer& layer : layers_)
    if (layer.moe)
      for (nn::ExpertLinear* linear : layer.moe->linears()) all.push_back(linear);
  return all;
}

nn::Linear Decoder::declare_linear(const std::string& prefix, const std::string& name,
                                   std::vector<Part> parts, int64_t in, bool bias, Shard shard, float std) {
  int64_t out = 0;
  std::vector<Part> weights, biases;
  for (const Part& part : parts) {
    out += part.rows;
    weights.push_back({prefix + part.name + ".weight", part.rows});
    biases.push_back({prefix + part.name + ".bias", part.rows});
  }
  nn::Parameter& weight = list_.add(
      nn::Parameter{prefix + name + ".weight", {out, in}, shard, normal(std), true, weights, {}, {}});
  nn::Parameter* b = nullptr;
  if (bias)  // a row-sharded product adds its bias once, after the ranks' sum
    b = &list_.add(nn::Parameter{prefix + name + ".bias",
                                 {out},
                                 shard == Shard::kRow ? Shard::kReplicated : shard,
                                 kZeros,
                                 false,
                                 biases,
                                 {},
                                 {}});
  return {weight, b};
}

void Decoder::declare_layer(int index) {
  const auto& c = config_;
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const auto norm = [&](const std::string& name, int64_t size) {
    return &list_.add(
        nn::Parameter{prefix + name + ".weight", {size}, Shard::kReplicated, kOnes, false, {}, {}, {}});
  };
  const int64_t q = int64_t{c.num_heads} * c.head_dim, kv = int64_t{c.num_kv_heads} * c.head_dim;
  const float out_std =
      c.init_std / std::sqrt(2.f * static_cast<float>(c.num_layers));  // Megatron's scaled init

  nn::Parameter* input_norm = norm("input_layernorm", c.hidden_size);
  const auto qkv =
      declare_linear(prefix + "self_attn.", "qkv_proj", {{"q_proj", q}, {"k_proj", kv}, {"v_proj", kv}},
                     c.hidden_size, c.qkv_bias, Shard::kColumn, c.init_std);
  nn::Parameter* q_norm = c.qk_norm ? norm("self_attn.q_norm", c.head_dim) : nullptr;
  nn::Parameter* k_norm = c.qk_norm ? norm("self_attn.k_norm", c.head_dim) : nullptr;
  const auto o = declare_linear(prefix + "self_attn.", "o_proj", {{"o_proj", c.hidden_size}}, q, c.o_bias,
                                Shard::kRow, out_std);
  nn::Parameter* post_norm = norm("post_attention_layernorm", c.hidden_size);
  nn::AttentionSpec spec{index,
                         c.num_heads,
                         c.num_kv_heads,
                         c.head_dim,
                         1.f / std::sqrt(static_cast<float>(c.head_dim)),
                         index >= c.first_window_layer ? c.sliding_window : 0,
                         false,
                         cos_,
                         sin_};
  layers_.push_back({input_norm, post_norm, q_norm, k_norm, qkv, o, spec, {}, {}});
  if (c.moe.at(index))
    layers_.back().moe = declare_moe(prefix, out_std);
  else
    layers_.back().mlp = declare_mlp(prefix + "mlp.", c.intermediate_size, c.mlp_bias, out_std);
}

nn::Mlp Decoder::declare_mlp(const std::string& prefix, int64_t size, bool bias, float out_std) {
  const auto& c = config_;
  const auto gate_up = declare_linear(prefix, "gate_up_proj", {{"gate_proj", size}, {"up_proj", size}},
                                      c.hidden_size, bias, Shard::kColumn, c.init_std);
  const auto down =
      declare_linear(prefix, "down_proj", {{"down_proj", c.hidden_size}}, size, bias, Shard::kRow, out_std);
  return {gate_up, down, size};
}

// A small matrix that every rank holds and no format rounds.
nn::Parameter* Decoder::declare_matrix(const std::string& name, int64_t out, float std) {
  nn::Parameter matrix{name, {out, config_.hidden_size}, Shard::kReplicated, normal(std), true, {}, {}, {}};
  matrix.precise = true;
  return &list_.add(std::move(matrix));
}

// One weight of all experts; a file has a tensor an expert and part.
nn::Parameter* Decoder::declare_experts(const std::string& block, const std::string& name,
                                        const std::vector<Part>& parts, int64_t in, float std) {
  std::vector<Part> all;
  int64_t out = 0;
  for (int e = 0; e < config_.moe.experts; ++e)
    for (const Part& part : parts) {
      all.push_back({fmt::format("{}experts.{}.{}.weight", block, e, part.name), part.rows});
      out += part.rows;
    }
  nn::Parameter weight{
      block + "experts." + name + ".weight", {out, in}, Shard::kExpert, normal(std), true, all, {}, {}};
  weight.groups = config_.moe.experts;
  return &list_.add(std::move(weight));
}

nn::Moe Decoder::declare_moe(const std::string& layer, float out_std) {
  const auto& c = config_;
  const MoeConfig& m = c.moe;
  const ExpertNames& names = model_family(c.model_type).experts;
  const std::string block = layer + names.block;
  nn::Parameter* router_weight = declare_matrix(block + "gate.weight", m.experts, c.init_std);
  nn::Parameter* gate_up = declare_experts(block, "gate_up_proj", {{names.gate, m.size}, {names.up, m.size}},
                                           c.hidden_size, c.init_std);
  nn::Parameter* down = declare_experts(block, "down_proj", {{names.down, c.hidden_size}}, m.size, out_std);
  nn::Moe::Weights weights{router_weight, nn::ExpertLinear(*gate_up), nn::ExpertLinear(*down), {}, nullptr};
  if (m.shared_size > 0) {
    weights.shared = declare_mlp(block + "shared_expert.", m.shared_size, false, out_std);
    weights.shared_gate = declare_matrix(block + "shared_expert_gate.weight", 1, c.init_std);
  }
  op::RouterSpec router;
  router.top_k = m.top_k;
  router.normalise = m.normalise;
  return {std::move(weights), m.experts, router, num_mixtures_++};
}

Tensor Decoder::router_statistics(Recorder& recorder) const {
  return recorder.empty({num_mixtures_, 2 * config_.moe.experts + 1}, DType::kF32);
}

Tensor Decoder::attend(Context& context, const Layer& layer, const nn::Normed& normed,
                       nn::AttentionContext& attention) {
  const auto& c = config_;
  const int64_t q_size = int64_t{c.num_heads} * c.head_dim, kv_size = int64_t{c.num_kv_heads} * c.head_dim;
  const Tensor qkv = nn::of_norm(context, partition_, layer.qkv, normed);
  Tensor q = qkv.columns(0, q_size), k = qkv.columns(q_size, kv_size);
  const Tensor v = qkv.columns(q_size + kv_size, kv_size);
  if (layer.q_norm) {
    q = op::rms_norm(context, q, layer.q_norm->value, c.rms_norm_eps);
    k = op::rms_norm(context, k, layer.k_norm->value, c.rms_norm_eps);
  }
  const Tensor mixed = attention.attend(context, layer.attention, q, k, v);
  return partition_.exit_row(context, layer.o(context, mixed));
}

Decoder::Stream Decoder::run_layer(Context& context, const Layer& layer, Stream stream,
                                   nn::AttentionContext& attention, const op::RouterLosses* router) {
  const float eps = config_.rms_norm_eps;
  const nn::Normed in = nn::norm(context, stream.x, stream.delta, *layer.input_norm, eps, &layer.qkv);
  const Tensor attended = attend(context, layer, in, attention);
  const nn::Normed post =
      nn::norm(context, in.sum, attended, *layer.post_norm, eps, layer.moe ? nullptr : &layer.mlp->gate_up);
  if (layer.moe) return {post.sum, (*layer.moe)(context, partition_, post.y, router)};
  return {post.sum, (*layer.mlp)(context, partition_, post)};
}

Tensor Decoder::hidden(Context& context, const Tensor& ids, nn::AttentionContext& attention,
                       RecomputeSpec recompute, const op::RouterLosses* router) {
  Stream stream{partition_.scatter_tokens(context, partition_.look_up(context, ids, *embedding_)), {}};
  for (int i = 0; i < config_.num_layers; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    const bool again = recompute.granularity == Recompute::kFull && context.tape &&
                       (recompute.first_layers < 0 || i < recompute.first_layers);
    if (!again) {
      stream = run_layer(context, layer, stream, attention, router);
      continue;
    }
    // Only the sum is kept, so the block ends with its own addition.
    const Tensor x = stream.delta.defined() ? op::add(context, stream.x, stream.delta) : stream.x;
    const auto block = [this, &layer, &attention, router](Recorder& recorder, Tape* tape, const Tensor& in) {
      Context inner{recorder, tape};
      const Stream out = run_layer(inner, layer, {in, {}}, attention, router);
      return op::add(inner, out.x, out.delta);
    };
    stream = {context.tape->checkpoint(context.recorder, x, block), {}};
  }
  const nn::Normed normed = nn::norm(context, stream.x, stream.delta, *norm_, config_.rms_norm_eps, nullptr);
  return partition_.gather_tokens(context, normed.y);
}

Tensor Decoder::logits(Context& context, const Tensor& rows) {
  const Tensor columns =
      nn::Linear(*head_, nullptr)(context, partition_.enter_column(context, rows), DType::kF32);
  return partition_.exit_column(context, columns);
}

Tensor Decoder::loss(Context& context, const Tensor& hidden, const Tensor& labels, const Tensor& mask,
                     const float* grad_scale, const op::LearntTokens* learnt) {
  return partition_.vocabulary_loss(context, partition_.enter_column(context, hidden), *head_, labels, mask,
                                    grad_scale, learnt);
}

double Decoder::train_flops_per_token(int64_t length) const {
  const auto& c = config_;
  double weights = static_cast<double>(c.vocab_size * c.hidden_size);
  for (const nn::Parameter& p : list_.parameters())
    if (p.shape.rank() == 2 && p.shard != Shard::kVocabulary)
      weights += static_cast<double>(p.shape.numel()) * (p.shard == Shard::kExpert ? c.moe.top_k : 1) /
                 static_cast<double>(p.groups);
  // q k^T and p v: 2 products of 2 * d a pair of tokens, half of the pairs are masked; backward costs twice
  // forward.
  const double attention = 6.0 * c.num_layers * c.num_heads * c.head_dim * static_cast<double>(length);
  return 6 * weights + attention;
}

}  // namespace flagscale::model
