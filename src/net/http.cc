#include "net/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace flagscale::net {

namespace {

bool same_name(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::string_view find_header(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (same_name(key, name)) return value;
  return {};
}

const char* reason(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

std::string response_head(int status, std::string_view content_type, const Headers& headers, long long length,
                          bool chunked, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", status, reason(status));
  const auto out = std::back_inserter(head);
  if (!content_type.empty()) fmt::format_to(out, "Content-Type: {}\r\n", content_type);
  if (length >= 0) fmt::format_to(out, "Content-Length: {}\r\n", length);
  if (chunked) head += "Transfer-Encoding: chunked\r\n";
  for (const auto& [name, value] : headers) fmt::format_to(out, "{}: {}\r\n", name, value);
  if (!keep_alive) head += "Connection: close\r\n";
  return head += "\r\n";
}

std::string chunk(std::string_view data) {
  return data.empty() ? std::string() : fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

}  // namespace flagscale::net
