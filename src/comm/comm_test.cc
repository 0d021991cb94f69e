#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <random>
#include <thread>

#include "base/error.h"
#include "comm/local/local_group.h"
#include "comm/tcp/socket.h"
#include "comm/tcp/tcp_group.h"

namespace flagscale::comm {
namespace {

using std::chrono::milliseconds;
using Groups = std::vector<std::unique_ptr<ProcessGroup>>;
using Rank = std::function<void(ProcessGroup&)>;

int free_port() { return listen_on(0).local_port(); }

Meeting at(int port, int rank, int size, std::chrono::duration<double> deadline = std::chrono::seconds(20)) {
  return {.job = "test", .port = port, .rank = rank, .size = size, .deadline = deadline};
}

// Runs a rank a thread; what each threw, "" where nothing.
std::vector<std::string> errors_of(Groups groups, const Rank& rank) {
  std::vector<std::string> errors(groups.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < groups.size(); ++r)
    threads.emplace_back([&, r] {
      try {
        rank(*groups[r]);
      } catch (const std::exception& error) {
        errors[r] = error.what();
        groups[r]->abort(error.what());
        groups[r].reset();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

Groups tcp(int size, std::chrono::duration<double> deadline = std::chrono::seconds(20)) {
  const int port = free_port();
  Groups groups(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] { groups[static_cast<size_t>(r)] = join(at(port, r, size, deadline)); });
  for (std::thread& thread : threads) thread.join();
  return groups;
}

struct BackEnd {
  const char* name;
  Groups (*make)(int size, std::chrono::duration<double> deadline);
};
const BackEnd kBackEnds[] = {{"local", &make_local_groups}, {"tcp", &tcp}};

class BackEnds : public testing::TestWithParam<BackEnd> {
 protected:
  static Groups groups(int size, std::chrono::duration<double> deadline = std::chrono::seconds(20)) {
    return GetParam().make(size, deadline);
  }
  static void expect_no_error(const std::vector<std::string>& errors) {
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  }
};
INSTANTIATE_TEST_SUITE_P(Of, BackEnds, testing::ValuesIn(kBackEnds),
                         [](const auto& one) { return std::string(one.param.name); });

std::vector<float> values_of(int rank, size_t size) {
  std::mt19937 random(static_cast<unsigned>(rank) + 7);
  std::vector<float> values(size);
  for (float& value : values) value = std::normal_distribution<float>(0, 1e3f)(random);
  return values;
}

TEST_P(BackEnds, SumInRankOrderToTheBit) {
  for (const int ranks : {1, 2, 3, 5})
    for (const size_t size : {size_t{0}, size_t{1}, size_t{2}, size_t{7}, size_t{1000}, size_t{3000001}}) {
      std::vector<float> expected(size);
      for (int r = 0; r < ranks; ++r) {
        const std::vector<float> values = values_of(r, size);
        for (size_t i = 0; i < size; ++i) expected[i] = r == 0 ? values[i] : expected[i] + values[i];
      }
      expect_no_error(errors_of(groups(ranks), [&](ProcessGroup& group) {
        std::vector<float> values = values_of(group.rank(), size);
        Reducer(group).sum(std::span(values));
        if (values != expected) throw std::runtime_error("another sum");
      }));
    }
}

TEST_P(BackEnds, SumToEachWhatIsItsPart) {
  for (const int ranks : {1, 2, 3, 5})
    for (const size_t size : {size_t{0}, size_t{3}, size_t{1000}, size_t{700001}})
      expect_no_error(errors_of(groups(ranks), [&](ProcessGroup& group) {
        const std::vector<float> own = values_of(group.rank(), size);
        std::vector<float> values = own, expected = own;
        Reducer(group).sum(std::span(expected));
        std::vector<std::span<float>> parts;
        size_t begin = 0;
        for (int r = 0; r < ranks; ++r) {  // unequal ones
          const size_t end = r + 1 == ranks ? size : begin + (size - begin) / 3;
          parts.push_back(std::span(values).subspan(begin, end - begin));
          begin = end;
        }
        Reducer(group).sum_to_each(parts);
        const std::span<float> mine = parts[static_cast<size_t>(group.rank())];
        for (size_t i = 0; i < size; ++i) {
          const float* const at = values.data() + i;
          const bool is_mine = at >= mine.data() && at < mine.data() + mine.size();
          if (values[i] != (is_mine ? expected : own)[i]) throw std::runtime_error("another sum");
        }
      }));
}

TEST_P(BackEnds, BroadcastAndGather) {
  expect_no_error(errors_of(groups(4), [](ProcessGroup& group) {
    std::vector<std::byte> bytes(1000003, static_cast<std::byte>(group.rank()));
    if (group.rank() == 0) std::fill(bytes.begin(), bytes.end(), std::byte{42});
    broadcast(group, bytes);
    if (std::count(bytes.begin(), bytes.end(), std::byte{42}) != 1000003) throw std::runtime_error("bytes");
    const std::vector<std::string> texts = gather(group, std::string(static_cast<size_t>(group.rank()), 'x'));
    for (size_t r = 0; r < 4; ++r)
      if (texts[r] != std::string(r, 'x')) throw std::runtime_error("texts");
  }));
}

TEST_P(BackEnds, AnErrorOfOneRankIsEverybodys) {
  const auto errors = errors_of(groups(3), [](ProcessGroup& group) {
    std::vector<float> values(1000);
    for (int i = 0;; ++i) {
      if (i == 3 && group.rank() == 1) throw std::runtime_error("the disk of its host is full");
      Reducer(group).sum(std::span(values));
    }
  });
  EXPECT_EQ(errors[0], "rank 1: the disk of its host is full");
  EXPECT_EQ(errors[2], "rank 1: the disk of its host is full");
}

TEST_P(BackEnds, ARankThatEndedIsHeardOfBetweenCollectives) {
  const auto errors = errors_of(groups(3), [](ProcessGroup& group) {
    std::vector<float> values(10);
    group.check_others();
    Reducer(group).sum(std::span(values));
    if (group.rank() == 1) throw std::runtime_error("its GPU was lost");
    for (;;) {
      group.check_others();
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  EXPECT_EQ(errors[0], "rank 1: its GPU was lost");
  EXPECT_EQ(errors[2], "rank 1: its GPU was lost");
}

TEST_P(BackEnds, OtherSizesAreOtherPrograms) {
  const auto errors = errors_of(groups(2), [](ProcessGroup& group) {
    std::vector<float> values(group.rank() == 0 ? 100 : 200);
    Reducer(group).sum(std::span(values));
  });
  EXPECT_NE((errors[0] + errors[1]).find("the ranks run different programs"), std::string::npos) << errors[0];
  EXPECT_FALSE(errors[0].empty() || errors[1].empty());
}

TEST_P(BackEnds, TheRankThatIsSilentIsNamed) {
  std::atomic<bool> done = false;
  const auto errors = errors_of(groups(3, milliseconds(300)), [&](ProcessGroup& group) {
    std::vector<float> values(10);
    if (group.rank() == 2) {
      while (!done) std::this_thread::sleep_for(milliseconds(5));
      return;
    }
    try {
      Reducer(group).sum(std::span(values));
    } catch (...) {
      done = true;
      throw;
    }
  });
  EXPECT_NE(errors[0].find("rank 2"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[0].find("rank 1"), std::string::npos) << errors[0];
}

TEST(TcpGroup, ARankThatDiesIsNamed) {
  const auto errors = errors_of(tcp(3), [](ProcessGroup& group) {
    std::vector<float> values(1000);
    Reducer(group).sum(std::span(values));
    if (group.rank() == 1) throw std::runtime_error("dies");
    std::this_thread::sleep_for(milliseconds(50));
    Reducer(group).sum(std::span(values));
  });
  EXPECT_EQ(errors[0], "rank 1: dies");
}

std::string error_of(const Meeting& meeting) {
  try {
    join(meeting);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(Rendezvous, SaysWhoIsWaitedForBeforeItGivesUp) {
  testing::internal::CaptureStderr();
  error_of(at(free_port(), 0, 3, milliseconds(200)));
  error_of(at(free_port(), 1, 2, milliseconds(200)));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("for ranks 1, 2"), std::string::npos) << said;
  EXPECT_NE(said.find("nobody answers at localhost"), std::string::npos) << said;
}

TEST(Rendezvous, NamesWhoDidNotCome) {
  EXPECT_NE(error_of(at(free_port(), 0, 3, milliseconds(200))).find("ranks 1, 2 did not come"),
            std::string::npos);
  const std::string nobody = error_of(at(free_port(), 1, 2, milliseconds(200)));
  EXPECT_NE(nobody.find("nobody answers at localhost"), std::string::npos) << nobody;
}

TEST(Rendezvous, RefusesStrangers) {
  const int port = free_port();
  std::string of_rank_0 = "-";
  std::thread rank_0([&] { of_rank_0 = error_of(at(port, 0, 2)); });
  Meeting other = at(port, 1, 2);
  other.job = "another";
  EXPECT_NE(error_of(other).find("is of the job 'test'"), std::string::npos);
  EXPECT_NE(error_of(at(port, 1, 3)).find("WORLD_SIZE"), std::string::npos);
  EXPECT_NE(error_of(at(port, 7, 2)).find("there is no rank 7"), std::string::npos);
  const auto soon = Clock::now() + std::chrono::seconds(5);
  connect_to("localhost", port, soon, soon);  // a port scanner
  EXPECT_EQ(error_of(at(port, 1, 2)), "");
  rank_0.join();
  EXPECT_EQ(of_rank_0, "");
}

TEST(Rendezvous, APortThatIsTakenIsNamed) {
  const Socket taken = listen_on(0);
  const std::string error = error_of(at(taken.local_port(), 0, 2));
  EXPECT_NE(error.find("cannot listen on port " + std::to_string(taken.local_port())), std::string::npos)
      << error;
}

TEST(Rendezvous, AHostWithoutAddressIsNamed) {
  Meeting meeting = at(free_port(), 1, 2);
  meeting.address = "no-such-host.invalid";
  EXPECT_NE(error_of(meeting).find("no-such-host.invalid has no address"), std::string::npos);
}

}  // namespace
}  // namespace flagscale::comm
