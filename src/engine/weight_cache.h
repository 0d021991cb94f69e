#pragma once
// Packed weights kept between runs (cache_entry.h): a second start maps them and reads nothing.

#include <string>

#include "io/weights.h"
#include "model/decoder/decoder.h"

namespace flagscale::engine {

// What the packed copy depends on, as text; the decoder's segments must be declared.
std::string weight_cache_key(model::Decoder& decoder, const io::WeightSet& weights);

// Points every segment at the entry's memory, mapped read-only; false when there is none.
bool attach_cached_weights(model::Decoder& decoder, const std::string& key);

// Writes the segments' memory as an entry.
void store_cached_weights(model::Decoder& decoder, const std::string& key);

}  // namespace flagscale::engine
