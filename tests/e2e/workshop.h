#pragma once
// What the program's tests start from: a folder with a text (this project's own headers), a tokenizer and a
// dataset of it, made once a suite.

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/temporary_folder_test_support.h"
#include "tests/e2e/program.h"

namespace flagscale::e2e {

class Workshop : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  // Runs in the folder; a failure of the test where the exit code is not 0.
  static Result must(const std::vector<std::string>& words);

  // `flagscale run` on examples/aquila, and small on the folder's data. `name` keeps runs apart: exp_dir.
  static std::vector<std::string> configured();
  static std::vector<std::string> training(const std::string& name, const std::vector<std::string>& more);

  static std::string contents(const std::filesystem::path& file);
  static void write(const std::filesystem::path& file, const std::string& text);
  // The folder's tokenizer as a pair: vocab.json and merges.txt in a folder of that name.
  static void write_vocabulary_and_merges(const std::string& folder);
  // The losses that a training printed, by iteration.
  static std::vector<double> losses(const std::string& log);
  // Names of the files below a folder of the workshop that a program has to clean up when it fails.
  static std::vector<std::string> left_aside(const std::string& folder);

  static inline std::filesystem::path folder_;
  static inline std::optional<TemporaryFolder> temporary_;
};

}  // namespace flagscale::e2e
