#pragma once
// HTTP messages as plain values: what the server hands to a handler and takes back, and what the client sends
// and gets.

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flagscale::net {

using Headers = std::vector<std::pair<std::string, std::string>>;

// "" when there is none. Names compare without regard to case.
std::string_view find_header(const Headers& headers, std::string_view name);

struct Request {
  std::string method;  // "GET"
  std::string path;    // "/v1/models": the target up to its question mark, percent signs as sent
  std::string query;   // after the question mark
  Headers headers;
  std::string body;
  std::string remote;  // the peer's address
  bool keep_alive = true;
  bool chunks = true;  // the peer understands chunked bodies (HTTP/1.1)

  std::string_view header(std::string_view name) const { return find_header(headers, name); }
};

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  Headers headers = {};

  std::string_view header(std::string_view name) const { return find_header(headers, name); }
};

const char* reason(int status);  // "Not Found"

// The head of a response, up to and with the empty line. length < 0: a chunked body.
std::string response_head(int status, std::string_view content_type, const Headers& headers, long long length,
                          bool chunked, bool keep_alive);
std::string chunk(std::string_view data);  // framed; "" frames as nothing
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace flagscale::net
