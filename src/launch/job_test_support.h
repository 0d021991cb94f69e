#pragma once
// For tests: jobs made from configurations written in the test.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"
#include "config/compose.h"
#include "launch/adapter.h"

namespace flagscale::launch {

using Words = std::vector<std::string>;

class JobTest : public testing::Test {
 protected:
  // conf/config.yaml: the text, with experiment.exp_dir at <folder>/out.
  void configure(const std::string& yaml) { folder_.put("conf/config.yaml", yaml); }

  Job job(const Words& overrides = {}, const std::string& engine = "yaml") const {
    config::ComposeRequest request{folder_.path + "/conf", "config", {"++experiment.exp_dir=" + out()}};
    request.overrides.insert(request.overrides.end(), overrides.begin(), overrides.end());
    return make_job(Experiment(config::compose(request), request.folder), engine);
  }
  Words argv(const Words& overrides = {}, const std::string& engine = "yaml") const {
    return job(overrides, engine).nodes.at(0).command.argv;
  }
  std::string refusal(const Words& overrides = {}, const std::string& engine = "yaml") const {
    try {
      job(overrides, engine);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string out() const { return folder_.path + "/out"; }
  std::string hostfile(const std::string& text) const {
    return "experiment.runner.hostfile=" + folder_.put("hosts", text);
  }

  TemporaryFolder folder_;
};

// The values of `flag` in argv, one list a time that it is given.
inline std::vector<Words> values(const Words& argv, const std::string& flag) {
  std::vector<Words> all;
  for (auto it = std::find(argv.begin(), argv.end(), flag); it != argv.end();
       it = std::find(it, argv.end(), flag)) {
    Words found;
    for (++it; it != argv.end() && !it->starts_with("--"); ++it) found.push_back(*it);
    all.push_back(found);
  }
  return all;
}
inline std::string value(const Words& argv, const std::string& flag) {
  const auto all = values(argv, flag);
  return all.size() == 1 && all[0].size() == 1 ? all[0][0] : all.empty() ? "(absent)" : "(not one)";
}
inline bool has(const Words& argv, const std::string& flag) { return !values(argv, flag).empty(); }

}  // namespace flagscale::launch
