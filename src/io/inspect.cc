#include "io/inspect.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/checkpoint.h"
#include "io/gguf.h"

namespace flagscale::io {

namespace {
std::string type_of(const TensorInfo& info) {
  return std::string(info.encoding == Encoding::kPlain ? flagscale::name(info.dtype)
                                                       : io::name(info.encoding));
}

void require(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    fail(ErrorKind::kNotFound, "{}: {}", path, error ? error.message() : "no such file or folder");
}

// Long texts and arrays by their size alone.
Fact fact_of(const GgufValue& value) {
  struct Visitor {
    Fact operator()(int64_t x) const { return x; }
    Fact operator()(double x) const { return x; }
    Fact operator()(bool x) const { return x; }
    Fact operator()(std::string_view x) const {
      return x.size() <= 60 ? std::string(x) : fmt::format("{} bytes of text", x.size());
    }
    Fact operator()(const GgufInts& x) const { return fmt::format("{} integers", x.size()); }
    Fact operator()(const GgufFloats& x) const { return fmt::format("{} numbers", x.size()); }
    Fact operator()(const GgufStrings& x) const { return fmt::format("{} strings", x.size()); }
  };
  return std::visit(Visitor{}, value);
}

// GGUF's numbers are of single precision: the digits that it has.
double short_number(double x) { return std::strtod(fmt::to_string(static_cast<float>(x)).c_str(), nullptr); }

std::string text_of(const Fact& fact) {
  if (const auto* number = std::get_if<double>(&fact)) return fmt::to_string(static_cast<float>(*number));
  return std::visit([](const auto& x) { return fmt::format("{}", x); }, fact);
}

nlohmann::ordered_json json_of(const Fact& fact) {
  if (const auto* number = std::get_if<double>(&fact)) return short_number(*number);
  return std::visit([](const auto& x) { return nlohmann::ordered_json(x); }, fact);
}

void inspect_checkpoint(Inspection& result) {
  const Checkpoint checkpoint(result.path);
  const TrainingState& state = checkpoint.state();
  result.path = checkpoint.folder();
  result.format = fmt::format("checkpoint version {}", checkpoint.version());
  result.facts = {{"iteration", state.iteration},
                  {"consumed_samples", state.consumed_samples},
                  {"threads", int64_t{state.threads}},
                  {"instruction_set", state.instruction_set}};
  result.tensors = checkpoint.tensors();
}

void inspect_gguf(Inspection& result) {
  const GgufFile file(result.path);
  result.format = fmt::format("GGUF version {}", file.version());
  for (const auto& [key, value] : file.metadata()) result.facts.emplace_back(key, fact_of(value));
  for (const GgufTensor& tensor : file.tensors()) result.tensors.push_back(tensor.info);
}

std::string size_text(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 10'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}
}  // namespace

uint64_t Inspection::bytes() const {
  uint64_t result = 0;
  for (const TensorInfo& info : tensors) result += info.bytes;
  return result;
}

int64_t Inspection::parameters() const {
  int64_t result = 0;
  for (const TensorInfo& info : tensors)
    if (info.name.find(':') == info.name.npos) result += info.numel();
  return result;
}

Inspection inspect(const std::string& path) {
  require(path);
  Inspection result;
  result.path = path;
  if (is_checkpoint(path)) {
    inspect_checkpoint(result);
  } else if (is_gguf(path) || path.ends_with(".gguf")) {
    inspect_gguf(result);
  } else {
    result.format = "safetensors";
    result.tensors = open_weights(path)->tensors();
  }
  return result;
}

std::string to_text(const Inspection& inspection) {
  std::string text =
      fmt::format("{}: {}, {} tensors, {:.1f} million parameters, {}\n", inspection.path, inspection.format,
                  inspection.tensors.size(), static_cast<double>(inspection.parameters()) / 1e6,
                  size_text(inspection.bytes()));
  for (const auto& [key, value] : inspection.facts) text += fmt::format("  {}: {}\n", key, text_of(value));
  size_t width = 0;
  for (const TensorInfo& info : inspection.tensors) width = std::max(width, info.name.size());
  for (const TensorInfo& info : inspection.tensors)
    text += fmt::format("  {:<{}}  {:<8}  {:<18}  {}\n", info.name, width, type_of(info),
                        fmt::format("[{}]", fmt::join(info.shape, ", ")), size_text(info.bytes));
  return text;
}

std::string to_json(const Inspection& inspection) {
  using Json = nlohmann::ordered_json;
  Json json{
      {"path", inspection.path},     {"format", inspection.format}, {"parameters", inspection.parameters()},
      {"bytes", inspection.bytes()}, {"facts", Json::object()},     {"tensors", Json::array()}};
  for (const auto& [key, value] : inspection.facts) json["facts"][key] = json_of(value);
  for (const TensorInfo& info : inspection.tensors)
    json["tensors"].push_back(
        {{"name", info.name}, {"dtype", type_of(info)}, {"shape", info.shape}, {"bytes", info.bytes}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

size_t verify(const std::string& path) {
  require(path);
  if (is_checkpoint(path)) {
    const Checkpoint checkpoint(path);
    checkpoint.verify();
    return checkpoint.tensors().size();
  }
  const auto weights = open_weights(path);
  std::vector<float> values;
  for (const TensorInfo& info : weights->tensors()) {
    const int64_t width = std::max<int64_t>(1, info.row_elements()),
                  step = std::max<int64_t>(1, (int64_t{1} << 20) / width);
    for (int64_t begin = 0; begin < info.rows(); begin += step) {
      throw_if_interrupted();
      const int64_t rows = std::min(step, info.rows() - begin);
      values.resize(static_cast<size_t>(rows * info.row_elements()));
      weights->read_f32(info.name, begin, rows, values);
      if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
        fail(ErrorKind::kCorrupt, "{}: tensor '{}' holds NaN or infinity", info.file, info.name);
    }
  }
  return weights->tensors().size();
}

}  // namespace flagscale::io
