#include "app/bench_rows.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "app/bench_row.h"
#include "app/command.h"
#include "app/model_argument.h"
#include "app/numbers.h"
#include "base/does_not_fit.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/nearest.h"
#include "data/indexed_writer.h"
#include "device/cuda/cuda.h"
#include "launch/launcher/scratch_folder.h"
#include "train/bench.h"

namespace flagscale {
namespace bench_rows {
namespace {

namespace fs = std::filesystem;
using Ordered = nlohmann::ordered_json;

struct Flags {
  BenchRowsOptions options;
  std::vector<std::string> rows;
  bool json = false;
};

struct Measured {
  const BenchRow* row;
  BenchRowResult result;
  bool failed = false;
};

// Random tokens that every row's vocabulary has, gone with this.
class RandomTokens {
 public:
  RandomTokens() {
    constexpr int kDocuments = 1000, kLength = 4096, kVocabulary = 50304;
    data::IndexedWriter writer(prefix(), data::TokenType::kI32);
    std::mt19937 random(1);
    std::vector<int32_t> ids(kLength);
    for (int i = 0; i < kDocuments; ++i) {
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % kVocabulary);
      writer.add_sequence(ids);
      writer.end_document();
    }
    writer.commit();
    writer.remove_parts();
  }
  std::string prefix() const { return folder_.path + "/random_text_document"; }

 private:
  launch::ScratchFolder folder_{fs::temp_directory_path().string()};
};

std::vector<const BenchRow*> chosen(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const BenchRow& row : bench_row_list()) known.push_back(row.name);
  for (const std::string& name : names)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = nearest(name, known);
      fail(ErrorKind::kInvalidArgument, "--rows knows no {}; its rows are {}{}", name, fmt::join(known, ", "),
           near.empty() ? "" : "; did you mean " + near + "?");
    }
  std::vector<const BenchRow*> rows;
  for (const BenchRow& row : bench_row_list())
    if (names.empty() || std::find(names.begin(), names.end(), row.name) != names.end()) rows.push_back(&row);
  return rows;
}

const char* unit_of(const BenchRow& row) {
  switch (row.unit) {
    case BenchRow::Unit::kTeraflops:
      return "TFLOP/s";
    case BenchRow::Unit::kSeconds:
      return "s";
    case BenchRow::Unit::kTokens:
      break;
  }
  return "tokens/s";
}

std::string amount(const BenchRow& row, double value) {
  const int digits = row.unit == BenchRow::Unit::kSeconds ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, digits, unit_of(row));
}

std::string share(const BenchRowResult& r, double ceiling) {
  if (r.floor) return fmt::format("{:.0f} % of the floor", 100 * *r.floor);
  if (r.teraflops && ceiling > 0) return fmt::format("{:.0f} % of a product", 100 * *r.teraflops / ceiling);
  return "-";
}

// The row of one GPU beside a row of several; null where it is not among those measured.
const Measured* one_of(const Measured& m, const std::vector<Measured>& all) {
  for (const Measured& one : all)
    if (m.row->gpus > 1 && one.row->gpus == 1 && m.row->name.starts_with(one.row->name + "-") &&
        one.row->unit == m.row->unit && one.result.value > 0)
      return &one;
  return nullptr;
}

std::optional<double> times_one(const Measured& m, const std::vector<Measured>& all) {
  const Measured* const one = one_of(m, all);
  return one ? std::optional(m.result.value / one->result.value) : std::nullopt;
}

// 0: there is none.
double goal_of(const Measured& m, const std::vector<Measured>& all) {
  const Measured* const one = one_of(m, all);
  return one && m.row->times_one > 0 ? m.row->times_one * one->result.value : m.row->goal;
}

// 1 and more: reached. Of seconds fewer are better.
std::optional<double> reached(const Measured& m, const std::vector<Measured>& all) {
  const double goal = goal_of(m, all);
  if (goal == 0) return {};
  return m.row->unit == BenchRow::Unit::kSeconds ? goal / m.result.value : m.result.value / goal;
}

void print_row(const Measured& m, const std::vector<Measured>& all, double ceiling) {
  const BenchRowResult& r = m.result;
  if (!r.skipped.empty()) {
    fmt::print("{:14} {:44} {} {}\n", m.row->name, m.row->what,
               m.failed ? "failed:" : "not measured:", r.skipped);
    return;
  }
  const std::string memory = r.memory > 0 ? fmt::format("{:.1f} GB", r.memory * 1e-9) : "-";
  const auto ratio = reached(m, all);
  fmt::print("{:14} {:44} {:>15} {:>16} {:>6} {:>18} {:>9}", m.row->name, m.row->what,
             ratio ? amount(*m.row, goal_of(m, all)) : "-", amount(*m.row, r.value),
             ratio ? fmt::format("{:.2f}", *ratio) : "-", share(r, ceiling), memory);
  if (r.alone) fmt::print("  engine alone {}", amount(*m.row, *r.alone));
  if (const auto times = times_one(m, all)) fmt::print("  {:.2f} times one GPU", *times);
  if (r.idle_us) fmt::print(", idle {:.0f} us a step", *r.idle_us);
  fmt::print("\n");
}

void print_text(const std::vector<Measured>& all, double ceiling, const std::string& machine) {
  fmt::print("{}{}\n", machine,
             ceiling > 0 ? fmt::format(", a large product in bf16 {:.0f} TFLOP/s", ceiling) : "");
  fmt::print("{:14} {:44} {:>15} {:>16} {:>6} {:>18} {:>9}\n", "row", "", "goal", "measured", "ratio",
             "share", "memory");
  for (const Measured& m : all) print_row(m, all, ceiling);
}

void print_json(const std::vector<Measured>& all, double ceiling, const std::string& machine) {
  Ordered out{{"machine", machine}, {"product_tflops", ceiling}, {"rows", Ordered::array()}};
  for (const Measured& m : all) {
    Ordered row{{"row", m.row->name}, {"unit", unit_of(*m.row)}, {"goal", goal_of(m, all)}};
    if (row["goal"] == 0) row["goal"] = nullptr;
    const BenchRowResult& r = m.result;
    if (!r.skipped.empty()) {
      row[m.failed ? "failed" : "not_measured"] = r.skipped;
    } else {
      row["measured"] = r.value, row["planned_bytes"] = r.memory;
      if (const auto ratio = reached(m, all)) row["of_goal"] = *ratio;
      if (r.teraflops) row["tflops"] = *r.teraflops;
      if (r.floor) row["of_floor"] = *r.floor;
      if (r.alone) row["engine_alone"] = *r.alone;
      if (r.idle_us) row["idle_us"] = *r.idle_us;
      if (const auto times = times_one(m, all)) row["times_one_gpu"] = *times;
    }
    out["rows"].push_back(row);
  }
  fmt::print("{}\n", out.dump());
}

Measured measure(const BenchRow& row, const BenchRowsOptions& options) {
  Measured measured{.row = &row, .result = {}};
  try {
    measured.result = run_bench_row(row, options);
  } catch (const std::exception& error) {  // of a row; the others are measured
    const auto* const ours = dynamic_cast<const Error*>(&error);
    if (ours && ours->kind() == ErrorKind::kInterrupted) throw;
    measured.result.skipped = error.what();
    measured.failed = dynamic_cast<const DoesNotFit*>(&error) == nullptr;
  }
  return measured;
}

void run(Flags flags) {
  const auto rows = chosen(flags.rows);
  BenchRowsOptions& o = flags.options;
  const bool gpu = choose_device(o.device) == DeviceKind::kCuda;
  o.device = gpu ? "cuda" : "cpu";
  o.folder = example_conf("speed");
  if (o.folder.empty()) fail(ErrorKind::kNotFound, "examples/speed, whose YAMLs the rows are, is not here");
  std::vector<Measured> all;
  {
    const RandomTokens tokens;
    o.data = tokens.prefix();
    try {
      for (const BenchRow* row : rows) {
        info("{}: {}", row->name, row->what);
        all.push_back(measure(*row, o));
      }
    } catch (const Error& error) {  // Ctrl-C: what is measured is told
      if (error.kind() != ErrorKind::kInterrupted) throw;
    }
  }
  // Last, since it takes some of the GPU's memory until this process ends.
  const bool trained =
      std::any_of(all.begin(), all.end(), [](const Measured& m) { return m.result.teraflops; });
  const double ceiling = gpu && trained ? train::product_ceiling(DType::kBF16, DeviceKind::kCuda) * 1e-3 : 0;
  const std::string machine = gpu ? cuda::found().gpus.front() : "CPU";
  flags.json ? print_json(all, ceiling, machine) : print_text(all, ceiling, machine);
  throw_if_interrupted();
  for (const Measured& m : all)
    if (m.failed) throw ExitCode{1};
  if (std::none_of(all.begin(), all.end(), [](const Measured& m) { return m.result.skipped.empty(); }))
    fail(ErrorKind::kResource, "none of these rows can be measured here, as is said above for each");
}

}  // namespace
}  // namespace bench_rows

void add_bench_rows(CLI::App& bench) {
  auto* app = bench.add_subcommand(
      "rows", "the speed of a GPU beside its goals: trainings and servers, each a YAML of examples/speed");
  const auto flags = std::make_shared<bench_rows::Flags>();
  bench_rows::BenchRowsOptions& o = flags->options;
  std::vector<std::string> names;
  for (const auto& row : bench_rows::bench_row_list()) names.push_back(row.name);
  app->add_option("--rows", flags->rows,
                  fmt::format("of {}; all where nothing is said", fmt::join(names, ", ")))
      ->delimiter(',');
  app->add_option("--steps", o.steps, "timed iterations of a training, after two more")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--num-prompts", o.requests, "requests of the row that serves 1000/1000")
      ->check(between(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--model", o.model, "folder of LLaMA-3-8B's shape, for the rows of an 8B")
      ->capture_default_str();
  app->add_option("--device", o.device, "auto (a GPU where there is one), cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app->add_flag("--json", flags->json, "one JSON object");
  app->add_option("overrides", o.overrides, "key=value of every training, a smaller shape perhaps");
  app->footer("Examples:\n  flagscale bench rows\n  flagscale bench rows --rows 124m,1b --json");
  app->callback([flags] { bench_rows::run(*flags); });
}

}  // namespace flagscale
