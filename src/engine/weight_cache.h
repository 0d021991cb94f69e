#pragma once
// Packed weights kept on disk between runs, in the user's cache folder (XDG_CACHE_HOME, else
// ~/.cache)/flagscale/weights: a second start maps the file and reads nothing. An entry is named by what it
// was made from (files with their sizes and times, formats, layout), so a changed file or program makes a new
// one; it is written aside and renamed. Entries not used for longest go when the folder grows beyond
// FLAGSCALE_CACHE_BYTES (16 GiB; 0: keep nothing).
//
// A damaged or foreign entry is never an error: it is not used. What cannot be written is a warning.

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
