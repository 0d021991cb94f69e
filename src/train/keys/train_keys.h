#pragma once
// The train schema: every Megatron-named key that FlagScale's train configurations use, each in exactly one
// class (config/schema.h), and how a composed configuration becomes a TrainConfig and then TrainOptions.
//
// FlagScale flattens train.{system,model,data}: sections are only for the eye, a key is its last name (dashes
// are underscores), and of two keys of one name the later wins in the order system, model, data. Flags have
// presence semantics: `false` and absent are the same.

#include <string>
#include <vector>

#include "kernel/isa.h"
#include "train/keys/train_config.h"
#include "train/options.h"

namespace flagscale::config {
class Composed;
template <class Target>
class Schema;
}  // namespace flagscale::config

namespace flagscale::train {

// Where the keys stand in a configuration, in the order in which a later one of the same name wins.
const std::vector<std::string>& train_sections();

// The table. Made once.
const config::Schema<TrainConfig>& train_schema();

struct TrainReading {
  TrainConfig config;
  std::vector<std::string> ignored;  // names given that change nothing here: speed, logging elsewhere
  std::vector<std::string> notes;    // lines for the user: fp16 trains in bf16, a key that does nothing
  std::string ignored_line() const;  // "" when there are none
};

// Reads `train` and `experiment` of a composed configuration. Throws Error{kConfig} naming file, line and key
// for an unknown key (with the nearest name), a wrong type, a value out of range, a required value not set;
// Error{kUnsupported} naming every refused key at once.
// isa: what the run computes on; the notes tell what fp16 means there.
// weights: a path that counts as pretrained_checkpoint, whatever that is; empty: the configuration's.
TrainReading read_train_config(const config::Composed& composed, Isa isa = machine_isa(),
                               const std::string& weights = {});

// What the trainer runs on. end_of_document: the tokenizer's id that ends a document, -1 when it has none; it
// and the vocabulary come from the tokenizer, which this layer does not see. Throws Error{kConfig}.
struct TokenizerFacts {
  int64_t vocab_size = 0;        // 0: only the key vocab_size is known
  int32_t end_of_document = -1;  // -1: none
};
TrainOptions train_options(const TrainConfig& config, const TokenizerFacts& tokenizer,
                           Isa isa = machine_isa());

// What a run computes in: bf16 where asked for; fp16 stands for bf16 where `isa` multiplies it, else for
// fp32, which is as fast there.
DType compute_type(const PrecisionKeys& keys, Isa isa = machine_isa());

// What can be checked of a configuration without its tokenizer and data. Throws as train_options() does.
void check_train_config(const TrainConfig& config);

// Overrides that take a configuration's layout over several ranks or chips back, so that one trains it: the
// same result, more slowly. Empty where it has none.
std::vector<std::string> one_rank_overrides(const config::Composed& composed);

// docs/keys.md.
std::string train_keys_page();

}  // namespace flagscale::train
