#pragma once
// A LoRA adapter in training: which of a decoder's projections get one, its matrices as parameters, and how
// they start. Everything else of the model is frozen.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "model/decoder/decoder.h"

namespace flagscale::train {

// Names of FlagScale's keys stand beside.
struct LoraSpec {
  // lora_target_modules. Megatron's names give a fused product one A (linear_qkv, linear_proj, linear_fc1,
  // linear_fc2), Hugging Face's each projection its own (q_proj, …); "all-linear" is all of the latter. A
  // longer name counts from its end ("layers.1.self_attn.v_proj", "decoder.layers.1.mlp.linear_fc1"), and
  // with a * it is a pattern for the whole name.
  std::vector<std::string> targets{"linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"};
  int64_t rank = 8;            // lora_dim
  double alpha = 16;           // lora_alpha; the product B A x is multiplied by alpha / rank
  double dropout = 0;          // lora_dropout
  bool dropout_after = false;  // lora_dropout_position: post
  // lora_in_init_method, lora_out_init_method: xavier, normal, kaiming, gaussian, zero; see init_of().
  std::string in_init = "xavier", out_init = "zero";
};

// Throws Error{kConfig} naming the key.
void validate(const LoraSpec& spec);

// How a matrix [out, in] of an adapter starts: "xavier" (normal, Glorot's variance) and "normal" (σ 0.2) as
// Megatron-Bridge has them, "kaiming" (uniform within 1/√in; Megatron's and PEFT's `true`), "gaussian"
// (normal, σ 1/rank; PEFT's), "zero".
nn::Init init_of(const std::string& method, int64_t out, int64_t in, int64_t rank);

class Adapter {
 public:
  // Finds the targets. Throws Error{kConfig} naming one that the model has not, and projections named twice.
  // rows: read when kernels run; may be null without dropout.
  Adapter(model::Decoder& decoder, const LoraSpec& spec, uint64_t seed, const op::DropoutRows* rows);
  Adapter(const Adapter&) = delete;

  // A and B of each target (of experts: of all of a layer) in order of use, "….q_proj.lora_A.weight" [rank,
  // in] and "….lora_B.weight" [out, rank]. The B of a fused product has its projections as parts.
  nn::ParameterList& parameters() { return list_; }
  // The A of a fused product belongs to several projections and is saved for each: the further names.
  const std::vector<std::string>& copies(const std::string& name) const;

  // Gives the decoder's linears the parameters' values, which exist now. dropout: while training. on_host:
  // the CPU trains it.
  void connect(bool dropout, bool on_host);

  const LoraSpec& spec() const { return spec_; }
  // PEFT's adapter_config.json.
  std::string peft_config(const std::string& base_model) const;

 private:
  struct Target {
    nn::Lora* lora;
    size_t part;
    nn::Parameter *a, *b;  // a: of all parts of lora where they share one
  };
  // Parts of one product, and the projections that each is of.
  struct Chosen {
    nn::LoraPart part;
    std::vector<nn::LoraPart> projections;
  };
  class Chooser;
  template <class Linear>
  void add_targets(Linear& linear, Chooser& chosen);
  void add_targets(nn::Lora& lora, const std::vector<Chosen>& chosen);
  nn::Parameter& add_a(const std::vector<Chosen>& chosen);
  nn::Parameter& add_b(const Chosen& chosen);

  LoraSpec spec_;
  uint64_t seed_;
  const op::DropoutRows* rows_;
  nn::ParameterList list_;
  std::deque<nn::Lora> loras_;
  std::vector<Target> targets_;
  std::map<std::string, std::vector<std::string>> copies_;
  std::map<std::string, size_t> projections_;  // of the model, by their short names
};

}  // namespace flagscale::train
