#include "device/cuda/peers.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>

#include "base/error.h"

namespace flagscale::cuda {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kWords = size_t{1} << 16;  // of kReady, and of kSummed: 2 TB in pieces
constexpr size_t kAllWords = 2 * kWords + 1;
constexpr size_t kOnes = kAllWords * sizeof(uint32_t);
constexpr double kPatience = 10;  // seconds, for what takes none
static_assert(2 * kOnes <= PeerGpus::kFirstSlot);

template <class T>
void put(std::string& text, const T& value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const std::string& text, size_t& at) {
  T value{};
  if (at + sizeof value <= text.size()) std::memcpy(&value, text.data() + at, sizeof value);
  at += sizeof value;
  return value;
}

template <class T>
std::span<T> piece_of(std::span<T> all, size_t piece) {
  constexpr size_t kCount = PeerGpus::kSlot / sizeof(T);
  const size_t begin = std::min(piece * kCount, all.size());
  return all.subspan(begin, std::min(kCount, all.size() - begin));
}

Pointer offset_of(size_t kind, size_t word) { return (kind * kWords + word) * sizeof(uint32_t); }

// Of what a machine may refuse.
void allow(Status status, const char* what) {
  if (status != 0) fail(ErrorKind::kUnsupported, "[cuda] {}: {}", what, describe(driver(), status));
}

Pointer address(const void* data) { return reinterpret_cast<Pointer>(data); }

void copy_on(StreamObject* stream, Pointer to, Pointer from, size_t bytes) {
  check(driver().copy_later(to, from, bytes, stream), "copy between the ranks' GPUs");
}

}  // namespace

PeerGpus::PeerGpus(int rank, std::vector<std::span<std::byte>> memory, Add add,
                   std::function<void()> check_others)
    : rank_(static_cast<size_t>(rank)),
      memory_(std::move(memory)),
      add_(std::move(add)),
      check_others_(std::move(check_others)),
      room_(address(memory_.front().data())) {}

std::string PeerGpus::offer() {
  enter_here();
  const Driver& d = driver();
  const std::vector<uint32_t> ones(kAllWords, 1);
  check(d.copy(room_ + kOnes, address(ones.data()), kOnes), "copy memory");
  check(d.synchronize(), "copy memory");

  Pointer base = 0;
  size_t size = 0;
  check(d.range_of(&base, &size, room_), "ask where memory begins");
  IpcHandle handle{};
  allow(d.export_memory(&handle, base), "let the other rank see this GPU's memory");
  int least = 0, greatest = 0;
  check(d.priorities(&least, &greatest), "ask for priorities");
  for (StreamObject** stream : {&taking_, &adding_, &giving_, &releasing_})
    check(d.make_stream(stream, kAlone, greatest), "make a stream");
  check(d.make_event(&event_, kUntimed), "make an event");
  for (EventObject*& event : added_) check(d.make_event(&event, kUntimed), "make an event");

  std::string offer;
  put(offer, handle);
  for (const std::span<std::byte> some : memory_)
    put(offer, size_t{address(some.data()) - base}), put(offer, some.size());
  return offer;
}

PeerGpus::~PeerGpus() {
  if (under_way_) give_up();  // what it waits for may not come
  const Driver& d = driver();
  if (other_memory_) d.close_memory(other_memory_);
  for (EventObject* event : added_)
    if (event) d.free_event(event);
  if (event_) d.free_event(event_);
  for (StreamObject* stream : {taking_, adding_, giving_, releasing_})
    if (stream) d.free_stream(stream);
}

void PeerGpus::open(const std::string& offer) {
  size_t at = 0;
  const auto handle = take<IpcHandle>(offer, at);
  for (const std::span<std::byte> some : memory_) {
    other_offsets_.push_back(take<size_t>(offer, at));
    if (take<size_t>(offer, at) != some.size())
      fail(ErrorKind::kInvalidArgument, "the ranks' memory is laid out differently");
  }
  constexpr unsigned kEnableAccess = 1;  // CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
  allow(driver().open_memory(&other_memory_, handle, kEnableAccess), "see the other GPU's memory");
  other_room_ = of_other(memory_.front().data());
}

// One signal and one copy.
void PeerGpus::try_out() {
  under_way_ = true;
  follow(giving_, thread_stream());
  copy_on(giving_, room_ + kFirstSlot, other_room_ + kOnes, sizeof(uint32_t));
  signal(giving_, Signal::kDone, 0);
  await(giving_, Signal::kDone, 0);
  wait_for(giving_, kPatience);
  under_way_ = false;
  uint32_t came = 0;
  check(driver().copy(address(&came), room_ + kFirstSlot, sizeof came), "copy memory");
  if (came != 1) fail(ErrorKind::kResource, "a copy from the other GPU brings something else");
}

Pointer PeerGpus::of_other(const void* here) const {
  for (size_t i = 0; i < memory_.size(); ++i) {
    const auto* const begin = memory_[i].data();
    const auto* const at = static_cast<const std::byte*>(here);
    if (at >= begin && at < begin + memory_[i].size())
      return other_memory_ + other_offsets_[i] + static_cast<Pointer>(at - begin);
  }
  fail(ErrorKind::kInvalidArgument, "the other rank does not show this memory");
}

void PeerGpus::follow(StreamObject* later, StreamObject* earlier) {
  check(driver().record_event(event_, earlier), "record an event");
  check(driver().wait_in_stream(later, event_, 0), "wait for an event");
}

void PeerGpus::begin() {
  if (ended_) fail(ErrorKind::kResource, "the ranks' GPUs are not joined any more");
  for (StreamObject* stream : {taking_, adding_, giving_}) follow(stream, thread_stream());
  under_way_ = true;
}

size_t PeerGpus::next_word() {
  if (words_ == kWords) fail(ErrorKind::kUnsupported, "the ranks' GPUs have too much to exchange in a step");
  return words_++;
}

void PeerGpus::signal(StreamObject* stream, Signal which, size_t word) {
  copy_on(stream, other_room_ + offset_of(static_cast<size_t>(which), word), room_ + kOnes, sizeof(uint32_t));
}

void PeerGpus::await(StreamObject* stream, Signal which, size_t word) {
  constexpr int kWait = 1, kWrite = 2;  // CU_STREAM_MEM_OP_WAIT_VALUE_32, _WRITE_VALUE_32
  constexpr unsigned kEqual = 1;        // CU_STREAM_WAIT_VALUE_EQ
  const Pointer at = room_ + offset_of(static_cast<size_t>(which), word);
  MemoryOperation operations[] = {{kWait, at, 1, kEqual}, {kWrite, at, 0, 0}};
  check(driver().operate(stream, 2, operations, 0), "wait for the other GPU");
}

// Where the other's are ready.
void PeerGpus::add_piece(std::span<float> mine) {
  const size_t slot = pieces_ % kSlots;
  const Pointer at = room_ + kFirstSlot + slot * kSlot;
  if (pieces_++ >= kSlots) check(driver().wait_in_stream(taking_, added_[slot], 0), "wait for an event");
  copy_on(taking_, at, of_other(mine.data()), mine.size_bytes());
  follow(adding_, taking_);
  add_(mine.data(), reinterpret_cast<const float*>(at),  // NOLINT(performance-no-int-to-ptr)
       mine.size(), adding_);
  check(driver().record_event(added_[slot], adding_), "record an event");
}

// `back`: each takes the sums of the other's part too.
void PeerGpus::exchange(std::span<float> mine, std::span<float> other, bool back) {
  begin();
  const size_t bytes = std::max(mine.size_bytes(), other.size_bytes());
  for (size_t i = 0; i * kSlot < bytes; ++i) {
    const size_t word = next_word();
    const std::span<float> own = piece_of(mine, i), of_other_rank = piece_of(other, i);
    signal(taking_, Signal::kReady, word);
    await(taking_, Signal::kReady, word);
    if (!own.empty()) add_piece(own);
    if (!back) continue;
    follow(giving_, adding_);
    signal(giving_, Signal::kSummed, word);
    await(giving_, Signal::kSummed, word);
    if (!of_other_rank.empty())
      copy_on(giving_, address(of_other_rank.data()), of_other(of_other_rank.data()),
              of_other_rank.size_bytes());
  }
}

void PeerGpus::sum(float* data, size_t count) {
  const size_t half = std::min((count / 2 + 3) / 4 * 4, count);  // of packs
  const std::span<float> first(data, half), second(data + half, count - half);
  exchange(rank_ == 0 ? first : second, rank_ == 0 ? second : first, true);
}

void PeerGpus::sum_to_each(std::span<const std::span<float>> of_rank) {
  exchange(of_rank[rank_], of_rank[1 - rank_], false);
}

void PeerGpus::share(std::span<const std::span<std::byte>> of_rank) {
  begin();
  const std::span<std::byte> other = of_rank[1 - rank_];
  const size_t word = next_word();
  signal(giving_, Signal::kSummed, word);
  await(giving_, Signal::kSummed, word);
  if (!other.empty()) copy_on(giving_, address(other.data()), of_other(other.data()), other.size());
}

// The other may change what was taken from it once it is told.
void PeerGpus::wait() {
  if (under_way_) {
    follow(giving_, taking_);
    follow(giving_, adding_);
    signal(giving_, Signal::kDone, 0);
    await(giving_, Signal::kDone, 0);
    follow(thread_stream(), giving_);
  }
  wait_for(thread_stream(), std::numeric_limits<double>::infinity());
  under_way_ = false;
  words_ = pieces_ = 0;
}

void PeerGpus::wait_for(StreamObject* stream, double seconds) {
  constexpr std::chrono::milliseconds kLook{100};
  const auto began = Clock::now();
  auto looked = began;
  try {
    for (Status status = kNotReady; (status = driver().ask_stream(stream)) != 0;) {
      if (status != kNotReady) check(status, "a kernel failed");
      const auto now = Clock::now();
      if (now - looked < kLook) continue;
      looked = now;
      check_others_();
      if (std::chrono::duration<double>(now - began).count() > seconds)
        fail(ErrorKind::kResource, "the other GPU's signal does not come");
    }
  } catch (...) {
    give_up();
    throw;
  }
}

// Lets all go on that waits for a signal, and waits until nothing uses the memory any more.
void PeerGpus::give_up() {
  if (std::exchange(ended_, true)) return;
  driver().copy_later(room_, room_ + kOnes, kOnes, releasing_);
  const auto until = Clock::now() + std::chrono::duration<double>(kPatience);
  for (StreamObject* stream : {taking_, adding_, giving_, thread_stream()})
    while (driver().ask_stream(stream) == kNotReady && Clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace flagscale::cuda
