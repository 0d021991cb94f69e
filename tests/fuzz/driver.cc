// Drives a fuzz target without libFuzzer: mutates seeds for a while, the same way for the same --seed.
//
//   fuzz_NAME [--seconds S] [--runs N] [--seed N] PATH...   mutate the files at PATH (a folder: all files in
//   it) fuzz_NAME --replay FILE                                 run one input as it is
//
// A crash, an exception that leaves the target, an input that takes more than 10 s of processor time or 4 GiB
// of memory: the input is written to ./crash-NAME and the program dies.

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {
namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr size_t kMaxInput = size_t{1} << 20;
constexpr unsigned kSecondsPerInput = 10;

const Bytes* current = nullptr;  // read by the signal handler
std::string crash_path;

void on_death(int signal_number) {
  if (current) {
    const int fd = open(crash_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, current->data(), current->size()) < 0) _exit(99);
    constexpr char message[] = "the input that did it is in ./crash-*\n";
    if (write(2, message, sizeof message - 1) < 0) _exit(99);
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

// Of the processor's time, so that a busy machine ends no input.
void limit_seconds(unsigned seconds) {
  const itimerval limit{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_PROF, &limit, nullptr);
}

void run(const Bytes& input) {
  current = &input;
  limit_seconds(kSecondsPerInput);
  LLVMFuzzerTestOneInput(input.data(), input.size());
  limit_seconds(0);
  current = nullptr;
}

Bytes read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  bytes.resize(std::min(bytes.size(), kMaxInput));
  return bytes;
}

std::vector<Bytes> read_seeds(const std::vector<std::string>& paths) {
  std::vector<fs::path> files;
  for (const std::string& path : paths) {
    if (fs::is_directory(path)) {
      for (const auto& entry : fs::recursive_directory_iterator(path))
        if (entry.is_regular_file()) files.push_back(entry.path());
    } else if (fs::is_regular_file(path)) {
      files.emplace_back(path);
    } else {
      std::fprintf(stderr, "no seed at %s\n", path.c_str());
      std::exit(2);
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> seeds;
  for (const fs::path& file : files) seeds.push_back(read(file));
  if (seeds.empty()) seeds.emplace_back();
  return seeds;
}

size_t below(Random& random, size_t n) { return n == 0 ? 0 : random() % n; }

// Half of the places near the front, where the headers are.
size_t place(Random& random, const Bytes& input) {
  const size_t at = below(random, input.size());
  return random() % 2 ? at : at >> below(random, 12);
}

// Overwrites up to 8 bytes at a place with a number that parsers dislike.
void put_number(Random& random, Bytes& input) {
  constexpr uint64_t kNumbers[] = {0,
                                   1,
                                   0x7f,
                                   0x80,
                                   0xff,
                                   0x7fff,
                                   0xffff,
                                   0x10000,
                                   0x7fffffff,
                                   0x80000000,
                                   0xffffffff,
                                   uint64_t{1} << 32,
                                   ~uint64_t{0},
                                   ~uint64_t{0} >> 1,
                                   uint64_t{1} << 63,
                                   uint64_t{1} << 40};
  uint64_t number = kNumbers[below(random, std::size(kNumbers))] + below(random, 3) - 1;
  if (random() % 4 == 0) number = random();
  const size_t width = size_t{1} << below(random, 4), at = place(random, input);
  std::memcpy(input.data() + at, &number, std::min(width, input.size() - at));
}

void put_text(Random& random, Bytes& input) {
  constexpr const char* kTexts[] = {"-1",
                                    "1e999",
                                    "null",
                                    "[",
                                    "]",
                                    "{",
                                    "}",
                                    "\"",
                                    "\\",
                                    "9223372036854775808",
                                    "18446744073709551616",
                                    "\xff\xfe",
                                    "${",
                                    ": ",
                                    "- ",
                                    "&a",
                                    "*a",
                                    "\n",
                                    "0.5",
                                    "true"};
  const std::string_view text = kTexts[below(random, std::size(kTexts))];
  input.insert(input.begin() + static_cast<ptrdiff_t>(place(random, input)), text.begin(), text.end());
}

void copy_range(Random& random, Bytes& input, const Bytes& from) {
  const size_t begin = place(random, from),
               count = below(random, std::min<size_t>(from.size() - begin, 256) + 1);
  const Bytes part(from.begin() + static_cast<ptrdiff_t>(begin),
                   from.begin() + static_cast<ptrdiff_t>(begin + count));
  input.insert(input.begin() + static_cast<ptrdiff_t>(place(random, input)), part.begin(), part.end());
}

void erase_range(Random& random, Bytes& input) {
  const size_t begin = place(random, input),
               count = below(random, std::min<size_t>(input.size() - begin, 64) + 1);
  input.erase(input.begin() + static_cast<ptrdiff_t>(begin),
              input.begin() + static_cast<ptrdiff_t>(begin + count));
}

Bytes mutate(Random& random, const std::vector<Bytes>& pool) {
  Bytes input = pool[below(random, pool.size())];
  for (size_t n = 1 + below(random, 6); n > 0; --n) {
    if (input.empty()) input.push_back(static_cast<uint8_t>(random()));
    switch (below(random, 8)) {
      case 0:
        input[place(random, input)] ^= static_cast<uint8_t>(1u << below(random, 8));
        break;
      case 1:
        input[place(random, input)] = static_cast<uint8_t>(random());
        break;
      case 2:
      case 3:
        put_number(random, input);
        break;
      case 4:
        put_text(random, input);
        break;
      case 5:
        copy_range(random, input, pool[below(random, pool.size())]);
        break;
      case 6:
        erase_range(random, input);
        break;
      default:
        if (random() % 8 == 0) input.resize(place(random, input));
        break;
    }
  }
  input.resize(std::min(input.size(), kMaxInput));
  return input;
}

void limit_memory() {
#ifndef __SANITIZE_ADDRESS__
  const rlimit limit{rlim_t{4} << 30, rlim_t{4} << 30};
  setrlimit(RLIMIT_AS, &limit);
#endif
}
}  // namespace

int main(int argc, char** argv) {
  double seconds = 2;
  uint64_t runs = ~uint64_t{0}, seed = 1;
  std::vector<std::string> paths;
  std::string replay;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--seconds")
      seconds = std::atof(value), ++i;
    else if (argument == "--runs")
      runs = std::strtoull(value, nullptr, 10), seconds = 1e9, ++i;
    else if (argument == "--seed")
      seed = std::strtoull(value, nullptr, 10), ++i;
    else if (argument == "--replay")
      replay = value, ++i;
    else
      paths.push_back(argument);
  }
  if (const char* longer = std::getenv("FLAGSCALE_FUZZ_SECONDS"))
    seconds = std::max(seconds, std::atof(longer));
  crash_path = "crash-" + fs::path(argv[0]).filename().string();
  for (const int number : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGPROF}) signal(number, on_death);
  limit_memory();
  if (!replay.empty()) return run(read(replay)), 0;

  const std::vector<Bytes> pool = read_seeds(paths);
  for (const Bytes& input : pool) run(input);
  Random random(seed);
  const auto start = std::chrono::steady_clock::now();
  uint64_t done = 0;
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (; done < runs && elapsed() < seconds; ++done) run(mutate(random, pool));
  std::printf("%llu inputs in %.1f s, none crashed\n", static_cast<unsigned long long>(done), elapsed());
  return 0;
}
