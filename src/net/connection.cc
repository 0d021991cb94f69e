#include "net/connection.h"

#include <algorithm>
#include <mutex>

namespace flagscale::net {

namespace {
constexpr size_t kReadAtOnce = 16 << 10, kReadOfBody = 128 << 10;  // bodies of megabytes in fewer turns
constexpr std::chrono::seconds kLinger{2};  // for the peer to read an answer that ends the connection
}  // namespace

// What the handler holds. It keeps the connection object; the connection knows it only while its answer is
// not complete.
class Connection::Answer : public Exchange, public std::enable_shared_from_this<Answer> {
 public:
  Answer(std::shared_ptr<Connection> connection, Request request)
      : connection_(std::move(connection)), request_(std::move(request)), unsent_(connection_->unsent_) {}
  ~Answer() override {
    if (state_ == State::kDone) return;
    on_loop([connection = connection_, began = state_ == State::kBegan] {
      if (began) return connection->close();  // the peer must not take half a body for a whole one
      connection->fail(500, "the server dropped this request");
    });
  }

  const Request& request() const override { return request_; }

  void respond(Response response) override {
    on_loop([self = shared_from_this(), response = std::move(response)]() mutable {
      self->send_whole(std::move(response));
    });
  }
  void begin(Response head) override {
    on_loop([self = shared_from_this(), head = std::move(head)] { self->send_head(head); });
  }
  void write(std::string data) override {
    std::string framed = request_.chunks ? chunk(data) : std::move(data);
    *unsent_ += framed.size();
    on_loop([self = shared_from_this(), framed = std::move(framed)]() mutable {
      *self->unsent_ -= framed.size();  // send() counts it again
      if (self->state_ == State::kBegan) self->connection_->send(std::move(framed));
    });
  }
  void end() override {
    on_loop([self = shared_from_this()] { self->send_end(); });
  }
  size_t unsent() const override { return *unsent_; }
  void post(std::function<void()> work) override {
    connection_->loop_.post([self = shared_from_this(), work = std::move(work)] { work(); });
  }
  void on_disconnect(std::function<void()> call) override {
    on_loop([self = shared_from_this(), call = std::move(call)]() mutable {
      if (self->gone_) return call();
      if (self->state_ != State::kDone) self->disconnected_ = std::move(call);
    });
  }

  void peer_gone() {
    gone_ = true;
    state_ = State::kDone;
    if (const auto call = std::exchange(disconnected_, nullptr)) call();
  }

 private:
  enum class State { kNew, kBegan, kDone };

  template <class Work>
  void on_loop(Work&& work) {
    if (connection_->loop_.here()) return work();
    connection_->loop_.post(std::forward<Work>(work));
  }

  void send_whole(Response response) {
    if (state_ != State::kNew) return;
    const bool keep = request_.keep_alive && !connection_->stopping_;
    std::string text = response_head(response.status, response.content_type, response.headers,
                                     static_cast<long long>(response.body.size()), false, keep);
    if (request_.method != "HEAD") text += response.body;
    complete(std::move(text), keep);
  }
  void send_head(const Response& head) {
    if (state_ != State::kNew) return;
    state_ = State::kBegan;
    keep_ = request_.keep_alive && request_.chunks && !connection_->stopping_;
    connection_->send(
        response_head(head.status, head.content_type, head.headers, -1, request_.chunks, keep_));
  }
  void send_end() {
    if (state_ == State::kBegan) complete(request_.chunks ? std::string(kLastChunk) : std::string(), keep_);
  }
  void complete(std::string last, bool keep) {
    state_ = State::kDone;
    disconnected_ = nullptr;
    connection_->send(std::move(last));
    connection_->answered(keep);
  }

  std::shared_ptr<Connection> connection_;
  const Request request_;
  std::shared_ptr<std::atomic<size_t>> unsent_;
  State state_ = State::kNew;
  bool keep_ = true, gone_ = false;
  std::function<void()> disconnected_;
};

Connection::Connection(Loop& loop, std::unique_ptr<Transport> transport, const ServerOptions& options,
                       const Handler& handler, std::function<void(Connection*)> closed)
    : loop_(loop),
      transport_(std::move(transport)),
      options_(options),
      handler_(handler),
      closed_(std::move(closed)),
      parser_(options.max_header, options.max_body) {}

Connection::~Connection() = default;

void Connection::start() {
  deadline_ = Clock::now() + options_.header_time;
  transport_->handshake([self = shared_from_this()](bool ok) {
    if (!ok) return self->close();
    if (self->phase_ != Phase::kOpening) return;
    self->phase_ = Phase::kIdle;
    self->deadline_ = Clock::now() + self->options_.idle_time;
    self->read();
  });
}

void Connection::refuse(int status, const std::string& message) {
  transport_->handshake([self = shared_from_this(), status, message](bool ok) {
    ok ? self->fail(status, message) : self->close();
  });
  deadline_ = Clock::now() + kLinger;
}

void Connection::read() {
  if (reading_ || phase_ == Phase::kClosed) return;
  reading_ = true;
  space_.resize(phase_ == Phase::kBody || phase_ == Phase::kLast ? kReadOfBody : kReadAtOnce);
  transport_->read(space_.data(), space_.size(), [self = shared_from_this()](size_t bytes) {
    self->reading_ = false;
    self->received(bytes);
  });
}

void Connection::received(size_t bytes) {
  if (phase_ == Phase::kClosed) return;
  if (bytes == 0) return close();
  if (phase_ == Phase::kLast)
    return read();  // what comes after an answer that ends the connection is dropped
  input_.append(space_.data(), bytes);
  if (phase_ == Phase::kAnswer) return;  // pipelined: its turn comes, and until then nothing more is read
  parse();
}

void Connection::parse() {
  while (!input_.empty() && phase_ < Phase::kAnswer) {
    if (phase_ == Phase::kIdle) {
      phase_ = Phase::kHeader;
      deadline_ = Clock::now() + options_.header_time;
    }
    input_.erase(0, parser_.put(input_));
    const auto progress = parser_.progress();
    if (progress == RequestParser::Progress::kFailed) return fail(parser_.status(), parser_.message());
    if (progress == RequestParser::Progress::kDone) {
      handle();
      continue;
    }
    if (progress == RequestParser::Progress::kBody && phase_ == Phase::kHeader) {
      phase_ = Phase::kBody;
      deadline_ = Clock::now() + options_.body_time;
      if (parser_.expects_continue()) send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!input_.empty()) continue;
    }
    if (input_.size() > options_.max_header + kReadAtOnce)
      return fail(431, "the request's headers are too large");
    break;
  }
  if (phase_ != Phase::kAnswer || input_.empty()) read();
}

void Connection::handle() {
  phase_ = Phase::kAnswer;
  Request request = parser_.take();
  request.remote = transport_->remote();
  const auto answer = std::make_shared<Answer>(shared_from_this(), std::move(request));
  answer_ = answer;
  handler_(answer);
}

// The answer is all in output_.
void Connection::answered(bool keep_alive) {
  if (phase_ == Phase::kClosed) return;
  answer_.reset();
  if (!keep_alive || stopping_) {
    phase_ = Phase::kLast;
    deadline_ = Clock::now() + options_.write_time;
    flush();
    return;
  }
  phase_ = Phase::kIdle;
  deadline_ = Clock::now() + options_.idle_time;
  // Not from here, so that a thousand pipelined requests make no thousand frames of stack.
  if (!input_.empty())
    loop_.post([self = shared_from_this()] {
      if (self->phase_ == Phase::kIdle) self->parse();
    });
}

void Connection::fail(int status, const std::string& message) {
  if (phase_ == Phase::kClosed) return;
  Response response{status, "text/plain", message + "\n"};
  if (options_.error_page) response = options_.error_page(status, message);
  send(response_head(status, response.content_type, response.headers,
                     static_cast<long long>(response.body.size()), false, false) +
       response.body);
  answered(false);
}

void Connection::send(std::string data) {
  if (phase_ == Phase::kClosed || data.empty()) return;
  *unsent_ += data.size();
  output_ += data;
  if (writing_ && output_.size() > options_.max_unsent) return close();  // a peer that asks and does not read
  flush();
}

void Connection::flush() {
  if (writing_ || phase_ == Phase::kClosed) return;
  if (output_.empty()) {
    if (phase_ != Phase::kLast) return;
    transport_->end_writing();
    deadline_ = Clock::now() + kLinger;
    read();
    return;
  }
  writing_ = true;
  in_flight_ = std::exchange(output_, {});
  write_deadline_ = Clock::now() + options_.write_time;
  transport_->write(
      in_flight_,
      [self = shared_from_this()] { self->write_deadline_ = Clock::now() + self->options_.write_time; },
      [self = shared_from_this()](bool ok) { self->sent(ok); });
}

void Connection::sent(bool ok) {
  writing_ = false;
  *unsent_ -= in_flight_.size();
  in_flight_.clear();
  if (!ok) return close();
  flush();
}

void Connection::sweep(Clock::time_point now) {
  if (phase_ == Phase::kClosed) return;
  if (writing_ && now > write_deadline_) return close();
  if (phase_ == Phase::kAnswer) {  // with input left no read is under way that would see the peer's end
    if (!reading_ && transport_->peer_ended()) close();
    return;
  }
  if (now <= deadline_) return;
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody)
    return fail(408, "the request did not arrive in time");
  close();
}

void Connection::stop_accepting() {
  stopping_ = true;
  if (phase_ == Phase::kIdle) close();
}

void Connection::close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  const auto self = shared_from_this();
  transport_->close();
  output_.clear();
  if (const auto answer = answer_.lock()) answer->peer_gone();
  answer_.reset();
  closed_(this);
}

}  // namespace flagscale::net
