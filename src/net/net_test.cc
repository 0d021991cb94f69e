// The server against our client and against raw sockets, on loopback.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/error.h"
#include "net/client.h"
#include "net/server.h"

namespace flagscale::net {
namespace {

using namespace std::chrono_literals;

class Raw {  // a peer that sends what it likes
 public:
  explicit Raw(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    timeval limit{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Raw() { close(fd_); }
  void send(std::string_view text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  std::string read_all() {  // until the server closes
    std::string all;
    char space[4096];
    for (ssize_t got; (got = recv(fd_, space, sizeof space, 0)) > 0;)
      all.append(space, static_cast<size_t>(got));
    return all;
  }
  std::string read_until(const std::string& end) {
    std::string all;
    char byte;
    while (all.find(end) == std::string::npos && recv(fd_, &byte, 1, 0) == 1) all += byte;
    return all;
  }

 private:
  int fd_;
};

ServerOptions quick() {
  ServerOptions options;
  options.max_body = 1 << 20;
  options.header_time = 400ms;
  options.body_time = 400ms;
  options.write_time = 600ms;
  return options;
}

Handler echo() {
  return [](const std::shared_ptr<Exchange>& exchange) {
    const Request& request = exchange->request();
    exchange->respond(
        {200, "text/plain", request.method + " " + request.path + "?" + request.query + " " + request.body});
  };
}

Url at(const Server& server) { return {false, "127.0.0.1", server.port(), "/"}; }

TEST(Net, AnswersAndKeepsTheConnection) {
  Server server(quick(), echo());
  Client client(at(server));
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(client.send("POST", "/a/b?c=d", std::to_string(i)).body, "POST /a/b?c=d " + std::to_string(i));
  EXPECT_EQ(server.connections(), 1);
  EXPECT_EQ(client.send("HEAD", "/x").body, "");
  EXPECT_EQ(client.send("GET", "/y").body, "GET /y? ");
}

TEST(Net, LargeBodiesBothWays) {
  Server server(quick(), echo());
  const std::string body(1 << 20, 'x');
  Client client(at(server));
  EXPECT_EQ(client.send("POST", "/", body).body.size(), body.size() + 8);
  EXPECT_EQ(client.send("POST", "/", body + "y").status, 413);
}

TEST(Net, PipelinedRequestsAreAnsweredInOrder) {
  Server server(quick(), echo());
  Raw raw(server.port());
  std::string all;
  for (int i = 0; i < 500; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
  raw.send(all + "GET /last HTTP/1.1\r\nConnection: close\r\n\r\n");
  const std::string answers = raw.read_all();
  size_t from = 0;
  for (int i = 0; i < 500; ++i) {
    from = answers.find("GET /" + std::to_string(i) + "? ", from);
    ASSERT_NE(from, std::string::npos) << i;
  }
  EXPECT_NE(answers.find("GET /last", from), std::string::npos);
}

TEST(Net, ChunkedRequestsInPiecesOfAByte) {
  Server server(quick(), echo());
  Raw raw(server.port());
  for (const char c : std::string("POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: "
                                  "close\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n"))
    raw.send(std::string(1, c));
  EXPECT_NE(raw.read_all().find("POST /c? abcde"), std::string::npos);
}

TEST(Net, ExpectContinue) {
  Server server(quick(), echo());
  Raw raw(server.port());
  raw.send("POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(raw.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  raw.send("hi");
  EXPECT_NE(raw.read_all().find("POST /? hi"), std::string::npos);
}

TEST(Net, RefusesWhatIsTooLargeOrWrong) {
  Server server(quick(), echo());
  const auto status_of = [&](const std::string& text) {
    Raw raw(server.port());
    raw.send(text);
    return raw.read_all().substr(0, 12);
  };
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nX: " + std::string(40'000, 'a') + "\r\n\r\n"), "HTTP/1.1 431");
  EXPECT_EQ(status_of("GET /" + std::string(40'000, 'a')), "HTTP/1.1 431");
  EXPECT_EQ(status_of("nonsense\r\n\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), "HTTP/1.1 413");
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400");
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
            "HTTP/1.1 400");
}

TEST(Net, SlowPeersAreCutOff) {
  Server server(quick(), echo());
  Raw header(server.port()), body(server.port());
  header.send("GET / HT");
  body.send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(header.read_all().substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(body.read_all().substr(0, 12), "HTTP/1.1 408");
}

TEST(Net, TooManyConnectionsAreToldSo) {
  ServerOptions options = quick();
  options.max_connections = 2;
  Server server(options, echo());
  Raw a(server.port()), b(server.port());
  a.send("GET / HTTP/1.1\r\n\r\n"), b.send("GET / HTTP/1.1\r\n\r\n");
  a.read_until("\r\n\r\n"), b.read_until("\r\n\r\n");
  EXPECT_EQ(Raw(server.port()).read_all().substr(0, 12), "HTTP/1.1 503");
}

TEST(Net, StreamsFromAnotherThread) {
  Server server(quick(), [](const std::shared_ptr<Exchange>& exchange) {
    std::thread([exchange] {
      exchange->begin({200, "text/event-stream", {}});
      for (int i = 0; i < 100; ++i) exchange->write("data: " + std::to_string(i) + "\n\n");
      exchange->end();
    }).detach();
  });
  Client client(at(server));
  for (int round = 0; round < 2; ++round) {
    EventStream events;
    std::vector<std::string> got;
    client.stream("GET", "/", "", {}, [&](std::string_view piece) {
      events.put(piece, [&](const std::string& data) { got.push_back(data); });
      return true;
    });
    ASSERT_EQ(got.size(), 100u);
    EXPECT_EQ(got[99], "99");
  }
  Raw old(server.port());  // HTTP/1.0 has no chunks: the end of the connection is the end of the body
  old.send("GET / HTTP/1.0\r\n\r\n");
  const std::string answer = old.read_all();
  EXPECT_EQ(answer.find("chunked"), std::string::npos);
  EXPECT_NE(answer.find("\r\n\r\ndata: 0\n\ndata: 1\n\n"), std::string::npos);
}

TEST(Net, TellsOfADisconnect) {
  std::promise<void> gone;
  std::shared_ptr<Exchange> kept;
  Server server(quick(), [&](const std::shared_ptr<Exchange>& exchange) {
    kept = exchange;
    exchange->begin({200, "text/plain", {}});
    exchange->write("x");
    exchange->on_disconnect([&] { gone.set_value(); });
  });
  {
    Raw raw(server.port());
    raw.send("GET / HTTP/1.1\r\n\r\n");
    raw.read_until("x");
  }
  EXPECT_EQ(gone.get_future().wait_for(5s), std::future_status::ready);
  kept->write("into the void"), kept->end();
  kept.reset();
}

// What follows a request is not read before its answer, yet the end behind it is seen.
TEST(Net, TellsOfADisconnectBehindUnreadBytes) {
  for (const std::string& rest :
       {std::string("\r\n"), std::string("GET /next HTTP/1.1\r\n\r\n"), std::string(60'000, 'x')}) {
    std::promise<void> asked, gone;
    std::shared_ptr<Exchange> kept;
    Server server(quick(), [&](const std::shared_ptr<Exchange>& exchange) {
      kept = exchange;
      exchange->on_disconnect([&] { gone.set_value(); });
      asked.set_value();
    });
    auto is_gone = gone.get_future();
    {
      Raw raw(server.port());
      raw.send("GET / HTTP/1.1\r\n\r\n" + rest);
      asked.get_future().wait();
      EXPECT_EQ(is_gone.wait_for(600ms), std::future_status::timeout);  // a peer that waits is not gone
    }
    EXPECT_EQ(is_gone.wait_for(5s), std::future_status::ready) << rest.substr(0, 20);
    kept.reset();
  }
}

TEST(Net, APeerThatDoesNotReadIsCutOff) {
  std::promise<void> gone;
  std::shared_ptr<Exchange> kept;
  Server server(quick(), [&](const std::shared_ptr<Exchange>& exchange) {
    kept = exchange;
    exchange->begin({200, "text/plain", {}});
    exchange->on_disconnect([&] { gone.set_value(); });
    exchange->write(std::string(6 << 20, 'x'));  // more than the kernel's buffers take
  });
  Raw raw(server.port());
  raw.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(gone.get_future().wait_for(5s), std::future_status::ready);
  EXPECT_LT(kept->unsent(), size_t{7} << 20);
  kept.reset();
}

TEST(Net, ADroppedExchangeIsAnswered) {
  Server server(quick(), [](const std::shared_ptr<Exchange>&) {});
  EXPECT_EQ(Client(at(server)).send("GET", "/").status, 500);
}

TEST(Net, StopsInOrder) {
  std::shared_ptr<Exchange> kept;
  std::promise<void> arrived;
  Server server(quick(), [&](const std::shared_ptr<Exchange>& exchange) {
    kept = exchange;
    arrived.set_value();
  });
  Raw idle(server.port());
  auto answer = std::async(std::launch::async, [&] { return Client(at(server)).send("GET", "/").body; });
  arrived.get_future().wait();
  server.stop_accepting();
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_THROW(Client(at(server)).send("GET", "/"), Error);
  kept->respond({200, "text/plain", "done"});
  kept.reset();
  EXPECT_EQ(answer.get(), "done");
  for (int i = 0; i < 200 && server.connections() > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(server.connections(), 0);
}

TEST(Net, ATakenPortIsNamed) {
  Server server(quick(), echo());
  ServerOptions options;
  options.port = server.port();
  try {
    Server second(options, echo());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(server.port())), std::string::npos)
        << error.what();
  }
}

TEST(Net, Urls) {
  const Url url = parse_url("https://[::1]:8443/v1?x");
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.path, "/v1?x");
  EXPECT_EQ(parse_url("localhost:81").port, 81);
  for (const char* bad : {"", "http://", "http://a:0", "http://a:99999", "http://a:1x", "http://a b"})
    EXPECT_THROW(parse_url(bad), Error) << bad;
}

}  // namespace
}  // namespace flagscale::net
