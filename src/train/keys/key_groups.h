#pragma once
// The parts of the train schema, one file each.

#include "config/schema.h"
#include "train/keys/train_config.h"

namespace flagscale::train {

using TrainSchema = config::Schema<TrainConfig>;

void add_model_keys(TrainSchema& keys);
void add_moe_keys(TrainSchema& keys);
void add_optimizer_keys(TrainSchema& keys);
void add_batch_keys(TrainSchema& keys);
void add_data_keys(TrainSchema& keys);
void add_checkpoint_keys(TrainSchema& keys);
void add_adapter_keys(TrainSchema& keys);
void add_precision_keys(TrainSchema& keys);
void add_logging_keys(TrainSchema& keys);
void add_parallel_keys(TrainSchema& keys);      // more than one rank
void add_other_family_keys(TrainSchema& keys);  // images, latent attention

// What brings the values of keys that say a model's shape, where they are not given.
constexpr const char* kStartingModel = "a model to start from";

// A field of one of TrainConfig's parts: FIELD(model, num_layers).
#define FLAGSCALE_FIELD(part, field) ([](TrainConfig& c) -> auto& { return c.part.field; })

}  // namespace flagscale::train
