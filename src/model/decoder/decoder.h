#pragma once
// The decoder, written once: training gives it packed sequences and a tape, serving pages and no tape,
// estimating the null device.

#include <deque>

#include "model/decoder/config.h"
#include "nn/attention.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/moe.h"
#include "nn/norm.h"
#include "nn/parameter.h"
#include "nn/partition.h"
#include "op/cross_entropy/cross_entropy.h"

namespace flagscale::model {

// Which layers run their forward pass again during backward instead of keeping its activations.
enum class Recompute { kNone, kFull };
struct RecomputeSpec {
  Recompute granularity = Recompute::kNone;
  int first_layers = -1;  // only this many from the front (Megatron's block method); -1: all
};

class Decoder {
 public:
  Decoder(DecoderConfig config, nn::Partition& partition);
  Decoder(const Decoder&) = delete;

  const DecoderConfig& config() const { return config_; }
  nn::ParameterList& parameters() { return list_; }
  const nn::ParameterList& parameters() const { return list_; }
  const nn::Parameter& embedding() const { return *embedding_; }
  const nn::Parameter& head() const { return *head_; }  // the embedding, where they are tied
  // Gives a tied head a parameter of its own, read from the embedding's tensor: serving may hold it in fewer
  // bits.
  void separate_head();
  // The linears of its layers, in order: what adapters may add to.
  std::vector<nn::Linear*> linears();
  std::vector<nn::ExpertLinear*> expert_linears();

  // ids int32 [tokens] -> normed hidden states [tokens, hidden], for logits() or loss(). With recompute,
  // `attention` and `router` must live until the tape's backward() has run.
  // router: losses of the mixtures' routers, their statistics from router_statistics(); null: none.
  Tensor hidden(Context& context, const Tensor& ids, nn::AttentionContext& attention,
                RecomputeSpec recompute = {}, const op::RouterLosses* router = nullptr);
  Tensor router_statistics(Recorder& recorder) const;
  int num_mixtures() const { return num_mixtures_; }

  // Rows of hidden -> [rows, vocab] fp32.
  Tensor logits(Context& context, const Tensor& rows);

  // The loss of every token [tokens] fp32; see op::head_loss.
  Tensor loss(Context& context, const Tensor& hidden, const Tensor& labels, const Tensor& mask,
              const float* grad_scale, const op::LearntTokens* learnt = nullptr);

  // Floating-point operations to train one token of a sequence of `length`: 6 a weight, causal attention
  // halved.
  double train_flops_per_token(int64_t length) const;

 private:
  struct Layer {
    nn::Parameter *input_norm, *post_norm, *q_norm, *k_norm;
    nn::Linear qkv, o;
    nn::AttentionSpec attention;
    std::optional<nn::Mlp> mlp;  // one of the two
    std::optional<nn::Moe> moe;
  };
  struct Stream {  // the residual stream and what the last block adds to it
    Tensor x, delta;
  };
  nn::Parameter* declare_head(const std::string& tensor);  // as a file names it
  void declare_layer(int index);
  nn::Linear declare_linear(const std::string& prefix, const std::string& name, std::vector<nn::Part> parts,
                            int64_t in, bool bias, nn::Shard shard, float std);
  nn::Parameter* declare_matrix(const std::string& name, int64_t out, float std);
  nn::Parameter* declare_experts(const std::string& block, const std::string& name,
                                 const std::vector<nn::Part>& parts, int64_t in, float std);
  nn::Mlp declare_mlp(const std::string& prefix, int64_t size, bool bias, float out_std);
  nn::Moe declare_moe(const std::string& layer, float out_std);
  Stream run_layer(Context& context, const Layer& layer, Stream stream, nn::AttentionContext& attention,
                   const op::RouterLosses* router);
  Tensor attend(Context& context, const Layer& layer, const nn::Normed& normed,
                nn::AttentionContext& attention);

  DecoderConfig config_;
  nn::Partition& partition_;
  nn::ParameterList list_;
  nn::Parameter *embedding_, *norm_, *head_;
  nn::Constant *cos_, *sin_;
  std::deque<Layer> layers_;
  int num_mixtures_ = 0;
};

}  // namespace flagscale::model
