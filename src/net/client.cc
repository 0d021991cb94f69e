#include "net/client.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "base/error.h"
#include "net/client_socket.h"
#include "net/response_parser.h"

namespace flagscale::net {

Url parse_url(const std::string& text) {
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://"))
    url.tls = true, url.port = 443, rest.remove_prefix(8);
  else if (rest.starts_with("http://"))
    rest.remove_prefix(7);
  const size_t slash = rest.find('/');
  std::string_view place = rest.substr(0, slash);
  if (slash != std::string_view::npos) url.path = rest.substr(slash);
  std::string_view port;
  if (place.starts_with('[')) {  // an IPv6 address
    const size_t end = place.find(']');
    if (end != std::string_view::npos) url.host = place.substr(1, end - 1), port = place.substr(end + 1);
  } else {
    const size_t colon = place.find(':');
    url.host = place.substr(0, colon);
    if (colon != std::string_view::npos) port = place.substr(colon);
  }
  bool good = !url.host.empty() && url.host.find_first_of(" @\r\n") == std::string::npos;
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
    good = good && port[0] == ':' && error == std::errc() && end == port.data() + port.size() &&
           url.port > 0 && url.port < 65536;
  }
  if (!good) fail(ErrorKind::kInvalidArgument, "'{}' is not a URL like http://127.0.0.1:8000", text);
  return url;
}

struct Client::State {
  Url server;
  ClientOptions options;
  std::unique_ptr<ClientSocket> socket;

  std::string head(const std::string& method, const std::string& path, size_t body,
                   const Headers& headers) const {
    const bool v6 = server.host.find(':') != std::string::npos;
    std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}{}{}:{}\r\n", method, path, v6 ? "[" : "",
                                   server.host, v6 ? "]" : "", server.port);
    if (body > 0 || method == "POST" || method == "PUT") text += fmt::format("Content-Length: {}\r\n", body);
    for (const auto& [name, value] : headers) text += fmt::format("{}: {}\r\n", name, value);
    return text += "\r\n";
  }
};

Client::Client(Url server, ClientOptions options)
    : state_(std::make_unique<State>(State{std::move(server), std::move(options), nullptr})) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
void Client::close() { state_->socket.reset(); }

Response Client::send(const std::string& method, const std::string& path, std::string body, Headers headers) {
  std::string received;
  Response response = stream(method, path, std::move(body), std::move(headers), [&](std::string_view piece) {
    received += piece;
    return true;
  });
  response.body = std::move(received);
  return response;
}

Response Client::stream(const std::string& method, const std::string& path, std::string body, Headers headers,
                        const std::function<bool(std::string_view)>& piece,
                        const std::function<void(const Response&)>& head) {
  State& s = *state_;
  const std::string message = s.head(method, path, body.size(), headers) + body;
  ResponseParser parser(method == "HEAD");
  bool more = true, told = false;
  std::array<char, 16384> space;
  std::string input;
  const auto receive = [&] {
    const size_t got = s.socket->read(space.data(), space.size());
    input.append(space.data(), got);
    return got;
  };
  // A server may close a connection that was idle: then, and only then, the request goes out once more.
  const bool reused = s.socket != nullptr;
  if (!s.socket) s.socket = std::make_unique<ClientSocket>(s.server, s.options);
  try {
    try {
      s.socket->write(message);
    } catch (const Error&) {
      if (!reused) throw;
    }
    if (receive() == 0 && reused) {
      s.socket = std::make_unique<ClientSocket>(s.server, s.options);
      s.socket->write(message);
      receive();
    }
    while (true) {
      input.erase(0, parser.put(input, [&](std::string_view data) {
        if (head && !told) told = true, head(parser.head());
        more = more && piece(data);
      }));
      if (parser.done() || !more) break;
      if (receive() == 0) {
        parser.end_of_input();
        break;
      }
    }
  } catch (...) {
    close();
    throw;
  }
  if (!more || !parser.keep_alive()) close();
  if (head && !told && parser.head_done()) head(parser.head());
  return parser.head();
}

void EventStream::put(std::string_view piece, const std::function<void(const std::string&)>& event) {
  for (const char c : piece) {
    if (c == '\r') continue;
    if (c != '\n') {
      line_ += c;
      continue;
    }
    if (line_.empty()) {
      if (!data_.empty()) event(std::exchange(data_, {}));
    } else if (line_.starts_with("data:")) {
      if (!data_.empty()) data_ += '\n';
      data_ += line_.substr(line_.starts_with("data: ") ? 6 : 5);
    }
    line_.clear();
  }
}

}  // namespace flagscale::net
