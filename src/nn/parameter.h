#pragma once
// What a model declares about its weights, once for training, serving and estimating: names as in Hugging
// Face files, shapes, how they shard, how they start. Memory is given later by whoever runs the model.

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "op/fp8_product/fp8_product.h"
#include "op/narrow_linear/narrow_weight.h"
#include "op/packed_linear/packed_linear.h"
#include "tensor/tensor.h"

namespace flagscale::nn {

// How a weight divides over tensor- and expert-parallel ranks.
enum class Shard { kReplicated, kColumn, kRow, kVocabulary, kExpert };

// Initial values, by Megatron's rules.
struct Init {
  enum class Kind { kNormal, kUniform, kOnes, kZeros } kind = Kind::kNormal;
  float std = 0;  // kNormal; kUniform: the bound on both sides
};

// Rows of a fused weight that a file stores under a name of their own.
struct Part {
  std::string name;
  int64_t rows;
};

struct Parameter {
  std::string name;  // of the fused whole; logical name in checkpoints and in randomness
  Shape shape;       // [out, in] or [n]
  Shard shard;
  Init init;
  bool decay;               // weight decay applies: matrices yes, biases and norms no
  std::vector<Part> parts;  // in row order; one part of the same name where nothing is fused

  Tensor value;             // dense weights
  op::PackedWeight packed;  // or a packed copy: what serving multiplies, or
  // training's frozen base: the type in which its rows are multiplied, unpacked some at a time.
  std::optional<DType> unpacked{};
  op::NarrowWeight narrow{};  // or eight or four bits an element, which a GPU serves
  op::Fp8Weight fp8{};        // training in fp8: what products take in place of value, rounded from it

  int64_t groups = 1;    // matrices (experts', adapters' A): equal runs of rows, each with the same parts
  bool precise = false;  // never quantised: the choice of experts hangs on it
  bool steady = false;   // of a dense copy: a row's product has the same bits in any batch (serving)
};

// A table computed from the configuration (rotary angles), not learned and not stored.
struct Constant {
  std::string name;
  Shape shape;  // fp32
  std::function<void(float*)> fill;
  Tensor value;
};

// Owns a model's parameters and constants at fixed addresses, in order of declaration.
class ParameterList {
 public:
  Parameter& add(Parameter parameter);
  Constant& add(Constant constant);
  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<Constant>& constants() { return constants_; }
  const std::deque<Constant>& constants() const { return constants_; }
  int64_t numel() const;

 private:
  std::deque<Parameter> parameters_;
  std::deque<Constant> constants_;
};

}  // namespace flagscale::nn
