#pragma once
// One training step as planned programs over flat buckets: micro-batches accumulate gradients, an update
// applies them, an evaluation forms losses alone. Everything is traced and laid out before any memory exists;
// TrainStep::bytes() is then the exact peak, and a step allocates nothing.
//
// With a distributed optimizer this rank updates its share of the bucket (optimizer/share.h): it keeps
// moments and, where products are in bf16, master weights of that alone. The products' weights are whole, and
// so are gradients until they are added up, each rank's share there.
//
// What an optimizer keeps, and in bf16 the master weights, may lie in the host's memory
// (StepOptions::offload): an update takes it through the device's (state_stream.h).
//
// With a LoRA adapter only its matrices are trained; the model's weights are held once, in the type of the
// products, fp8's too, or packed in fewer bits, without gradients or moments.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "comm/process_group.h"
#include "data/train_data.h"
#include "device/cuda/rank_gpus.h"
#include "device/lanes.h"
#include "io/weights.h"
#include "model/decoder/decoder.h"
#include "op/cross_entropy/cross_entropy.h"
#include "plan/program.h"
#include "train/adapter.h"
#include "train/fp8_spec.h"
#include "train/host_mirrors.h"
#include "train/micro_graphs.h"
#include "train/optimizer/optimizer.h"
#include "train/state_stream.h"
#include "train/whole_step.h"

namespace flagscale::train {

struct StepOptions {
  // kBF16: bf16 weights and activations; master weights, moments and gradients as OptimizerSpec::types says.
  DType compute = DType::kF32;
  std::optional<Fp8Spec> fp8;  // with kBF16
  int64_t micro_batch_size = 1, sequence_length = 1024;
  int64_t micro_batches = 1;        // of a step on this rank: how large its CUDA graph becomes
  int64_t cu_seqlens_capacity = 0;  // entries; 0: micro_batch_size + 1
  model::RecomputeSpec recompute;
  float balance_loss = 0, z_loss = 0;  // coefficients of the losses of a mixture's routers
  bool evaluation = true;              // plan the evaluation program too
  OptimizerSpec optimizer;
  int threads = 0;  // 0: Team's choice
  DeviceKind device = DeviceKind::kCpu;
  std::optional<LoraSpec> lora;
  // With lora, how the frozen matrices are held: packed in one format (what `base` has in no more bits stays
  // as it is); none: as base's file has them where that takes less memory than `compute`.
  std::optional<op::Packing> frozen;
  std::shared_ptr<const io::WeightSet> base;  // null: nothing is known of it yet
  uint64_t seed = 1234;                       // of dropout
  int rank = 0, ranks = 1;                    // of those that share each global batch
  bool distributed_optimizer = false;  // each of several ranks keeps a share of what the optimizer does
  bool graphs = true;  // on a GPU, one rank: micro-batches that come again and updates are CUDA graphs
  // Share of this rank's weights, whole ones in the order of the buckets until they are as much, whose
  // numbers of the optimizer lie in the host's memory; their fp32 master weights too.
  double offload = 0;
  // Samples mask a part of their tokens: on a GPU the head then takes those that are learnt alone, each row
  // of which is copied. A CPU always does.
  bool masked = false;
};

// Of an fp32 or bf16 tensor in the host's memory.
float number(const Tensor& tensor, int64_t at);

// What a plan needs, before anything is allocated.
struct MemoryUse {
  size_t weights = 0, gradients = 0, optimizer = 0, inputs = 0, activations = 0;
  size_t frozen = 0;  // weights that are not trained
  size_t graphs = 0;  // on a GPU: about what its driver keeps of the launches of CUDA graphs
  // In the host's memory, not in the total. `staging`: the largest of what passes through it; with more than
  // two ranks on GPUs what they add up there. `copies`: for a save that the training does not wait for.
  size_t offloaded = 0, staging = 0, copies = 0;
  // Of main memory that has so much free at the start: beside what is offloaded, and 1 GiB more.
  bool copies_fit(size_t host) const { return copies == 0 || offloaded + copies + (size_t{1} << 30) <= host; }
  size_t total() const { return weights + gradients + optimizer + inputs + activations + frozen + graphs; }
};

// How ranks tell one another what each has made.
struct RankLink {
  comm::ProcessGroup* group;  // through the hosts' memory
  cuda::RankGpus* gpus;       // or, unless null, from GPU to GPU
};

class TrainStep {
 public:
  // Traces and plans. No memory is taken.
  TrainStep(model::DecoderConfig config, const StepOptions& options);
  ~TrainStep();

  MemoryUse memory() const;
  size_t bytes() const { return arena_.bytes(); }
  // Takes the memory, and pins what is offloaded. Throws Error{kResource} when there is none.
  void allocate(Allocator& allocator);
  size_t pinned_peak() const { return pinned_ ? pinned_->peak() : 0; }  // as handed out

  // After allocate(): what is trained from nothing (seeded); the model's weights from files. Where the
  // optimizer is distributed take_share() comes after.
  void initialise(uint64_t seed);
  void load(const io::WeightSet& weights);
  // The same of one frozen weight that is not packed: of the products' type, in the host's memory.
  void take_frozen(const nn::Parameter& parameter, const Tensor& values);

  // Where the next micro-batch's data goes.
  data::MicroBatch inputs();
  // After filling inputs: forward and backward. num_seqs: entries of cu_seqlens in use, less one. The
  // gradient is that of sum(loss * mask) / (sum(mask) * micro_batches), and of the routers' losses /
  // micro_batches; or, with batch_tokens, those of the global batch that are learnt, of sum(loss * mask) /
  // batch_tokens, and of the routers' losses * positions / batch_tokens (Megatron's). Returns the
  // micro-batch's sum of losses and of mask, and what its routers' losses are without coefficients.
  struct Sums {
    double loss = 0, tokens = 0;
    op::RouterLossValues router{};
  };
  // first_sample: of the run, for dropout. ranks: of a step's last micro-batch, the GPUs of ranks over which
  // the gradients are added up as soon as they are ready.
  Sums micro_batch(int64_t num_seqs, bool first, int64_t micro_batches, int64_t first_sample = 0,
                   double batch_tokens = 0, cuda::RankGpus* ranks = nullptr);
  Sums evaluate(int64_t num_seqs);

  // All of a global batch and its update behind one another, on a GPU: nothing is waited for in between, and
  // a step like the one before it is one graph. A loss or a norm that is not finite updates nothing.
  struct GlobalBatch {
    int64_t micro_batches;
    double batch_tokens;  // micro_batch()'s
    // Fills the inputs of a micro-batch; returns num_seqs.
    std::function<int64_t(int64_t micro_batch, const data::MicroBatch&)> fill;
  };
  struct Whole {
    Sums sums;
    float norm;
  };
  bool steps_whole(int64_t micro_batches) const;
  Whole whole_step(const GlobalBatch& batch, const op::StepScalars& step);

  // What the GPUs of two ranks read of one another, cuda::PeerGpus's room first.
  std::vector<std::span<std::byte>> exchanged() const;

  // Adds up what every rank has accumulated, in the host's memory: where ranks have shares, each its own.
  void reduce_gradients(comm::Reducer& reducer);

  // Norm of the gradients as accumulated; then the update of `step`. Two calls, so that a save may finish in
  // between.
  float gradient_norm(const RankLink* link = nullptr);  // where ranks have shares, to the others
  void update(const op::StepScalars& step);

  // Whether this rank updates a share, and whether it has the master weights of that alone.
  bool shares() const { return options_.distributed_optimizer && options_.ranks > 1; }
  bool shares_weights() const { return shares() && working_.defined(); }
  // After an update of shares: the products' weights as all ranks have made them.
  void gather_weights(const RankLink& link);

  double parameters_norm() const;        // of what is trained, which is whole here
  double add_squares(double sum) const;  // goes on with a sum of the squares of weights: those of this share
  std::string weights_checksum() const;  // of what all ranks have of them
  double zero_gradients() const;         // how many gradients are 0, of this share
  int64_t trained_parameters() const;
  int64_t graphs_replayed() const { return graphs_.replayed(); }  // of micro-batches
  int64_t updates_replayed() const { return replayed_update_.replayed(); }
  int64_t steps_replayed() const { return whole_.replayed(); }
  double gpu_seconds() const { return whole_.gpu_seconds(); }  // of the last step, WholeStep's

  model::Decoder& decoder() { return *decoder_; }
  const Adapter* adapter() const { return adapter_.get(); }  // null: the whole model is trained
  const Team& team() const { return team_; }
  const StepOptions& options() const { return options_; }
  double flops_per_step() const;  // of one micro-batch, as traced

  // What an optimizer keeps of a weight: "role:name" in checkpoints.
  struct Kept {
    std::string role;
    DType dtype;
    std::vector<int64_t> shape;
    std::span<std::byte> bytes;
    std::vector<Range> of_rank = {};  // which bytes of the whole each rank has; empty: this one all
  };
  // Memory of what is trained: of a parameter, or of one of its parts, by Hugging Face name, or what of it is
  // this rank's share; on a GPU copies of it as it is now, which the next call overwrites.
  struct State {
    const nn::Parameter* parameter;
    std::string name;
    std::vector<std::string> copies;  // further names of the same numbers in files
    std::vector<int64_t> shape;       // of the whole
    Tensor weight, grad;              // [size], fp32 or bf16; undefined: no number, or not asked for
    int64_t size;
    std::vector<Kept> kept;
    std::vector<Range> of_rank = {};  // which bytes of the weight each rank has; empty: all have all
  };
  std::vector<State> states(bool gradients = false) const;
  // The same without copies: on a GPU mirrors() fetches and puts what they name.
  std::vector<State> uncopied() const { return states_at_host(false); }
  // The same to load into: weights whole, and where there are shares nothing of what the optimizer keeps.
  std::vector<State> loading() const;
  const HostMirrors& mirrors() const { return mirrors_; }
  // To a GPU, what of loading() was filled, whose memory of the host is given back: the weight and, if
  // with_kept, what is kept of it.
  void put(const State& state, bool with_kept) const;
  // Whether main memory holds what a save copies, which has it from then on. Else it reads from the GPU.
  bool copies_fit() const;
  // After weights or an optimizer's state changed from outside: refreshes the bf16 copies. Where there are
  // shares, after what is kept did.
  void weights_changed();
  // After what loading() names was filled, on each rank alike: takes this rank's share of it. Before the
  // first micro-batch.
  void take_share();

  // Seconds an op's launches took in a micro-batch and an update.
  std::unordered_map<std::string, double> profile(int64_t num_seqs);

 private:
  void place_parameters();
  void place_slots();
  void place_frozen();
  void place_fp8();
  void round_weights(Recorder& recorder, const int64_t* keep) const;
  void trace_base();
  int64_t offloaded_end() const;
  void require_passable(size_t parameter) const;
  void place_stream(const std::vector<Tensor>& offloaded);
  bool stays_packed(nn::Parameter& parameter) const;
  void trace_micro_batch();
  void trace_evaluation();
  void trace_update();
  void trace_stream(const UpdateContext& context);
  TrainedWeight unplaced(size_t parameter, Range elements) const;
  TrainedWeight staged(size_t parameter, size_t piece) const;
  bool is_offloaded(size_t parameter) const { return stream_ && offsets_[parameter] < split_; }
  bool on_host() const { return options_.device == DeviceKind::kCpu; }
  Tensor host(const Tensor& tensor) const;  // itself on the CPU, its copy on a GPU
  void to_device(std::initializer_list<const Tensor*> tensors) const;
  void to_host(std::initializer_list<const Tensor*> tensors) const;
  Tensor forward(Context& context, const float* grad_scale, model::RecomputeSpec recompute);
  void find_ready();
  void run_micro_batch(const MicroGraphs::Values& values);
  bool replays() const { return !on_host() && options_.graphs && options_.ranks == 1; }
  void load_frozen(const io::WeightSet& weights);
  template <class Body>
  void for_stretches(const Tensor& bucket, Body body) const;
  void take_host_use(MemoryUse& use) const;
  void run_with(cuda::RankGpus& ranks);
  void sum_on(cuda::RankGpus& ranks, Range elements);
  void gather(const RankLink& link, const Tensor& of, const std::vector<Range>& of_rank);
  void gather_through_hosts(comm::ProcessGroup& group, const Tensor& of, const std::vector<Range>& of_rank);
  static Range blocks_of(Range share);
  Sums sums(const Tensor& loss, double tokens);
  struct Learnt {
    double tokens;  // the sum of the mask
    int64_t rows;   // of the head
  };
  // Of memory in the host's reach; which tokens they are is written to `order`.
  Learnt find_learnt(const Tensor& mask, const Tensor& order) const;
  void take_learnt(int64_t head_rows);
  MicroGraphs::Values values_of(int64_t num_seqs, bool first, int64_t micro_batches, const Learnt& learnt,
                                double batch_tokens) const;
  void take(const MicroGraphs::Values& values);
  size_t graph_bytes() const;
  void launch_whole(const std::vector<MicroGraphs::Values>& values);
  Kept kept(size_t parameter, size_t part, Range elements, size_t slot, const Slot& whole) const;
  std::vector<State> states_at_host(bool gradients) const;  // as they were last copied there
  State whole_state(size_t parameter, size_t part, Range elements) const;
  template <class Body>
  void for_parts(Body body) const;
  Tensor piece(const Tensor& bucket, size_t index, const Shape& shape) const;
  // Elements of the buckets, of one of them or of what is this rank's of one.
  Tensor stretch(const Tensor& bucket, Range elements) const;
  Range own() const { return shares_[static_cast<size_t>(shares() ? options_.rank : 0)]; }
  Tensor master(Range elements) const;       // in the host's reach
  Tensor loaded_into(Range elements) const;  // the same for loading()
  void cast_to_working(const Tensor& weights, Range elements);
  void cast_offloaded();

  StepOptions options_;
  Team team_;
  nn::Partition partition_;
  std::unique_ptr<model::Decoder> decoder_;
  op::DropoutRows dropout_rows_;  // read by kernels when they run
  std::unique_ptr<Adapter> adapter_;
  std::vector<nn::Parameter*> trained_;  // in order of use
  std::vector<nn::Parameter*> fp8_;      // whose products are in fp8
  struct BaseRounding {
    std::unique_ptr<Program> program;
    Tensor values;  // bf16, from outside
  };
  std::unordered_map<const nn::Parameter*, BaseRounding> base_roundings_;  // of an adapter's base
  std::unique_ptr<nn::PackedAttention> attention_;
  Arena arena_;
  Program micro_{"micro_batch"}, squares_{"gradient_squares"}, norm_{"gradient_norm"}, update_{"update"},
      evaluation_{"evaluation"};

  std::vector<int64_t> offsets_;  // of each trained parameter in the buckets, in elements
  int64_t bucket_size_ = 0;
  std::vector<Range> shares_;  // of each rank in the buckets; one where none share
  int64_t split_ = 0;          // where what is offloaded of this rank's ends in the buckets
  // Gradients up to `end` are ready after so many launches of a micro-batch.
  struct Ready {
    size_t launches;
    int64_t end;
  };
  std::vector<Ready> ready_;
  bool warm_ = false;
  MicroGraphs graphs_;
  ReplayedLaunches replayed_norm_, replayed_update_;
  WholeStep whole_;
  std::vector<MicroSlot> slots_;  // of a whole step's micro-batches
  Tensor loss_sum_;               // on a GPU: of all micro-batches so far
  Tensor master_;   // what is updated: whole; where it has a copy, of this rank's from split_ on
  Tensor working_;  // its copy for the products, in bf16; undefined: they take master_
  Tensor grads_, block_squares_, norm_value_;
  Tensor exchange_room_;  // of two ranks on GPUs
  Tensor step_;           // scalars_ in the device's memory
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<TrainedWeight> weights_;  // of each trained parameter
  std::vector<Tensor> kept_;            // the buckets that their slots are pieces of, without those offloaded
  Arena pinned_arena_;                  // of what is offloaded
  std::unique_ptr<Allocator> pinned_;
  Tensor offloaded_master_;
  std::unique_ptr<StateStream> stream_;  // null: nothing is offloaded
  std::unique_ptr<Lanes> lanes_;
  HostMirrors mirrors_;          // on a GPU: of what the host fills and reads
  mutable bool copied_ = false;  // those of a save have their memory
  std::unique_ptr<Allocator> shared_allocator_;
  Tensor pinned_norm_;         // on a GPU: from norm_value_
  Tensor pinned_step_;         // on a GPU: on its way to step_
  std::vector<float> losses_;  // of the last micro-batch's tokens
  Tensor tokens_, labels_, mask_, positions_, cu_seqlens_;
  Tensor order_;                              // of learnt_
  std::unique_ptr<op::LearntTokens> learnt_;  // null: the head takes all
  Tensor micro_loss_, evaluation_loss_;

  // Read by kernels when they run.
  int64_t num_seqs_ = 0, accumulate_ = 0;
  int64_t rounded_ = 0;  // whether the fp8 numbers are those of the weights as they are now
  float grad_scale_ = 1, router_scale_ = 1;
  op::StepScalars scalars_;
  op::RouterLosses router_;
};

}  // namespace flagscale::train
