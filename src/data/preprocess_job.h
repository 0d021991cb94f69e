#pragma once
// What a preprocessing run is asked to do: checked, and named for its journal.

#include <string>
#include <vector>

#include "data/preprocess.h"

namespace flagscale::data {

// All that decides the output's bytes, as text. Throws Error{kNotFound} for an input that is not there.
std::string describe_job(const PreprocessOptions& options);

// Throw Error: kInvalidArgument for what cannot be done, kNotFound for the output's folder; a Parquet file
// without the columns that are asked for by name.
void check_options(const PreprocessOptions& options);
void check_columns(const PreprocessOptions& options);

// Of Parquet.
std::vector<std::string> columns_to_read(const PreprocessOptions& options);

}  // namespace flagscale::data
