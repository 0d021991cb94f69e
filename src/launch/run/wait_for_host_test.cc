#include "launch/run/wait_for_host.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/error.h"
#include "launch/placement.h"

namespace flagscale::launch {
namespace {

TEST(WaitForHost, ReturnsOnceSomethingListens) {
  const int port = free_port();
  std::thread late([port] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const int file = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    bind(file, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(file, 8);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    close(file);
  });
  EXPECT_FALSE(answers("127.0.0.1:" + std::to_string(port)));
  EXPECT_NO_THROW(wait_for_host("127.0.0.1:" + std::to_string(port), std::chrono::seconds(10)));
  EXPECT_TRUE(answers("localhost:" + std::to_string(port)));
  late.join();
}

TEST(WaitForHost, SaysWhyItGivesUp) {
  const std::string place = "127.0.0.1:" + std::to_string(free_port());
  try {
    wait_for_host(place, std::chrono::seconds(0));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "nothing answers at " + place + " after 0 s (Connection refused): the first node is to start there");
  }
  EXPECT_THROW(wait_for_host("no-such-host.invalid:1", std::chrono::seconds(0)), Error);
}

}  // namespace
}  // namespace flagscale::launch
