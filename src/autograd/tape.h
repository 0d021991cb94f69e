#pragma once
// Reverse-mode differentiation over ops; knows no op. Forward, an op calls record() with its inputs, outputs
// and a closure; backward() walks the nodes in reverse and each closure launches the kernels of its gradient.
//
// A gradient has the geometry of its tensor's storage: columns() of a fused tensor (q, k, v of qkv) have as
// gradients the same columns of one gradient, written in place by buffer(). Parameters are leaves: their
// gradients accumulate in memory that the caller gives to watch() (flat buckets), across micro-batches too.

#include <functional>
#include <initializer_list>
#include <map>
#include <vector>

#include "kernel/recorder.h"

namespace flagscale {

class Tape;

// What a backward closure sees.
class Backward {
 public:
  Recorder& recorder;

  // The gradient of output i of the node; undefined when nothing depends on it.
  Tensor grad(int i) const { return grads_[static_cast<size_t>(i)]; }
  bool wants(const Tensor& input) const;

  // A tensor of input's shape to write its gradient into; then give() it. For columns of a fused tensor it
  // lies inside the fused gradient.
  Tensor buffer(const Tensor& input);
  // Adds gradient to what input has so far; takes it over when it is the first. No copy, so the same tensor
  // may be given to several inputs.
  void give(const Tensor& input, const Tensor& gradient);
  // What input's gradient is so far, for a kernel that adds to it in place, instead of buffer() and give();
  // undefined where there is none yet or it is not the tape's own.
  Tensor sum(const Tensor& input);

  // Where a weight's gradient accumulates: a leaf's memory, else a gradient that the tape owns. The kernel
  // overwrites when *accumulate is 0 and adds when it is not, or when accumulate is null. undefined grad:
  // frozen.
  struct Sink {
    Tensor grad;
    const int64_t* accumulate = nullptr;
  };
  Sink sink(const Tensor& parameter);

  // Of a gradient's numbers, for who asked Tape::measures(): the largest magnitude, as the op layer has it.
  // Whether it is asked of the gradient of these, which are a whole tensor together and have none yet.
  bool is_measured(std::initializer_list<Tensor> inputs) const;
  void give_largest(const Tensor& input, const Tensor& largest);  // after the gradient
  Tensor largest(const Tensor& output) const;                     // undefined: nobody found it

  // Calls use(x) where x can be read: now, or where the op that made it writes it once more
  // (Tape::remakes()); then x need not be kept. Of an op that gives x a gradient.
  using Use = std::function<void(Backward&, const Tensor&)>;
  void when_made_again(const Tensor& x, Use use);
  // For the op that made x: memory for it, undefined where nobody waits; then those who do are called.
  Tensor room_to_remake(const Tensor& x);
  void remade(const Tensor& x, const Tensor& again);

 private:
  friend class Tape;
  Backward(Recorder& r, Tape& tape, std::vector<Tensor> grads)
      : recorder(r), tape_(tape), grads_(std::move(grads)) {}
  Tape& tape_;
  std::vector<Tensor> grads_;
};

class Tape {
 public:
  using Closure = std::function<void(Backward&)>;

  // Marks a tensor as wanting a gradient that the caller can read with grad() after backward().
  void require(const Tensor& tensor);
  // A parameter: its gradient accumulates into grad. accumulate, read when kernels run, is 0 in the first
  // micro-batch of a step: then the first contribution overwrites.
  void watch(const Tensor& parameter, const Tensor& grad, const int64_t* accumulate);

  bool needs(const Tensor& tensor) const;  // some leaf or required tensor is below it
  bool is_leaf(const Tensor& tensor) const;

  // Records a node if any input needs a gradient; then the outputs need one too.
  void record(const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Closure closure);
  // The same of an op that added to `output` in place: its gradients are formed after those of the op that
  // made output, so that they may be added to them.
  void record_addition(const std::vector<Tensor>& inputs, const Tensor& output, Closure closure);

  // Of an op that was recorded: its backward closure can write this output once more.
  void remakes(const Tensor& output);

  // Of an op that was recorded, whose backward closure asks for the largest magnitude of this gradient.
  void measures(const Tensor& output);

  // For an op that forms gradients during its forward pass.
  Backward early(Recorder& recorder) { return Backward(recorder, *this, {}); }

  // Runs every node in reverse, starting from gradients already given for some tensors.
  void seed(const Tensor& tensor, const Tensor& gradient);
  void backward(Recorder& recorder);
  Tensor grad(const Tensor& tensor) const;

  // Runs forward without a tape now and again with one when its gradient is wanted: only input and output are
  // kept.
  using Function = std::function<Tensor(Recorder&, Tape*, const Tensor&)>;
  Tensor checkpoint(Recorder& recorder, const Tensor& input, Function forward);

  // How the tape adds two gradients of one tensor: set by the op layer. out = a + b.
  using Add = void(Recorder&, const Tensor& a, const Tensor& b, const Tensor& out);
  using Zero = void(Recorder&, const Tensor& out);
  explicit Tape(Add* add, Zero* zero) : add_(add), zero_(zero) {}

 private:
  friend class Backward;
  struct Node {
    std::vector<Tensor> outputs;
    Closure closure;
  };
  struct Region {
    int64_t begin, end;  // columns of the last dim
  };
  struct Value {         // one storage that takes part
    Tensor base;         // the whole, for the geometry of the gradient
    Tensor gradient;     // undefined: none yet
    bool owned = false;  // ours to write into
    bool remade = false, measured = false;
    Tensor largest;                      // of the gradient
    std::vector<Backward::Use> waiting;  // for it to be made again
    std::vector<Region> written;

    Region region(const Tensor& tensor) const;  // which columns of base the tensor is
    Tensor part(const Tensor& tensor) const;    // those columns of the gradient, in the tensor's shape
    bool has(Region region) const;
  };
  struct Leaf {
    Tensor grad;
    const int64_t* accumulate;
    int writes = 0;
  };
  Value* find(const Tensor& tensor);
  const Value* find(const Tensor& tensor) const;
  void add_value(const Tensor& tensor);
  Leaf* leaf(const Tensor& tensor) const;
  Tensor finished(Recorder& recorder, const Tensor& tensor);
  void make_owned(Recorder& recorder, Value& value);

  Add* add_;
  Zero* zero_;
  std::vector<Node> nodes_;
  std::map<const Storage*, Value> values_;
  using Leaves = std::map<std::pair<const Storage*, size_t>, Leaf>;
  std::shared_ptr<Leaves> leaves_ = std::make_shared<Leaves>();  // shared with the tapes of checkpoint()
};

}  // namespace flagscale
