#pragma once
// What fetching needs of HTTP, over libcurl, which is loaded on first use: starting the program does not pay
// for it.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "base/error.h"

namespace flagscale::hub {

// No answer, or one cut off: the one kind of failure that is worth trying again.
class NetworkError : public Error {
 public:
  explicit NetworkError(std::string message) : Error(ErrorKind::kResource, std::move(message)) {}
};

struct Response {
  long status = 0;
  std::map<std::string, std::string>
      headers;  // names in lower case; of the last answer, or of the first that had one
  std::string body;
};

class Http {
 public:
  // token: sent to the host of each URL, never to where it redirects. Throws Error{kUnsupported} where
  // libcurl is missing.
  explicit Http(std::string token);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // Throws NetworkError when no answer comes (name, connection, TLS, time-out), naming the URL and the
  // reason.
  Response get(const std::string& url);
  Response head(const std::string& url);  // without following: the hub's own headers, not its storage's

  // Body bytes from `offset` on, as they come. begin(from) is called once before them: from = 0 where the
  // server sends the whole file again. Returns the status (200, 206, or what the server refused with; then no
  // bytes are given). Throws NetworkError when the connection breaks, Error{kInterrupted} on Ctrl-C; what was
  // given stays valid.
  long download(const std::string& url, uint64_t offset, const std::function<void(uint64_t from)>& begin,
                const std::function<void(std::span<const char>)>& bytes);

 private:
  struct Transfer;
  void prepare(const std::string& url);
  void perform(const std::string& url, Transfer& transfer);
  static size_t on_header(char* data, size_t size, size_t count, void* transfer);
  static size_t on_body(char* data, size_t size, size_t count, void* transfer);
  static int on_progress(void*, int64_t, int64_t, int64_t, int64_t);

  std::string token_;
  void* handle_ = nullptr;   // CURL*
  void* headers_ = nullptr;  // curl_slist*
};

}  // namespace flagscale::hub
