#pragma once
// An adapter added into a model's weights, or taken out again: W ± scale B A, in fp32, some rows at a time.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "model/peft.h"

namespace flagscale::model {

class Merge {
 public:
  // sign: 1 adds, -1 takes out. Throws Error{kInvalidArgument} where the weights lack a projection or its
  // shape is another.
  Merge(PeftAdapter adapter, const io::WeightSet& weights, float sign);

  // Changes the rows from `begin` on of a tensor by its Hugging Face name. Any thread may call it.
  void operator()(const std::string& name, int64_t begin, std::span<float> rows) const;
  bool changes(const std::string& name) const { return targets_.contains(name); }

 private:
  struct Target {
    int64_t rank, in;
    std::vector<float> a, b;  // [rank, in]; [out, rank], times sign and scale
  };
  std::map<std::string, Target> targets_;  // by name of the weight
};

}  // namespace flagscale::model
