#include "io/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "base/error.h"
#include "io/atomic_file.h"
#include "io/checkpoint_files.h"
#include "io/slice.h"

namespace flagscale::io {

namespace fs = std::filesystem;

namespace {

bool is_checkpoint_folder(const std::string& path) { return fs::is_regular_file(path + "/manifest.json"); }

int64_t iteration_of(const std::string& folder) {  // -1 for another name
  const std::string name = fs::path(folder).filename().string();
  int64_t iteration = -1;
  if (!name.starts_with("iter_")) return -1;
  const auto end = name.data() + name.size();
  return std::from_chars(name.data() + 5, end, iteration).ptr == end ? iteration : -1;
}

std::string parent_of(const std::string& folder) {
  fs::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  const std::string parent = path.parent_path().string();
  return parent.empty() ? "." : parent;
}

int64_t tracked_iteration(const std::string& tracker) {
  std::string text = read_file(tracker, 4096);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  int64_t iteration = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), iteration);
  if (error != std::errc() || end != text.data() + text.size() || iteration < 0)
    fail(ErrorKind::kCorrupt, "{}: is damaged, expected the number of an iteration", tracker);
  return iteration;
}

// Inside a catch block of an Error about `damaged`: adds the newest whole checkpoint beside it.
[[noreturn]] void rethrow_with_offer(const std::string& damaged) {
  try {
    throw;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCorrupt && error.kind() != ErrorKind::kNotFound) throw;
    auto all = list_checkpoints(parent_of(damaged));
    for (; !all.empty(); all.pop_back()) {
      std::error_code ignored;
      if (!fs::equivalent(all.back(), damaged, ignored) && is_whole(all.back()))
        fail(error.kind(),
             "{}; the newest whole checkpoint beside it is {}: give that path instead (to train on "
             "from it: ++train.system.checkpoint.load={})",
             error.what(), all.back(), all.back());
    }
    fail(error.kind(), "{}; there is no whole checkpoint beside it", error.what());
  }
}

std::string resolve(const std::string& path) {
  if (is_checkpoint_folder(path) || iteration_of(path) >= 0) return path;
  const std::string tracker = path + "/" + kTrackerFile;
  if (!fs::exists(tracker)) {
    const auto all = list_checkpoints(path);
    if (all.empty()) fail(ErrorKind::kNotFound, "{}: no checkpoint is there", path);
    return all.back();
  }
  try {
    return fmt::format("{}/iter_{:07}", path, tracked_iteration(tracker));
  } catch (const Error&) {
    rethrow_with_offer(tracker);
  }
}
}  // namespace

struct Checkpoint::State : CheckpointFiles {
  using CheckpointFiles::CheckpointFiles;
};

Checkpoint::Checkpoint(const std::string& path) {
  const std::string folder = resolve(path);
  try {
    state_ = std::make_unique<State>(folder);
  } catch (const Error&) {
    rethrow_with_offer(folder);
  }
}

Checkpoint::~Checkpoint() = default;

const std::string& Checkpoint::folder() const { return state_->folder(); }
const TrainingState& Checkpoint::state() const { return state_->manifest().state; }
int Checkpoint::version() const { return state_->manifest().version; }
const std::vector<TensorInfo>& Checkpoint::tensors() const { return state_->tensors(); }

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const ManifestTensor* tensor = state_->find(name);
  return tensor ? &state_->tensors()[static_cast<size_t>(tensor - state_->manifest().tensors.data())]
                : nullptr;
}

void Checkpoint::read(std::string_view name, std::span<const int64_t> start, std::span<const int64_t> size,
                      std::span<std::byte> out) const {
  const ManifestTensor* tensor = state_->find(name);
  if (!tensor) fail(ErrorKind::kNotFound, "{}: tensor '{}' is not in the checkpoint", state_->folder(), name);
  uint64_t bytes = size_of(tensor->dtype);
  FLAGSCALE_CHECK(start.size() == size.size());
  if (start.size() != tensor->shape.size())
    fail(ErrorKind::kInvalidArgument, "{}: tensor '{}' has {} dimensions, asked for {}", state_->folder(),
         name, tensor->shape.size(), start.size());
  for (size_t i = 0; i < start.size(); ++i) {
    if (start[i] < 0 || size[i] < 0 || start[i] > tensor->shape[i] - size[i])
      fail(ErrorKind::kInvalidArgument, "{}: tensor '{}' is [{}], asked for {} from {} in dimension {}",
           state_->folder(), name, fmt::join(tensor->shape, ", "), size[i], start[i], i);
    bytes *= static_cast<uint64_t>(size[i]);
  }
  FLAGSCALE_CHECK(out.size() == bytes);
  try {
    for (const ManifestShard& shard : tensor->shards)
      copy_shared({shard.start, shard.size}, state_->bytes(*tensor, shard).data(), {start, size}, out.data(),
                  size_of(tensor->dtype));
  } catch (const Error&) {
    rethrow_with_offer(state_->folder());
  }
}

void Checkpoint::read(std::string_view name, std::span<std::byte> out) const {
  const TensorInfo* info = find(name);
  if (!info) fail(ErrorKind::kNotFound, "{}: tensor '{}' is not in the checkpoint", state_->folder(), name);
  const std::vector<int64_t> start(info->shape.size(), 0);
  read(name, start, info->shape, out);
}

std::span<const std::byte> Checkpoint::mapped(std::string_view name) const {
  const ManifestTensor* tensor = state_->find(name);
  if (!tensor || tensor->shards.size() != 1) return {};
  try {
    return state_->bytes(*tensor, tensor->shards[0]);
  } catch (const Error&) {
    rethrow_with_offer(state_->folder());
  }
}

void Checkpoint::verify() const {
  try {
    state_->verify();
  } catch (const Error&) {
    rethrow_with_offer(state_->folder());
  }
}

bool is_checkpoint(const std::string& path) {
  return is_checkpoint_folder(path) || fs::exists(path + "/" + kTrackerFile) ||
         (iteration_of(path) >= 0 && fs::is_directory(path)) ||
         (fs::is_directory(path) && !list_checkpoints(path).empty());
}

std::vector<std::string> list_checkpoints(const std::string& dir) {
  std::vector<std::string> result;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error))
    if (iteration_of(entry.path().string()) >= 0 && is_checkpoint_folder(entry.path().string()))
      result.push_back(entry.path().string());
  std::sort(result.begin(), result.end(),
            [](const auto& a, const auto& b) { return iteration_of(a) < iteration_of(b); });
  return result;
}

std::string newest_whole_checkpoint(const std::string& dir) {
  for (auto all = list_checkpoints(dir); !all.empty(); all.pop_back())
    if (is_whole(all.back())) return all.back();
  return "";
}

std::string exact_text(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%a", value);
  if (std::isnan(value))
    std::snprintf(text, sizeof text, "nan:%016llx", std::bit_cast<unsigned long long>(value));
  return text;
}

double parse_exact(const std::string& text) {
  if (text.starts_with("nan:")) return std::bit_cast<double>(std::strtoull(text.c_str() + 4, nullptr, 16));
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != 0) fail(ErrorKind::kCorrupt, "'{}' is not a number", text);
  return value;
}

}  // namespace flagscale::io
