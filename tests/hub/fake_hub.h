#pragma once
// A server on this machine that speaks the hub's protocol: descriptions of models, files by way of a
// redirect, ranges.

#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "net/server.h"

namespace flagscale::hub {

std::string sha256(const std::string& bytes);
std::string git_sha1(const std::string& bytes);

class FakeHub {
 public:
  FakeHub();
  ~FakeHub();
  std::string url() const;

  // Set before a request that they concern.
  std::string commit = std::string(40, 'a');
  std::map<std::string, std::string> files;  // of owner/model; *.safetensors and *.gguf are "lfs"
  std::string token;                         // wanted, when not empty
  bool list_checksums = true;                // in the description; else only in the headers of a file
  size_t cut_after = 0;           // bytes of a file's body after which the connection breaks; 0: never
  std::set<std::string> damaged;  // files that come with another byte

  // What was asked.
  std::atomic<int> requests{0}, cuts{0};
  std::map<std::string, std::string> ranges;  // of each file as it was last asked for
  std::string storage_authorization;          // what the storage was sent: nothing, if all is well

 private:
  void answer(const std::shared_ptr<net::Exchange>& exchange);
  net::Response describe() const;
  net::Response redirect(const std::string& file) const;
  void send_file(const std::shared_ptr<net::Exchange>& exchange, const std::string& file);

  std::mutex mutex_;
  std::vector<std::thread> droppers_;
  net::Server server_;
};

}  // namespace flagscale::hub
