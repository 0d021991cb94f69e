#include "launch/run/read_logs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "launch/job_files.h"
#include "launch/run/control.h"

namespace flagscale::launch {

namespace {

constexpr int kLookAgain = 500;  // ms: files of other hosts do not tell when they grow

class FollowedLog {
 public:
  FollowedLog(const RankStatus& rank, bool numbered) : path_(output_here(rank.output, rank.rank, rank.host)) {
    if (numbered) prefix_ = fmt::format("[{}] ", rank.rank);
  }
  ~FollowedLog() {
    if (file_ >= 0) close(file_);
  }
  FollowedLog(const FollowedLog&) = delete;
  FollowedLog& operator=(const FollowedLog&) = delete;

  const std::string& name() const { return path_.native(); }
  bool open_file() {
    if (file_ < 0) file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    return file_ >= 0;
  }

  // Goes to where the last `lines` begin.
  void skip_to_last(int lines) {
    const off_t end = lseek(file_, 0, SEEK_END);
    off_t at = end;
    char block[65536];
    for (int found = 0; at > 0;) {
      const off_t begin = std::max<off_t>(at - static_cast<off_t>(sizeof block), 0);
      const ssize_t got = pread(file_, block, static_cast<size_t>(at - begin), begin);
      if (got <= 0) break;
      for (ssize_t i = got; i-- > 0;)
        if (block[i] == '\n' && begin + i != end - 1 && ++found == lines) {
          lseek(file_, begin + i + 1, SEEK_SET);
          return;
        }
      at = begin;
    }
    lseek(file_, lines == 0 ? end : 0, SEEK_SET);
  }

  void print_news(std::FILE* out) {
    char block[65536];
    for (ssize_t got; open_file() && (got = read(file_, block, sizeof block)) > 0;)
      print({block, static_cast<size_t>(got)}, out);
    std::fflush(out);
  }

  void finish(std::FILE* out) {
    if (!unfinished_.empty()) fmt::print(out, "{}{}\n", prefix_, unfinished_);
  }

 private:
  void print(std::string_view bytes, std::FILE* out) {
    if (prefix_.empty()) {
      std::fwrite(bytes.data(), 1, bytes.size(), out);
      return;
    }
    for (size_t end; (end = bytes.find('\n')) != std::string_view::npos; bytes.remove_prefix(end + 1)) {
      fmt::print(out, "{}{}{}\n", prefix_, unfinished_, bytes.substr(0, end));
      unfinished_.clear();
    }
    unfinished_ += bytes;
  }

  std::filesystem::path path_;
  std::string prefix_, unfinished_;
  int file_ = -1;
};

void follow(const RunStatus& run, std::vector<std::unique_ptr<FollowedLog>>& files, std::FILE* out) {
  const int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  for (const auto& file : files) inotify_add_watch(changes, file->name().c_str(), IN_MODIFY);
  for (bool over = false; !over;) {
    over = is_over(query_job(run.experiment).state);
    for (const auto& file : files) file->print_news(out);
    if (over) break;
    pollfd wait{changes, POLLIN, 0};
    poll(&wait, 1, kLookAgain);
    char events[4096];
    while (read(changes, events, sizeof events) > 0) continue;
    throw_if_interrupted();
  }
  close(changes);
}

}  // namespace

void print_logs(const RunStatus& run, const LogOptions& options, std::FILE* out) {
  std::vector<std::unique_ptr<FollowedLog>> files;
  for (const RankStatus& rank : run.ranks)
    if (!options.rank || *options.rank == rank.rank)
      files.push_back(std::make_unique<FollowedLog>(rank, !options.rank && run.ranks.size() > 1));
  if (files.empty())
    fail(ErrorKind::kNotFound, "there is no rank {}: {} has {}", options.rank.value_or(0), run.name,
         run.ranks.size());
  for (const auto& file : files) {
    if (!file->open_file() && !options.follow)
      fail(ErrorKind::kNotFound,
           "cannot read {}: {}; where hosts share no file system, experiment.runner.no_shared_fs: true keeps "
           "a copy here",
           file->name(), std::strerror(errno));
    if (file->open_file() && options.lines >= 0) file->skip_to_last(options.lines);
    file->print_news(out);
  }
  if (options.follow) follow(run, files, out);
  for (const auto& file : files) file->finish(out);
}

}  // namespace flagscale::launch
