#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/made_folder.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/manifest.h"
#include "io/safetensors_writer.h"
#include "io/xxh64.h"

namespace flagscale::io {

namespace fs = std::filesystem;

namespace {
constexpr size_t kHashedAtOnce = size_t{1} << 20;  // hashed, then written while still in the cache

std::string folder_name(int64_t iteration) { return fmt::format("iter_{:07}", iteration); }

// In a shard's file a whole tensor has its own name, a slice its start beside it.
std::string name_in_file(const TensorSlice& slice) {
  return slice.size == slice.global_shape ? slice.name
                                          : fmt::format("{}@{}", slice.name, fmt::join(slice.start, ","));
}

ManifestShard write_slice(AtomicFile& file, const std::string& file_name, const TensorSlice& slice) {
  const size_t bytes = slice.bytes();
  ManifestShard shard{slice.start, slice.size, file_name, file.written(), bytes, 0};
  Xxh64 hash;
  std::vector<std::byte> room(slice.read ? std::min(kHashedAtOnce, bytes) : 0);
  for (size_t at = 0; at < bytes; at += kHashedAtOnce) {
    const size_t size = std::min(kHashedAtOnce, bytes - at);
    if (slice.read) slice.read(at, std::span(room).first(size));
    const auto chunk =
        slice.read ? std::span<const std::byte>(room).first(size) : slice.data.subspan(at, size);
    hash.update(chunk);
    file.write(chunk);
  }
  shard.checksum = hash.digest();
  return shard;
}

void add_shard(Manifest& manifest, std::map<std::string, size_t>& index, const TensorSlice& slice,
               ManifestShard shard) {
  const auto [it, fresh] = index.emplace(slice.name, manifest.tensors.size());
  if (fresh) manifest.tensors.push_back({slice.name, slice.dtype, slice.global_shape, {}});
  manifest.tensors[it->second].shards.push_back(std::move(shard));
}

// Cuts the snapshot into files of about `max_bytes`.
std::vector<std::vector<TensorSlice>> cut(std::vector<TensorSlice> snapshot, uint64_t max_bytes) {
  std::vector<std::vector<TensorSlice>> files(1);
  uint64_t in_file = 0;
  for (TensorSlice& slice : snapshot) {
    if (!files.back().empty() && in_file + slice.bytes() > max_bytes) files.emplace_back(), in_file = 0;
    in_file += slice.bytes();
    files.back().push_back(std::move(slice));
  }
  return files;
}

Manifest write_files(const std::string& folder, TrainingState state, std::vector<TensorSlice> snapshot,
                     uint64_t max_bytes) {
  Manifest manifest;
  manifest.state = std::move(state);
  std::map<std::string, size_t> index;
  auto files = cut(std::move(snapshot), max_bytes);
  for (size_t i = 0; i < files.size(); ++i) {
    auto& slices = files[i];
    std::stable_sort(slices.begin(), slices.end(),
                     [](const auto& a, const auto& b) { return size_of(a.dtype) > size_of(b.dtype); });
    std::vector<OutputTensor> header;
    for (const TensorSlice& slice : slices)
      header.push_back({name_in_file(slice), slice.dtype, slice.size, {}});
    const std::string name = fmt::format("rank_00000_{:05}.safetensors", i);
    AtomicFile file(folder + "/" + name);
    file.write(safetensors_header(header, {{"format", "pt"}}));
    for (const TensorSlice& slice : slices) add_shard(manifest, index, slice, write_slice(file, name, slice));
    manifest.files[name] = file.written();
    file.commit();
  }
  return manifest;
}

// Gives `from` the name `to`. Where a checkpoint has that name already, the two change places in one step.
void publish(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST && renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(from);
    return;
  }
  if (errno == EINVAL ||
      errno == ENOSYS) {  // a file system without either: not one step, but the tracker still waits
    fs::remove_all(to);
    if (rename(from.c_str(), to.c_str()) == 0) return;
  }
  fail(ErrorKind::kResource, "{}: cannot rename to {}: {}", from, to, std::strerror(errno));
}

// Removed by way of another name, so that a kill halfway leaves no half checkpoint.
void retire(const std::string& folder) {
  const std::string aside = folder + ".tmp";
  fs::remove_all(aside);
  fs::rename(folder, aside);
  fs::remove_all(aside);
}

// What a killed process left aside in `dir`.
void remove_leftovers(const std::string& dir) {
  std::vector<fs::path> left;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".tmp") && (name.starts_with("iter_") || name.starts_with(kTrackerFile)))
      left.push_back(entry.path());
  }
  for (const fs::path& path : left) fs::remove_all(path);
}

void apply_retention(const std::string& dir, const std::string& written, int keep_last) {
  if (keep_last <= 0) return;
  std::vector<std::string> all = list_checkpoints(dir);
  const auto self = std::find(all.begin(), all.end(), written);
  if (self == all.end()) return;
  const auto older = self - all.begin() - (keep_last - 1);
  for (ptrdiff_t i = 0; i < older; ++i) retire(all[static_cast<size_t>(i)]);
}

void write_checkpoint(const std::string& dir, const SaveOptions& options, TrainingState state,
                      std::vector<TensorSlice> snapshot) {
  const int64_t iteration = state.iteration;
  const std::string target = dir + "/" + folder_name(iteration), aside = target + ".tmp";
  try {
    fs::create_directories(dir);
    fs::remove_all(aside);
    fs::create_directory(aside);
    const Manifest manifest =
        write_files(aside, std::move(state), std::move(snapshot), options.max_file_bytes);
    write_file(aside + "/manifest.json", to_json(manifest));
    publish(aside, target);
    sync_folder(dir);
    write_file(dir + "/" + kTrackerFile, fmt::format("{}\n", iteration));
    remove_leftovers(dir);
    apply_retention(dir, target, options.keep_last);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    fail(ErrorKind::kResource, "cannot save checkpoint {}: {}", target, error.what());
  } catch (const Error&) {
    std::error_code ignored;
    fs::remove_all(aside, ignored);
    rethrow_with("cannot save checkpoint " + target);
  }
}

// The folder, made where missing, open and locked: that it cannot be saved into is known before the training,
// not hours later. The lock ends with the process.
int open_folder(const std::string& dir, std::optional<MadeFolder>& made) {
  std::error_code error;
  try {
    made.emplace(dir);
  } catch (const Error&) {
    rethrow_with("cannot save checkpoints into " + dir);
  }
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if ((fd < 0 || ::access(dir.c_str(), W_OK | X_OK) != 0)) error = {errno, std::generic_category()};
  if (!error && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const bool taken = !error && errno == EWOULDBLOCK;
  if (!error && !taken) return fd;  // a file system without locks
  if (fd >= 0) ::close(fd);
  if (taken)
    fail(ErrorKind::kBusy, "another run saves into {}: give this one a folder of its own (exp_dir, or save)",
         dir);
  fail(ErrorKind::kResource, "cannot save checkpoints into {}: {}", dir, error.message());
}
}  // namespace

struct CheckpointWriter::State {
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ::close(folder); }
  int folder = -1;
  std::optional<MadeFolder> made;  // goes again where nothing is saved
  std::string dir;
  SaveOptions options;
  std::thread thread;
  std::atomic<bool> running = false;
  std::exception_ptr error;  // read after the join
};

CheckpointWriter::CheckpointWriter(std::string dir, SaveOptions options) : state_(std::make_unique<State>()) {
  state_->dir = std::move(dir);
  state_->folder = open_folder(state_->dir, state_->made);
  state_->options = options;
}

CheckpointWriter::~CheckpointWriter() {
  try {
    wait();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "flagscale: %s\n", error.what());
  }
}

void CheckpointWriter::start(TrainingState state, std::vector<TensorSlice> snapshot) {
  wait();
  bool reads = false;
  for (const TensorSlice& slice : snapshot) {
    FLAGSCALE_CHECK((slice.read || slice.bytes() == slice.data.size()) &&
                    slice.size.size() == slice.global_shape.size() &&
                    slice.start.size() == slice.size.size());
    reads = reads || slice.read;
  }
  state_->running = true;
  state_->thread = std::thread([this, state = std::move(state), snapshot = std::move(snapshot)]() mutable {
    try {
      write_checkpoint(state_->dir, state_->options, std::move(state), std::move(snapshot));
      state_->made->keep();
    } catch (...) {
      state_->error = std::current_exception();
    }
    state_->running = false;
  });
  if (reads) wait();
}

void CheckpointWriter::wait() {
  if (state_->thread.joinable()) state_->thread.join();
  if (const auto error = std::exchange(state_->error, nullptr)) std::rethrow_exception(error);
}

bool CheckpointWriter::busy() const { return state_->running; }

void CheckpointWriter::save(TrainingState state, std::vector<TensorSlice> snapshot) {
  start(std::move(state), std::move(snapshot));
  wait();
}

size_t TensorSlice::bytes() const {
  size_t bytes = size_of(dtype);
  for (const int64_t dim : size) bytes *= static_cast<size_t>(dim);
  return bytes;
}

TensorSlice whole_tensor(std::string name, DType dtype, std::vector<int64_t> shape,
                         std::span<const std::byte> data) {
  std::vector<int64_t> start(shape.size(), 0);
  return {std::move(name), dtype, shape, std::move(start), shape, data};
}

}  // namespace flagscale::io
