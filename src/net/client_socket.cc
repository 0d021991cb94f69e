#include "net/client_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace flagscale::net {

namespace {

constexpr std::chrono::milliseconds kGlance{100};

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
struct FreeTls {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

std::string shown(const Url& server) { return fmt::format("{}:{}", server.host, server.port); }

std::string tls_error() {
  const unsigned long code = ERR_get_error();
  return code ? ERR_reason_error_string(code) : "the connection broke off";
}

// -1 with errno set.
int connect_to(const addrinfo& address, std::chrono::milliseconds time) {
  const int fd =
      socket(address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol);
  if (fd < 0) return -1;
  int error = connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd wait{fd, POLLOUT, 0};
    socklen_t size = sizeof error;
    if (poll(&wait, 1, static_cast<int>(time.count())) == 1)
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    else
      error = ETIMEDOUT;
  }
  if (error == 0) return fd;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

struct ClientSocket::State {
  Url server;
  ClientOptions options;
  int fd = -1;
  std::unique_ptr<SSL_CTX, FreeTls> context;
  std::unique_ptr<SSL, FreeTls> ssl;

  ~State() {
    if (ssl) SSL_shutdown(ssl.get());
    ssl.reset();
    if (fd >= 0) close(fd);
  }

  void open() {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* raw = nullptr;
    const int error = getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &raw);
    if (error != 0) fail(ErrorKind::kResource, "cannot reach {}: {}", shown(server), gai_strerror(error));
    const std::unique_ptr<addrinfo, FreeAddresses> list(raw);
    for (const addrinfo* at = list.get(); at && fd < 0; at = at->ai_next)
      fd = connect_to(*at, options.connect_time);
    if (fd < 0) fail(ErrorKind::kResource, "cannot reach {}: {}", shown(server), std::strerror(errno));
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (server.tls) open_tls();
  }

  void open_tls() {
    context.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    const bool loaded = options.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context.get()) == 1
                                                : SSL_CTX_load_verify_locations(
                                                      context.get(), options.ca_file.c_str(), nullptr) == 1;
    if (!loaded) fail(ErrorKind::kNotFound, "cannot read certificates from {}", options.ca_file);
    ssl.reset(SSL_new(context.get()));
    SSL_set_tlsext_host_name(ssl.get(), server.host.c_str());
    SSL_set_hostflags(ssl.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), server.host.c_str()) != 1)
      SSL_set1_host(ssl.get(), server.host.c_str());
    SSL_set_fd(ssl.get(), fd);
    while (true) {
      const int result = SSL_connect(ssl.get());
      if (result == 1) return;
      if (!wait_for_tls(result, options.connect_time)) {
        const long verified = SSL_get_verify_result(ssl.get());
        fail(ErrorKind::kResource, "no TLS with {}: {}", shown(server),
             verified != X509_V_OK ? X509_verify_cert_error_string(verified) : tls_error());
      }
    }
  }

  bool wait_for_tls(int result, std::chrono::milliseconds time) {
    const int why = SSL_get_error(ssl.get(), result);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) return false;
    wait(why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, time);
    return true;
  }

  void wait(short events, std::chrono::milliseconds time) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + time;
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      if (left.count() <= 0)
        fail(ErrorKind::kResource, "{} has been silent for {} s", shown(server), time.count() / 1000);
      pollfd one{fd, events, 0};
      if (poll(&one, 1, static_cast<int>((options.idle ? std::min(left, kGlance) : left).count())) > 0)
        return;
      if (options.idle && !options.idle()) fail(ErrorKind::kInterrupted, "broke off with {}", shown(server));
    }
  }
};

ClientSocket::ClientSocket(const Url& server, const ClientOptions& options)
    : state_(std::make_unique<State>()) {
  state_->server = server;
  state_->options = options;
  state_->open();
}
ClientSocket::~ClientSocket() = default;

void ClientSocket::write(std::string_view data) {
  State& s = *state_;
  while (!data.empty()) {
    if (s.ssl) {
      const int sent =
          SSL_write(s.ssl.get(), data.data(), static_cast<int>(std::min(data.size(), size_t{1} << 20)));
      if (sent > 0)
        data.remove_prefix(static_cast<size_t>(sent));
      else if (!s.wait_for_tls(sent, s.options.silence))
        fail(ErrorKind::kResource, "sending to {}: {}", shown(s.server), tls_error());
      continue;
    }
    const ssize_t sent = send(s.fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent > 0)
      data.remove_prefix(static_cast<size_t>(sent));
    else if (errno == EAGAIN)
      s.wait(POLLOUT, s.options.silence);
    else if (errno != EINTR)
      fail(ErrorKind::kResource, "sending to {}: {}", shown(s.server), std::strerror(errno));
  }
}

size_t ClientSocket::read(char* data, size_t size) {
  State& s = *state_;
  while (true) {
    if (s.ssl) {
      const int got = SSL_read(s.ssl.get(), data, static_cast<int>(size));
      if (got > 0) return static_cast<size_t>(got);
      if (!s.wait_for_tls(got, s.options.silence)) return 0;
      continue;
    }
    const ssize_t got = recv(s.fd, data, size, 0);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno == EAGAIN)
      s.wait(POLLIN, s.options.silence);
    else if (errno == ECONNRESET)
      return 0;
    else if (errno != EINTR)
      fail(ErrorKind::kResource, "reading from {}: {}", shown(s.server), std::strerror(errno));
  }
}

}  // namespace flagscale::net
