#include "net/asio_transport.h"

#include <poll.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <filesystem>
#include <thread>

#include "base/error.h"

namespace flagscale::net {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;

struct Tls {
  asio::ssl::context context{asio::ssl::context::tls_server};
};

struct Target {
  Url server;
  std::vector<tcp::endpoint> addresses;
  std::shared_ptr<Tls> tls;  // null: plain
};

namespace {

class LoopThread final : public AsioLoop {
 public:
  ~LoopThread() override { stop(); }
  void post(std::function<void()> work) override { asio::post(context_, std::move(work)); }
  bool here() const override { return std::this_thread::get_id() == thread_.get_id(); }
  void run() override {
    thread_ = std::thread([this] { context_.run(); });
  }
  void every(std::chrono::milliseconds period, std::function<void()> work) override {
    timer_.expires_after(period);
    timer_.async_wait([this, period, work = std::move(work)](const error_code& error) {
      if (error) return;
      work();
      every(period, work);
    });
  }
  void stop() override {
    guard_.reset();
    asio::post(context_, [this] { timer_.cancel(); });
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }
  asio::io_context& context() { return context_; }

 private:
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard_ = asio::make_work_guard(context_);
  asio::steady_timer timer_{context_};
  std::thread thread_;
};

tcp::socket& socket_of(tcp::socket& stream) { return stream; }
tcp::socket& socket_of(asio::ssl::stream<tcp::socket>& stream) { return stream.next_layer(); }

template <class Stream>
class StreamTransport final : public Transport {
 public:
  template <class... Args>
  explicit StreamTransport(std::shared_ptr<Tls> tls, Args&&... args)
      : tls_(std::move(tls)), stream_(std::make_shared<Stream>(std::forward<Args>(args)...)) {
    error_code error;
    remote_ = socket().remote_endpoint(error).address().to_string();
    socket().set_option(tcp::no_delay(true), error);
  }
  ~StreamTransport() override { close(); }

  void handshake(std::function<void(bool)> done) override {
    if constexpr (std::is_same_v<Stream, tcp::socket>)
      done(true);
    else
      stream_->async_handshake(
          asio::ssl::stream_base::server,
          [stream = stream_, done = std::move(done)](const error_code& error) { done(!error); });
  }
  void read(char* data, size_t size, std::function<void(size_t)> done) override {
    stream_->async_read_some(asio::buffer(data, size),
                             [stream = stream_, done = std::move(done)](
                                 const error_code& error, size_t bytes) { done(error ? 0 : bytes); });
  }
  void write(const std::string& data, std::function<void()> progress,
             std::function<void(bool)> done) override {
    const auto part = [progress = std::move(progress)](const error_code& error, size_t) -> size_t {
      progress();
      return error ? 0 : size_t{1} << 16;
    };
    asio::async_write(
        *stream_, asio::buffer(data), part,
        [stream = stream_, done = std::move(done)](const error_code& error, size_t) { done(!error); });
  }
  void end_writing() override {
    error_code error;
    socket().shutdown(tcp::socket::shutdown_send, error);
  }
  void close() override {
    error_code error;
    socket().close(error);
  }
  bool peer_ended() const override {
    pollfd one{socket_of(*stream_).native_handle(), POLLRDHUP, 0};
    return poll(&one, 1, 0) == 1;  // POLLRDHUP, or what needs no asking for: POLLERR, POLLHUP
  }
  std::string remote() const override { return remote_; }

 private:
  tcp::socket& socket() { return socket_of(*stream_); }
  std::shared_ptr<Tls> tls_;
  std::shared_ptr<Stream> stream_;  // outlives what is under way
  std::string remote_;
};

class AsioListener final : public Listener {
 public:
  AsioListener(LoopThread& loop, const ServerOptions& options, std::shared_ptr<Tls> tls,
               std::function<AsioLoop&()> next,
               std::function<void(AsioLoop&, std::unique_ptr<Transport>)> accepted)
      : tls_(std::move(tls)), next_(std::move(next)), accepted_(std::move(accepted)) {
    tcp::resolver resolver(loop.context());
    error_code error;
    const auto found =
        resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
    if (error)
      fail(ErrorKind::kInvalidArgument, "cannot listen on host '{}': {}", options.host, error.message());
    for (const auto& entry : found) open(loop, entry.endpoint(), options);
    for (tcp::acceptor& acceptor : acceptors_) accept(acceptor);
  }
  int port() const override { return acceptors_.front().local_endpoint().port(); }
  void close() override {
    error_code error;
    for (tcp::acceptor& acceptor : acceptors_) acceptor.close(error);
  }

 private:
  void open(LoopThread& loop, tcp::endpoint endpoint, const ServerOptions& options) {
    if (endpoint.port() == 0 && !acceptors_.empty())
      endpoint.port(static_cast<unsigned short>(port()));  // one port for all
    tcp::acceptor acceptor(loop.context());
    error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint.address().is_v6()) acceptor.set_option(asio::ip::v6_only(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      fail(ErrorKind::kResource, "cannot listen on {}:{}: {}{}", options.host, endpoint.port(),
           error.message(),
           error == asio::error::address_in_use ? "; choose another port, or stop what listens there" : "");
    acceptors_.push_back(std::move(acceptor));
  }
  void accept(tcp::acceptor& acceptor) {
    auto& loop = static_cast<LoopThread&>(next_());
    acceptor.async_accept(loop.context(),
                          [this, &acceptor, &loop](const error_code& error, tcp::socket socket) {
                            if (!acceptor.is_open()) return;
                            if (!error) accepted_(loop, transport(std::move(socket)));
                            accept(acceptor);
                          });
  }
  std::unique_ptr<Transport> transport(tcp::socket socket) {
    if (!tls_) return std::make_unique<StreamTransport<tcp::socket>>(nullptr, std::move(socket));
    return std::make_unique<StreamTransport<asio::ssl::stream<tcp::socket>>>(tls_, std::move(socket),
                                                                             tls_->context);
  }

  std::shared_ptr<Tls> tls_;
  std::function<AsioLoop&()> next_;
  std::function<void(AsioLoop&, std::unique_ptr<Transport>)> accepted_;
  std::deque<tcp::acceptor> acceptors_;  // at fixed addresses
};

void require_file(const std::string& what, const std::string& path) {
  if (!std::filesystem::is_regular_file(path)) fail(ErrorKind::kNotFound, "{} {} is not a file", what, path);
}

using TlsStream = asio::ssl::stream<tcp::socket>;

// A connection on its way: address, then handshake.
class Connecting : public std::enable_shared_from_this<Connecting> {
 public:
  using Done = std::function<void(std::unique_ptr<Transport>, std::string)>;
  Connecting(LoopThread& loop, std::shared_ptr<Target> target, Done done)
      : target_(std::move(target)), socket_(loop.context()), done_(std::move(done)) {}
  void start() {
    asio::async_connect(socket_, target_->addresses,
                        [self = shared_from_this()](const error_code& error, const tcp::endpoint&) {
                          if (error) return self->done_(nullptr, error.message());
                          self->target_->tls ? self->start_tls() : self->finish_plain();
                        });
  }

 private:
  void finish_plain() {
    done_(std::make_unique<StreamTransport<tcp::socket>>(nullptr, std::move(socket_)), {});
  }
  void start_tls() {
    const auto stream = std::make_shared<TlsStream>(std::move(socket_), target_->tls->context);
    const std::string& host = target_->server.host;
    SSL_set_tlsext_host_name(stream->native_handle(), host.c_str());
    stream->set_verify_callback(asio::ssl::host_name_verification(host));
    stream->async_handshake(asio::ssl::stream_base::client, [self = shared_from_this(),
                                                             stream](const error_code& error) {
      if (error) return self->done_(nullptr, "no TLS: " + error.message());
      self->done_(std::make_unique<StreamTransport<TlsStream>>(self->target_->tls, std::move(*stream)), {});
    });
  }

  std::shared_ptr<Target> target_;
  tcp::socket socket_;
  Done done_;
};

}  // namespace

std::shared_ptr<Target> resolve(const Url& server, const ClientOptions& options) {
  const auto target = std::make_shared<Target>();
  target->server = server;
  asio::io_context context;
  error_code error;
  for (const auto& entry : tcp::resolver(context).resolve(server.host, std::to_string(server.port), error))
    target->addresses.push_back(entry.endpoint());
  if (error) fail(ErrorKind::kResource, "cannot reach {}:{}: {}", server.host, server.port, error.message());
  if (!server.tls) return target;
  target->tls = std::make_shared<Tls>();
  target->tls->context = asio::ssl::context(asio::ssl::context::tls_client);
  target->tls->context.set_verify_mode(asio::ssl::verify_peer);
  if (options.ca_file.empty())
    target->tls->context.set_default_verify_paths(error);
  else
    target->tls->context.load_verify_file(options.ca_file, error);
  if (error)
    fail(ErrorKind::kNotFound, "cannot read certificates from {}: {}", options.ca_file, error.message());
  return target;
}

void connect(AsioLoop& loop, std::shared_ptr<Target> target, Connecting::Done done) {
  std::make_shared<Connecting>(static_cast<LoopThread&>(loop), std::move(target), std::move(done))->start();
}

std::shared_ptr<Tls> load_tls(const ServerOptions& options) {
  if (options.certificate.empty() && options.key.empty()) return nullptr;
  if (options.certificate.empty() || options.key.empty())
    fail(ErrorKind::kInvalidArgument, "TLS needs both --ssl-certfile and --ssl-keyfile");
  require_file("--ssl-certfile", options.certificate);
  require_file("--ssl-keyfile", options.key);
  const auto tls = std::make_shared<Tls>();
  auto& context = tls->context;
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
  context.set_password_callback(
      [password = options.key_password](size_t, asio::ssl::context::password_purpose) { return password; });
  error_code error;
  context.use_certificate_chain_file(options.certificate, error);
  if (error)
    fail(ErrorKind::kInvalidArgument, "--ssl-certfile {} is no PEM certificate: {}", options.certificate,
         error.message());
  context.use_private_key_file(options.key, asio::ssl::context::pem, error);
  if (error)
    fail(ErrorKind::kInvalidArgument, "--ssl-keyfile {} is no PEM key of that certificate: {}", options.key,
         error.message());
  return tls;
}

std::unique_ptr<AsioLoop> AsioLoop::make() { return std::make_unique<LoopThread>(); }

std::unique_ptr<Listener> listen(AsioLoop& loop, const ServerOptions& options, std::shared_ptr<Tls> tls,
                                 std::function<AsioLoop&()> next,
                                 std::function<void(AsioLoop&, std::unique_ptr<Transport>)> accepted) {
  return std::make_unique<AsioListener>(static_cast<LoopThread&>(loop), options, std::move(tls),
                                        std::move(next), std::move(accepted));
}

}  // namespace flagscale::net
