#include "net/async_client.h"

#include <fmt/format.h>

#include <array>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "net/asio_transport.h"
#include "net/response_parser.h"

namespace flagscale::net {

namespace {

// One connection and the request that it carries.
class Line : public std::enable_shared_from_this<Line> {
 public:
  using Free = std::function<void(const std::shared_ptr<Line>&, bool keep)>;
  Line(std::unique_ptr<Transport> transport, Free free)
      : transport_(std::move(transport)), free_(std::move(free)) {}

  // failed: the connection ended before a byte of an answer came.
  void send(std::string message, AsyncClient::Sinks sinks,
            std::function<void(std::string message, AsyncClient::Sinks sinks)> failed) {
    message_ = std::move(message);
    sinks_ = std::move(sinks);
    failed_ = std::move(failed);
    parser_ = std::make_unique<ResponseParser>(false);
    answered_ = false;
    transport_->write(
        message_, [] {},
        [self = shared_from_this()](bool ok) {
          if (!ok) self->received(0);
        });
    read();
  }
  void close() { transport_->close(); }

 private:
  void read() {
    transport_->read(space_.data(), space_.size(),
                     [self = shared_from_this()](size_t bytes) { self->received(bytes); });
  }
  void received(size_t bytes) {
    if (!parser_) return;  // ended before
    if (bytes == 0 && !answered_) return swallowed();
    answered_ = true;
    try {
      input_.append(space_.data(), bytes);
      input_.erase(0, parser_->put(input_, sinks_.piece));
      if (bytes == 0) parser_->end_of_input();
    } catch (const Error& error) {
      return end(error.what());
    }
    if (!parser_->done()) return bytes == 0 ? end("the connection broke off") : read();
    finish(parser_->head(), "", parser_->keep_alive() && bytes > 0);
  }
  void swallowed() {
    const auto failed = std::exchange(failed_, nullptr);
    if (!failed) return end("the connection broke off");
    parser_.reset();
    free_(shared_from_this(), false);
    failed(std::move(message_), std::move(sinks_));
  }
  void end(const std::string& error) {
    if (parser_) finish({}, error, false);
  }
  void finish(const Response& head, const std::string& error, bool keep) {
    parser_.reset();
    const auto done = std::move(sinks_.done);
    free_(shared_from_this(), keep);
    done(head, error);
  }

  std::unique_ptr<Transport> transport_;
  const Free free_;
  std::string message_, input_;
  AsyncClient::Sinks sinks_;
  std::function<void(std::string, AsyncClient::Sinks)> failed_;
  std::unique_ptr<ResponseParser> parser_;  // null: nothing is under way
  bool answered_ = false;
  std::array<char, 16384> space_;
};

}  // namespace

struct AsyncClient::State {
  std::unique_ptr<AsioLoop> loop = AsioLoop::make();  // outlives its sockets
  Url server;
  std::shared_ptr<Target> target;
  std::unordered_set<std::shared_ptr<Line>> lines;
  std::vector<std::shared_ptr<Line>> idle;

  void free(const std::shared_ptr<Line>& line, bool keep) {
    if (keep) return idle.push_back(line);
    line->close();
    lines.erase(line);
  }
  void send(std::string message, Sinks sinks) {
    if (idle.empty()) return open(std::move(message), std::move(sinks));
    const auto line = std::move(idle.back());
    idle.pop_back();
    line->send(std::move(message), std::move(sinks),
               [this](std::string again, Sinks to) { open(std::move(again), std::move(to)); });
  }
  void open(std::string message, Sinks sinks) {
    connect(*loop, target,
            [this, message = std::move(message), sinks = std::move(sinks)](
                std::unique_ptr<Transport> transport, const std::string& error) mutable {
              if (!transport) return sinks.done({}, error);
              const auto line = std::make_shared<Line>(
                  std::move(transport),
                  [this](const std::shared_ptr<Line>& one, bool keep) { free(one, keep); });
              lines.insert(line);
              line->send(std::move(message), std::move(sinks), nullptr);
            });
  }
};

AsyncClient::AsyncClient(const Url& server, const ClientOptions& options)
    : state_(std::make_unique<State>()) {
  state_->server = server;
  state_->target = resolve(server, options);
  state_->loop->run();
}
AsyncClient::~AsyncClient() {
  state_->loop->stop();
  for (const auto& line : state_->lines) line->close();
}

void AsyncClient::post(std::function<void()> work) { state_->loop->post(std::move(work)); }
void AsyncClient::send(std::string message, Sinks sinks) {
  state_->send(std::move(message), std::move(sinks));
}

std::string AsyncClient::head(const std::string& method, const std::string& path,
                              const Headers& headers) const {
  const Url& server = state_->server;
  const bool v6 = server.host.find(':') != std::string::npos;
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}{}{}:{}\r\n", method, path, v6 ? "[" : "",
                                 server.host, v6 ? "]" : "", server.port);
  for (const auto& [name, value] : headers) text += fmt::format("{}: {}\r\n", name, value);
  return text;
}

std::string AsyncClient::message(const std::string& head, const std::string& body) {
  return fmt::format("{}Content-Length: {}\r\n\r\n{}", head, body.size(), body);
}

}  // namespace flagscale::net
