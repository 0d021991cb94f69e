#include "train/keys/train_keys.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "config/compose.h"
#include "config/experiment_keys.h"
#include "config/required.h"
#include "config/resolve.h"
#include "config/schema.h"
#include "train/keys/key_groups.h"
#include "train/keys/starting_model.h"

namespace flagscale::train {
namespace {

TrainSchema make_schema() {
  TrainSchema keys;
  add_model_keys(keys);
  add_moe_keys(keys);
  add_optimizer_keys(keys);
  add_batch_keys(keys);
  add_data_keys(keys);
  add_checkpoint_keys(keys);
  add_adapter_keys(keys);
  add_precision_keys(keys);
  add_logging_keys(keys);
  add_parallel_keys(keys);
  add_other_family_keys(keys);
  return keys;
}

std::string place(const config::FlatKey& key) {
  const std::string where = describe(key.node->origin);
  return where.empty() ? key.path : where + ": " + key.path;
}

constexpr const char* kDeviceFlag = "; the flag --device selects it (auto, cpu or cuda)";

[[noreturn]] void unknown(const config::FlatKey& key) {
  const std::string near = train_schema().nearest_name(key.name);
  fail(ErrorKind::kConfig, "{} is no key of a training run{}", place(key),
       key.name == "device" ? kDeviceFlag
       : near.empty()       ? ""
                            : "; did you mean '" + near + "'?");
}

// Beside the sections, where a `serve` file has it: without a word the run would take another one.
void check_device(const config::Composed& composed) {
  const config::NodePtr device = config::select_raw(composed.root(), "device");
  if (!device || config::is_referred_to(*composed.root(), composed.hydra().get(), "device")) return;
  const std::string place = describe(device->origin);
  fail(ErrorKind::kConfig, "{}{}device is no key of a training run{}", place, place.empty() ? "" : ": ",
       kDeviceFlag);
}

class Reader {
 public:
  explicit Reader(TrainReading& reading) : reading_(reading) {}

  void read(const config::FlatKey& flat) {
    seen_.push_back(flat.name);
    const config::KeyInfo* key = train_schema().find(flat.name);
    if (key == nullptr) unknown(flat);
    if (key->key_class == config::KeyClass::kIgnored) return reading_.ignored.push_back(flat.name);
    const config::NodePtr value = value_of(flat);
    note_duplicates(*key, flat, *value);
    if (key->key_class == config::KeyClass::kRefused) {
      if (!config::KeyTable::is_harmless(*key, *value))
        refused_.push_back(fmt::format("{} ({})", place(flat), key->doc));
      return;
    }
    if (value->kind == config::Kind::kNull) return;
    reading_.config.places[key->name] = place(flat);
    try {
      train_schema().read(*key, *value, reading_.config);
    } catch (const Error& error) {
      fail(ErrorKind::kConfig, "{} {}", place(flat), error.what());
    }
  }

  bool seen(const std::string& name) const { return std::count(seen_.begin(), seen_.end(), name) > 0; }
  bool given(const std::string& name) const { return reading_.config.places.contains(name); }

  void refuse() const {
    if (!refused_.empty())
      fail(ErrorKind::kUnsupported, "this configuration needs what is not supported yet:\n  {}",
           fmt::join(refused_, "\n  "));
  }

  void require() const {
    const bool starts = reading_.config.start.has_value();
    for (const config::KeyInfo& key : train_schema().keys()) {
      if (!key.required || given(key.name) || (starts && !key.brought_by.empty())) continue;
      fail(ErrorKind::kConfig, "required value {} is not set: {}{}", key.name, key.doc,
           key.brought_by.empty() ? "" : no_model(key.brought_by));
    }
    const DataKeys& data = reading_.config.data;
    if (data.data_path.empty() && data.split_data_path[0].empty())
      fail(ErrorKind::kConfig,
           "required value train.data.data_path is not set; give it as an override: "
           "train.data.data_path=PREFIX");
  }

 private:
  // Why the model that would bring a key's value does not.
  std::string no_model(const std::string& brought_by) const {
    const std::string& weights = reading_.config.checkpoint.pretrained_checkpoint;
    return weights.empty()
               ? fmt::format("; {} would bring it (MODEL of flagscale train, or pretrained_checkpoint)",
                             brought_by)
               : fmt::format("; pretrained_checkpoint is {}, which does not exist", weights);
  }

  static config::NodePtr value_of(const config::FlatKey& flat) {
    try {
      return config::resolve(flat.node);
    } catch (const config::ResolutionError& error) {
      config::refuse_unresolved(flat.path, flat.node, error);
    }
  }

  // Of several places that give one key, under its name or an alias, the last read counts.
  void note_duplicates(const config::KeyInfo& key, const config::FlatKey& flat, const config::Node& value) {
    std::vector<config::FlatKey> earlier = flat.replaced;
    const auto other = last_.find(key.name);
    if (value.kind == config::Kind::kNull) return;  // as good as absent beside an alias
    if (other != last_.end()) earlier.push_back(other->second);
    for (const config::FlatKey& lost : earlier)
      if (const config::NodePtr was = resolved_or_null(lost.node); was && !equal(*was, value))
        reading_.notes.push_back(
            fmt::format("{} is {} and counts; {} is {} and changes nothing: they are one key", place(flat),
                        python_str(value), place(lost), python_str(*was)));
    last_.insert_or_assign(key.name, flat);
  }
  static config::NodePtr resolved_or_null(const config::NodePtr& node) {
    try {
      return config::resolve(node);
    } catch (const config::ResolutionError&) {
      return nullptr;
    }
  }

  TrainReading& reading_;
  std::vector<std::string> refused_, seen_;
  std::map<std::string, config::FlatKey> last_;
};

void read_experiment(const config::Composed& composed, ExperimentKeys& experiment) {
  if (const config::NodePtr name = composed.value("experiment.exp_name"))
    experiment.exp_name = python_str(*name);
  const config::NodePtr given = config::select_raw(composed.root(), "experiment.exp_dir");
  if (!given) return;
  const config::NodePtr folder = composed.value("experiment.exp_dir");
  if (folder) experiment.exp_dir = python_str(*folder);
  if (experiment.exp_dir.empty())
    fail(ErrorKind::kConfig, "{}: experiment.exp_dir is {}, expected the folder that everything is saved in",
         describe(given->origin),
         folder                ? "empty"
         : given->is_missing() ? "not set"
                               : "null");
}

// FlagScale's own defaults: everything below exp_dir.
void fill_folders(TrainConfig& config) {
  const std::string& base = config.experiment.exp_dir;
  if (base.empty()) return;
  if (config.checkpoint.save.empty()) config.checkpoint.save = base + "/checkpoints";
  if (config.checkpoint.load.empty()) config.checkpoint.load = base + "/checkpoints";
  if (config.logging.tensorboard_dir.empty()) config.logging.tensorboard_dir = base + "/tensorboard";
}

// Robots' trainings have keys of their own.
void check_backend(const config::Composed& composed) {
  const config::NodePtr backend = composed.value("experiment.task.backend");
  const std::string name = backend ? python_str(*backend) : "megatron";
  if (name == "robotics" || name == "pi0" || name == "lerobot")
    fail(
        ErrorKind::kUnsupported,
        "experiment.task.backend is {}, for robots: this engine trains language models, whose configurations "
        "name megatron",
        name);
}

void add_notes(const Reader& reader, Isa isa, TrainReading& reading) {
  const TrainConfig& config = reading.config;
  std::vector<std::string>& notes = reading.notes;
  if (config.precision.fp16)
    notes.push_back(compute_type(config.precision, isa) == DType::kBF16
                        ? "fp16: true trains in bf16, which needs no loss scale"
                        : "fp16: true trains in fp32: this processor has no bf16 instructions");
  if (!config.start && reader.given("num_query_groups") && !config.model.group_query_attention &&
      config.model.num_query_groups != config.model.num_attention_heads)
    notes.push_back(
        "num_query_groups changes nothing without group_query_attention: true (as in Megatron): every head "
        "has its own keys and values");
  // A flag that is false is as good as absent, so it cannot take back what another key asks for.
  const ModelKeys& model = config.model;
  if (!config.start && (!reader.given("disable_bias_linear") ||
                        (reader.given("add_qkv_bias") && !model.add_qkv_bias && !model.disable_bias_linear)))
    notes.push_back("every linear layer has a bias, as in Megatron, unless disable_bias_linear: true");
  if (reader.given("use_rotary_position_embeddings") && !model.use_rotary_position_embeddings &&
      model.position_embedding_type == "rope")
    notes.push_back(
        "use_rotary_position_embeddings: false changes nothing beside position_embedding_type: rope");
  if (reader.seen("ckpt_convert_format"))
    notes.push_back(
        "ckpt_convert_format: nothing is converted, for ckpt_convert_save is not set; this trains");
  if (config.checkpoint.save.empty())
    notes.push_back("nothing will be saved: neither experiment.exp_dir nor save is set");
  if (reader.given("start_weight_decay") && config.optimizer.weight_decay_incr_style == "constant")
    notes.push_back("start_weight_decay changes nothing while weight_decay_incr_style is constant");
  const OptimizerKeys& optimizer = config.optimizer;
  if (optimizer.optimizer_cpu_offload && device_of(isa) == DeviceKind::kCpu)
    notes.push_back("optimizer_cpu_offload changes nothing on the CPU: all is in main memory");
  if (reader.given("optimizer_offload_fraction") && !optimizer.optimizer_cpu_offload)
    notes.push_back("optimizer_offload_fraction changes nothing without optimizer_cpu_offload: true");
  if (!config.precision.fp8.empty() && device_of(isa) == DeviceKind::kCpu)
    notes.push_back("fp8 is slow on the CPU, which multiplies no such numbers: there it is for checks");
  if (reader.given("fp8_recipe") && config.precision.fp8.empty())
    notes.push_back("fp8_recipe changes nothing without fp8");
  const PrecisionKeys& precision = config.precision;
  if (precision.first_last_layers_bf16 && precision.fp8.empty())
    notes.push_back("first_last_layers_bf16 changes nothing without fp8");
  for (const char* layers : {"num_layers_at_start_in_bf16", "num_layers_at_end_in_bf16"})
    if (reader.given(layers) && (precision.fp8.empty() || !precision.first_last_layers_bf16))
      notes.push_back(fmt::format("{} changes nothing without {}", layers,
                                  precision.fp8.empty() ? "fp8" : "first_last_layers_bf16: true"));
  for (const char* dropout : {"attention_dropout", "hidden_dropout"})
    if (!config.start && !reader.seen(dropout))
      notes.push_back(fmt::format("{} is not set: Megatron's default is 0.1, here there is none", dropout));
}

}  // namespace

const std::vector<std::string>& train_sections() {
  static const std::vector<std::string> kSections{"train.system", "train.model", "train.data"};
  return kSections;
}

std::string TrainReading::ignored_line() const {
  if (ignored.empty()) return "";
  return fmt::format("these keys change nothing here (speed, or logging elsewhere): {}",
                     fmt::join(ignored, ", "));
}

std::string train_keys_page() {
  return "# Keys of a training run\n\n"
         "Written by `flagscale config keys --markdown`. `flagscale config explain KEY` tells the same about "
         "one key, and "
         "where its value came from in a configuration. Names are Megatron-LM's, dashes and underscores are "
         "alike, and only "
         "the last part of a path counts: `train.model.lr` and `train.model.optimizer.lr_scheduler.lr` are "
         "one key. A flag "
         "that is `false` is as good as absent. A model to start from (MODEL of `flagscale train`, or "
         "pretrained_checkpoint) "
         "brings its shape, from num_layers to its experts: defaults count without one.\n\n" +
         config::to_markdown(train_schema());
}

const config::Schema<TrainConfig>& train_schema() {
  static const TrainSchema kSchema = make_schema();
  return kSchema;
}

TrainReading read_train_config(const config::Composed& composed, Isa isa, const std::string& weights) {
  config::check_experiment(composed);
  check_backend(composed);
  check_device(composed);
  const config::NodePtr train = composed.value("train");
  if (!train || train->kind != config::Kind::kMap)
    fail(ErrorKind::kConfig, "the configuration has no 'train' mapping, so there is nothing to train");
  for (const config::Entry& entry : train->entries) {
    const std::string& name = entry.key.text;
    if (name != "system" && name != "model" && name != "data")
      fail(ErrorKind::kConfig,
           "{}: train.{} is unknown; training keys stand below train.system, train.model and train.data",
           describe(entry.value->origin), name);
  }
  TrainReading reading;
  Reader reader(reading);
  for (const config::FlatKey& key : config::flatten_keys(composed.root(), train_sections())) reader.read(key);
  reader.refuse();
  read_experiment(composed, reading.config.experiment);
  fill_folders(reading.config);
  if (std::string& named = reading.config.checkpoint.pretrained_checkpoint; !weights.empty()) {
    if (!named.empty() && named != weights)
      reading.notes.push_back(
          fmt::format("pretrained_checkpoint is {} and changes nothing: MODEL, {}, counts", named, weights));
    named = weights;
  }
  reading.config.start = starting_model(reading.config.checkpoint);
  reader.require();
  add_notes(reader, isa, reading);
  return reading;
}

}  // namespace flagscale::train
