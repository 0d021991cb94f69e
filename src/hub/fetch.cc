#include "hub/fetch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "hub/cache.h"
#include "hub/digest.h"
#include "hub/http.h"
#include "hub/remote.h"

namespace flagscale::hub {

namespace fs = std::filesystem;

namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    fail(ErrorKind::kResource, "cannot make {}: {} (HF_HOME or HF_HUB_CACHE says where models are kept)",
         folder.string(), error.message());
}

// One process at a time fetches a blob; huggingface_hub takes the same lock.
class BlobLock {
 public:
  explicit BlobLock(const fs::path& file) {
    make_folder(file.parent_path());
    fd_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail(ErrorKind::kResource, "cannot write {}: {}", file.string(), std::strerror(errno));
    while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      throw_if_interrupted();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  ~BlobLock() { close(fd_); }
  BlobLock(const BlobLock&) = delete;
  BlobLock& operator=(const BlobLock&) = delete;

 private:
  int fd_;
};

// The part of a file that has come, kept for the next try.
class PartFile {
 public:
  explicit PartFile(fs::path path) : path_(std::move(path)) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_errno();
  }
  ~PartFile() { close(fd_); }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  uint64_t size() const { return static_cast<uint64_t>(lseek(fd_, 0, SEEK_END)); }
  void cut(uint64_t size) {
    if (ftruncate(fd_, static_cast<off_t>(size)) != 0 || lseek(fd_, 0, SEEK_END) < 0) fail_errno();
  }
  void append(std::span<const char> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_errno();
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }
  void flush() {
    if (fsync(fd_) != 0) fail_errno();
  }

 private:
  [[noreturn]] void fail_errno() const {
    fail(ErrorKind::kResource, "cannot write {}: {}", path_.string(), std::strerror(errno));
  }
  fs::path path_;
  int fd_;
};

void write_ref(const fs::path& file, const std::string& commit) {
  make_folder(file.parent_path());
  const fs::path part = file.string() + ".part";
  std::ofstream(part) << commit;
  fs::rename(part, file);
}

void link_blob(const fs::path& snapshot, const RemoteFile& file) {
  make_folder(snapshot);
  const fs::path link = snapshot / file.name, part = link.string() + ".part";
  fs::remove(part);
  fs::create_symlink(fs::path("../../blobs") / file.digest, part);
  fs::rename(part, link);
}

class Fetch {
 public:
  Fetch(const ModelId& id, const Settings& settings)
      : id_(id), settings_(settings), folder_(repo_folder(settings.cache, id.repo)), http_(settings.token) {}

  void run() {
    const RemoteModel model = describe_remote(http_, id_, settings_);
    make_folder(folder_ / "blobs");
    uint64_t total = 0;
    for (const RemoteFile& file : model.files) total += file.size;
    Progress progress("fetch " + id_.repo, static_cast<int64_t>(total), "B");
    uint64_t done = 0;
    for (const RemoteFile& file : model.files) {
      fetch_blob(model.commit, file, progress, done);
      link_blob(folder_ / "snapshots" / model.commit, file);
      progress.set(static_cast<int64_t>(done += file.size));
    }
    if (id_.revision != model.commit) write_ref(folder_ / "refs" / id_.revision, model.commit);
  }

 private:
  void fetch_blob(const std::string& commit, const RemoteFile& file, Progress& progress, uint64_t before) {
    const fs::path blob = folder_ / "blobs" / file.digest, part = blob.string() + ".incomplete";
    const BlobLock lock(fs::path(settings_.cache) / ".locks" / folder_.filename() / (file.digest + ".lock"));
    if (fs::exists(blob)) return;
    progress.note(file.name);
    constexpr int kTries = 5;
    for (int attempt = 1;; ++attempt) {
      try {
        fetch_part(commit, file, part, progress, before);
        break;
      } catch (const NetworkError& error) {
        if (attempt == kTries) throw;
        warn("{}; trying again", error.what());
        std::this_thread::sleep_for(std::chrono::seconds(attempt));
      }
    }
    if (!matches_digest(part, file.digest)) {
      fs::remove(part);
      fail(ErrorKind::kCorrupt,
           "{} of {} came with another checksum than {} names; nothing of it was kept, try again", file.name,
           id_.repo, settings_.endpoint);
    }
    fs::rename(part, blob);
  }

  void fetch_part(const std::string& commit, const RemoteFile& file, const fs::path& path, Progress& progress,
                  uint64_t before) {
    PartFile part(path);
    if (part.size() > file.size) part.cut(0);
    if (part.size() == file.size && file.size > 0) return;
    const long status = http_.download(
        file_url(id_, commit, file.name, settings_), part.size(), [&](uint64_t from) { part.cut(from); },
        [&](std::span<const char> bytes) {
          part.append(bytes);
          progress.set(static_cast<int64_t>(before + part.size()));
        });
    if (status == 416) part.cut(0);  // a part of another file
    const std::string what = fmt::format("{} of {}", file.name, id_.repo);
    if (status == 416 || status == 429 || status >= 500)
      throw NetworkError(fmt::format("{} answers {} for {}", settings_.endpoint, status, what));
    if (status >= 300) fail(ErrorKind::kNotFound, "{} answers {} for {}", settings_.endpoint, status, what);
    part.flush();
    if (part.size() != file.size)
      throw NetworkError(fmt::format("{}: {} of {} bytes came", what, part.size(), file.size));
  }

  const ModelId& id_;
  const Settings& settings_;
  fs::path folder_;
  Http http_;
};

}  // namespace

std::string fetch_model(const ModelId& id, const Settings& settings, bool refresh) {
  if (!refresh || settings.offline)
    if (auto found = find_model(settings.cache, id)) return *found;
  if (settings.offline)
    fail(ErrorKind::kNotFound,
         "{} is not in {} and HF_HUB_OFFLINE is set; `flagscale models` lists what is there", id.repo,
         settings.cache);
  Fetch(id, settings).run();
  if (auto found = find_model(settings.cache, id)) return *found;
  fail(ErrorKind::kCorrupt, "{} at {} is not whole: its index names files that it does not have", id.repo,
       settings.endpoint);
}

}  // namespace flagscale::hub
