// The cases of FlagScale's tests/unit_tests/runner/test_parse_hostfile.py, with what an error must say.
#include "launch/hostfile.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/temporary_folder_test_support.h"

namespace flagscale::launch {
namespace {

class Hostfile : public testing::Test {
 protected:
  std::vector<Host> read(const std::string& text) { return read_hostfile(folder_.put("hosts", text)); }

  // The error without the folder's name.
  std::string refusal(const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      const std::string what = error.what();
      return what.starts_with(folder_.path) ? what.substr(folder_.path.size() + 1) : what;
    }
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(Hostfile, ReadsHostsInOrder) {
  const auto hosts = read("worker1 slots=16 type=A100\nworker0\tslots=8  type=V100\n");
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].name, "worker1");
  EXPECT_EQ(hosts[0].slots, 16);
  EXPECT_EQ(hosts[0].type, "A100");
  EXPECT_EQ(hosts[1].name, "worker0");
  EXPECT_EQ(hosts[1].slots, 8);
  EXPECT_EQ(hosts[1].type, "V100");
}

TEST_F(Hostfile, SkipsCommentsAndBlankLines) {
  const auto hosts =
      read("# ip slots=1\n\n   \n  192.168.0.1 slots=8   # the master\r\n#x slots=2\n10.0.0.2 slots=4");
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].name, "192.168.0.1");
  EXPECT_EQ(hosts[0].type, "");
  EXPECT_EQ(hosts[1].slots, 4);
}

TEST_F(Hostfile, IgnoresTextBehindAHostWithAWarning) {
  testing::internal::CaptureStderr();
  const auto hosts = read("a slots=8 max_slots=16\nb slots=8 mode=x type=A100\n");
  const std::string said = testing::internal::GetCapturedStderr();
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[1].type, "");
  EXPECT_NE(said.find("hosts:1: 'max_slots=16' is not read"), std::string::npos) << said;
  EXPECT_NE(said.find("hosts:2: 'mode=x' is not read"), std::string::npos) << said;
}

TEST_F(Hostfile, RefusesAMissingFile) {
  try {
    read_hostfile(folder_.path + "/nowhere");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_NE(std::string(error.what()).find("there is no hostfile " + folder_.path + "/nowhere"),
              std::string::npos);
    EXPECT_NE(std::string(error.what()).find("experiment.runner.hostfile=null"), std::string::npos);
  }
  EXPECT_THROW(read_hostfile(folder_.path), Error);
}

TEST_F(Hostfile, RefusesLinesThatAreNoHost) {
  EXPECT_EQ(
      refusal("worker0 slots=16 type=A100\ninvalid line\n"),
      "hosts:2: 'invalid line' is no host: write NAME slots=N, for instance `invalid slots=8 type=A100`");
  EXPECT_EQ(
      refusal("slots=8 worker0\n"),
      "hosts:1: 'slots=8 worker0' is no host: write NAME slots=N, for instance `worker0 slots=8 type=A100`");
  EXPECT_TRUE(refusal("worker0\n").starts_with("hosts:1: 'worker0' is no host"));
  EXPECT_TRUE(refusal("worker0 type=A100 slots=8\n").starts_with("hosts:1: "));
  for (const char* slots : {"slots=", "slots=x", "slots=8x", "slots=0", "slots=-1", "slots=99999999999"})
    EXPECT_EQ(
        refusal(std::string("a ") + slots),
        "hosts:1: '" + std::string(slots) + "' must be slots=N with a count of devices from 1 to 65536");
  EXPECT_TRUE(refusal("a slots=8 type=\n").starts_with("hosts:1: type= has no name"));
}

TEST_F(Hostfile, RefusesAHostTwice) {
  EXPECT_EQ(refusal("a slots=8\nb slots=8\n\na slots=4\n"),
            "hosts:4: host a stands in line 1 already: give it one line, with all its slots");
}

TEST_F(Hostfile, RefusesAnEmptyFile) {
  EXPECT_EQ(refusal(""), "hosts names no host: write a line a host, `NAME slots=N`");
  EXPECT_EQ(refusal("# worker0 slots=8\n"), "hosts names no host: write a line a host, `NAME slots=N`");
}

TEST_F(Hostfile, RefusesWhatIsNoText) {
  EXPECT_EQ(refusal(std::string("a\0b slots=1\n", 12)),
            "hosts is no text: a hostfile has a line a host, `NAME slots=N`");
}

TEST_F(Hostfile, AByteOrderMarkIsPassedOver) {
  EXPECT_EQ(read("\xef\xbb\xbf# mine\na slots=1\n")[0].name, "a");
  EXPECT_EQ(read("\xef\xbb\xbflocalhost slots=1\n")[0].name, "localhost");
}

TEST_F(Hostfile, AnotherEncodingIsNamedWithTheWayOutOfIt) {
  const auto wide = [](const std::string& mark, size_t zeros_before, size_t zeros_behind) {
    std::string text = mark;
    for (const char c : std::string("a slots=1\n"))
      text += std::string(zeros_before, '\0') + c + std::string(zeros_behind, '\0');
    return text;
  };
  for (const auto& [text, name, iconv] : {std::tuple{wide("\xff\xfe", 0, 1), "UTF-16LE", "UTF-16"},
                                          {wide("\xfe\xff", 1, 0), "UTF-16BE", "UTF-16"},
                                          {wide(std::string("\xff\xfe\0\0", 4), 0, 3), "UTF-32LE", "UTF-32"},
                                          {wide(std::string("\0\0\xfe\xff", 4), 3, 0), "UTF-32BE", "UTF-32"}})
    EXPECT_EQ(refusal(text), std::string("hosts is ") + name + ": save it as UTF-8 (`iconv -f " + iconv +
                                 " -t UTF-8 " + folder_.path +
                                 "/hosts > NEW`, or the editor's choice of encoding)");
}

TEST_F(Hostfile, RefusesWhatIsNoNameOfAHost) {
  for (const char* name : {"../../x", "a;b", "-oProxyCommand=x", "a/b", "$(x)", ".."})
    EXPECT_EQ(refusal(std::string(name) + " slots=1\n"),
              "hosts:1: '" + std::string(name) +
                  "' is no name of a host: write NAME slots=N, for instance `worker0 slots=8`");
  for (const char* name : {"node-1.cluster", "me@10.0.0.1", "fe80::1%eth0", "[::1]", "a_b"})
    EXPECT_EQ(read(std::string(name) + " slots=1\n")[0].name, name);
}

TEST_F(Hostfile, APipeIsNotWaitedFor) {
  const std::string pipe = folder_.path + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  try {
    read_hostfile(pipe);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("is no regular file"), std::string::npos) << error.what();
  }
}

TEST_F(Hostfile, RefusesTypesOnSomeHostsOnly) {
  EXPECT_EQ(
      refusal("worker0 slots=16 type=A100\nworker1 slots=8 type=V100\nworker2 slots=32\n"),
      "hosts: host worker0 has type=A100 and host worker2 has no type: give every line a type, or none");
  EXPECT_EQ(
      refusal("worker0 slots=16\nworker1 slots=8 type=V100\n"),
      "hosts: host worker1 has type=V100 and host worker0 has no type: give every line a type, or none");
}

}  // namespace
}  // namespace flagscale::launch
