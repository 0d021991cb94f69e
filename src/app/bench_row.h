#pragma once
// One row of `flagscale bench rows`: a command of this program on a YAML of examples/speed, and what it
// measured.

#include <optional>
#include <string>
#include <vector>

namespace flagscale::bench_rows {

struct BenchRow {
  enum class Kind { kTrain, kStart, kServe };
  enum class Unit { kTokens, kTeraflops, kSeconds };  // of goal and value

  std::string name{};  // as --rows has it
  std::string what{};  // in words
  Kind kind = Kind::kTrain;
  double goal = 0;  // 0: it is reported
  Unit unit = Unit::kTokens;
  std::vector<std::string> words{};  // kTrain, kStart: overrides; kServe: flags of `bench serve`
  std::string yaml{};                // kServe: in examples/speed/conf/serve
  std::vector<std::string> alone{};  // kServe: flags of `bench decode`, steps without HTTP
  bool loads_engine = false;         // kServe: `bench throughput` of the same requests is the engine alone
  bool prefill = false;              // kServe: prompts count, not answers
  bool needs_model = false;          // LLaMA-3-8B's folder
  int gpus = 1;
  double times_one = 0;   // several GPUs: the goal, of what one gives where that is measured too
  bool cold = false;      // kStart: no algorithm has been timed before
  double arithmetic = 1;  // share of a whole model's training that is computed
};

struct BenchRowsOptions {
  std::string folder;                             // examples/speed/conf
  std::string data;                               // PREFIX of tokens
  std::string model = "outputs/speed/llama3-8b";  // of LLaMA-3-8B's shape
  std::string device = "auto";
  int steps = 50;                        // timed
  int requests = 1024;                   // of the row that serves 1000/1000
  std::vector<std::string> overrides{};  // of every training
};

struct BenchRowResult {
  std::string skipped{};              // why; empty where it was measured
  double value = 0;                   // in the row's unit; of several steps the median
  std::optional<double> teraflops{};  // a GPU, in training
  std::optional<double> floor{};      // share of it, of the engine alone
  std::optional<double> alone{};      // value of the engine alone
  std::optional<double> idle_us{};    // of the GPU between two of its steps
  double memory = 0;                  // bytes planned; 0: not known
};

const std::vector<BenchRow>& bench_row_list();

// Runs it. Throws Error{kInterrupted}.
BenchRowResult run_bench_row(const BenchRow& row, const BenchRowsOptions& options);

}  // namespace flagscale::bench_rows
