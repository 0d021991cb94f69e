// FlagScale's train files one by one: which run here as they are, which with overrides that change their
// layout over ranks and nothing of the result, which are refused and why. Values that a user has to fill in
// are filled in.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "base/error.h"
#include "config/compose.h"
#include "config/yaml.h"
#include "train/keys/train_keys.h"

namespace flagscale::train::flagscale_files {
namespace {

namespace fs = std::filesystem;
using Overrides = std::vector<std::string>;

const fs::path kExamples = fs::path(FLAGSCALE_SOURCE_DIR) / "../shared/flagscale/examples";
const fs::path kGolden = fs::path(FLAGSCALE_SOURCE_DIR) / "tests/golden/train/flagscale_files.txt";

// The main file that chooses a train file, or else could.
std::string main_of(const fs::path& conf, const std::string& choice) {
  const std::regex chosen("\\n *- train: *" + choice + "\\s");
  std::string name = "train";
  for (const auto& entry : fs::directory_iterator(conf)) {
    const fs::path& file = entry.path();
    if (file.extension() == ".yaml" && std::regex_search(config::read_text_file(file.string()), chosen))
      name = std::min(file.stem().string(), name == "train" ? file.stem().string() : name);
  }
  return name;
}

std::string check(const config::ComposeRequest& request) {
  try {
    check_train_config(read_train_config(config::compose(request)).config);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string verdict(const fs::path& file) {
  const fs::path conf = file.parent_path().parent_path();
  const std::string choice = file.stem().string();
  config::ComposeRequest request{
      conf.string(),
      main_of(conf, choice),
      {"train=" + choice, "experiment.exp_dir=out", "++train.data.data_path=data"}};
  std::string error = check(request);
  const std::regex unset("required value (\\S+) is not set"),
      number("(train\\.\\S+) is 'x+', expected an integer"), elsewhere("(train\\.\\S+): there is no key");
  std::smatch match;
  for (int filled = 0; filled < 20; ++filled, error = check(request)) {
    if (std::regex_search(error, match, unset))
      request.overrides.push_back("++" + match[1].str() + "=given");
    else if (std::regex_search(error, match, number))
      request.overrides.push_back("++" + match[1].str() + "=32000");
    else if (std::regex_search(error, match, elsewhere))
      request.overrides.push_back("++" + match[1].str() + "=null");
    else
      break;
  }
  if (error.empty()) return "runs";
  const Overrides one_rank = one_rank_overrides(config::compose(request));
  request.overrides.insert(request.overrides.end(), one_rank.begin(), one_rank.end());
  const std::string left = check(request);
  if (left.empty()) return fmt::format("runs with {}", fmt::join(one_rank, " "));
  std::string reasons;  // "what (why)" of each line, without places
  std::istringstream in(left);
  const std::regex place("^ *\\S*\\.yaml:\\d+: "), title(".*not supported yet:$");
  for (std::string line; std::getline(in, line);)
    if (!std::regex_match(line, title))
      reasons += (reasons.empty() ? "" : "; ") + std::regex_replace(line, place, "");
  return "refused: " + reasons;
}

TEST(FlagScalesFiles, AsListed) {
  if (!fs::exists(kExamples)) GTEST_SKIP() << "../shared is not here";
  std::map<std::string, std::string> found;
  for (const auto& example : fs::directory_iterator(kExamples))
    if (fs::is_directory(example.path() / "conf/train"))
      for (const auto& file : fs::directory_iterator(example.path() / "conf/train"))
        found[file.path().lexically_relative(kExamples).string()] = verdict(file.path());
  EXPECT_EQ(found.size(), 35u);
  std::string text;
  for (const auto& [file, what] : found) text += file + ": " + what + "\n";
  if (std::getenv("FLAGSCALE_WRITE_GOLDEN")) std::ofstream(kGolden) << text;
  EXPECT_EQ(text, config::read_text_file(kGolden.string()));
}

}  // namespace
}  // namespace flagscale::train::flagscale_files
