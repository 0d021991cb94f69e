#pragma once
// Several ranks in a test, each a thread with a whole training run.

#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "comm/local/local_group.h"
#include "comm/tcp/socket.h"
#include "comm/tcp/tcp_group.h"
#include "train/run_test_support.h"

namespace flagscale::train::testing {

using Groups = std::vector<std::unique_ptr<comm::ProcessGroup>>;

inline TrainOptions small_run() {
  TrainOptions o = tiny_run();
  o.model.num_layers = 2;
  o.micro_batch_size = 1, o.global_batch_size = 12;
  o.lr.lr = 1e-3, o.lr.decay_samples = 72, o.lr.global_batch_size = 12;
  o.eval_iters = 2, o.eval_interval = 3;
  o.threads = 1;
  return o;
}

struct RankRun {
  TrainResult result;
  std::vector<float> weights;
  std::map<std::string, std::string> kept;  // the bytes that are here, by name in checkpoints
  std::string log, error;
};

inline RankRun run_rank(const TrainOptions& options, comm::ProcessGroup* group) {
  RankRun ran;
  try {
    Trainer trainer(options, group);
    auto [result, log] = run_printed(trainer);
    ran.result = std::move(result), ran.log = std::move(log);
    for (const TrainStep::State& state : trainer.step().states()) {
      for (int64_t i = 0; i < state.size; ++i) ran.weights.push_back(number(state.weight, i));
      for (const TrainStep::Kept& kept : state.kept)
        ran.kept[kept.role + ":" + state.name] = {reinterpret_cast<const char*>(kept.bytes.data()),
                                                  kept.bytes.size()};
    }
  } catch (const std::exception& error) {
    ran.error = error.what();
  }
  return ran;
}

inline std::vector<RankRun> run_ranks(const std::vector<TrainOptions>& options, const Groups& groups) {
  set_log_level(LogLevel::kWarning);
  std::vector<RankRun> ran(groups.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < groups.size(); ++r)
    threads.emplace_back([&, r] { ran[r] = run_rank(options[r], groups[r].get()); });
  for (std::thread& thread : threads) thread.join();
  return ran;
}

inline std::vector<RankRun> run_ranks(const TrainOptions& options, int ranks) {
  return run_ranks(std::vector(static_cast<size_t>(ranks), options), comm::make_local_groups(ranks));
}

// What the ranks keep together.
inline std::map<std::string, std::string> kept_by(const std::vector<RankRun>& ranks) {
  std::map<std::string, std::string> all;
  for (const RankRun& rank : ranks)
    for (const auto& [name, bytes] : rank.kept) all[name] += bytes;
  return all;
}

// The bytes of all files, by name: of all checkpoints where a run has saved.
inline std::map<std::string, std::string> files_below(const std::string& folder) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) {
      std::ostringstream bytes;
      bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      files[fs::relative(entry.path(), folder).string()] = bytes.str();
    }
  return files;
}

inline Groups tcp_groups(int size) {
  const int port = comm::listen_on(0).local_port();
  Groups groups(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      groups[static_cast<size_t>(r)] = comm::join({.job = "test", .port = port, .rank = r, .size = size});
    });
  for (std::thread& thread : threads) thread.join();
  return groups;
}

}  // namespace flagscale::train::testing
