#pragma once
// LoRA adapters that are loaded beside a model, by name. Each lies in a slot of tensors that the step's plan
// knows (nn/lora.h), so that the rows of a batch may name different ones. Untouched slots cost no memory but
// on a GPU.
//
// Any thread may load, find and unload; the engine's thread reads the tensors of slots that its requests
// hold, and those are never written.

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/decoder/decoder.h"
#include "model/peft.h"
#include "plan/program.h"

namespace flagscale::engine {

// Whoever holds one keeps its slot.
struct Adapter {
  std::string name, path;
  int32_t slot = 0;
  uint64_t id = 0;  // never used twice: a name that is loaded again is another adapter
  int64_t rank = 0;
};

class Adapters {
 public:
  // most: slots; most_rank: of each; type: of A and B, the activations'. Gives every linear of the decoder
  // its tensors; before it is traced. slots: what each token of a step names.
  Adapters(Arena& arena, model::Decoder& decoder, int most, int64_t most_rank, DType type,
           const Tensor& slots);
  ~Adapters();

  int most() const { return most_; }
  int64_t most_rank() const { return most_rank_; }

  // Loads a PEFT folder; its memory must be bound. Throws Error: what open_peft() throws, kInvalidArgument
  // for a name that is taken, a module that the model has not, a shape that does not fit, a rank above
  // most_rank(), and when no slot is free.
  std::shared_ptr<const Adapter> load(const std::string& name, const std::string& folder);
  std::shared_ptr<const Adapter> find(const std::string& name) const;  // null: none of this name
  std::vector<std::shared_ptr<const Adapter>> list() const;            // in order of loading
  // Nobody finds it from here on; `gone` is called when the last request that holds it has let go, at once or
  // later on another thread. Throws Error{kNotFound}.
  void unload(const std::string& name, std::function<void()> gone = {});
  int in_use() const;  // slots, those included that an unloaded adapter's requests still hold

 private:
  struct Table;
  void check(const model::PeftAdapter& files, const std::string& folder) const;
  struct Place {
    const nn::LoraPart* part = nullptr;
    int64_t expert = 0;
    int64_t index = 0;  // of the part
  };
  std::string absence(const std::string& module) const;
  Place find_place(const std::string& module) const;  // null: the model has none
  void fill(const model::PeftAdapter& files, int32_t slot) const;
  void tell(int32_t slot, const std::vector<int32_t>& ranks, const std::vector<float>& scales) const;

  const int most_;
  const int64_t most_rank_;
  std::deque<nn::Lora> loras_;  // of each linear
  Tensor weights_;              // [slots, numbers of all parts' A and B]
  Tensor ranks_, scales_;       // [parts, slots]
  std::unordered_map<std::string, Place> places_;
  std::shared_ptr<Table> table_;
};

}  // namespace flagscale::engine
