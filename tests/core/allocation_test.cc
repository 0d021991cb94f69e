// A step allocates nothing: malloc, mmap and all that is like them are counted while it runs. Resident memory
// stays near the plan.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <new>
#include <set>

#include "data/train_data.h"
#include "train/step.h"

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};
void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

#ifndef FLAGSCALE_SANITIZED
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) { return count(), __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return count(), __libc_calloc(n, size); }
void* realloc(void* p, size_t size) { return count(), __libc_realloc(p, size); }
void* aligned_alloc(size_t alignment, size_t size) { return count(), __libc_memalign(alignment, size); }
void* memalign(size_t alignment, size_t size) { return count(), __libc_memalign(alignment, size); }
void* valloc(size_t size) { return memalign(static_cast<size_t>(sysconf(_SC_PAGESIZE)), size); }
int posix_memalign(void** p, size_t alignment, size_t size) {
  *p = memalign(alignment, size);
  return *p == nullptr ? ENOMEM : 0;
}
void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  count();
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, fd, offset));
}
void* mmap64(void* address, size_t length, int protection, int flags, int fd, off64_t offset) noexcept {
  return mmap(address, length, protection, flags, fd, offset);
}
void* mremap(void* address, size_t from, size_t to, int flags, ...) noexcept {
  count();
  return reinterpret_cast<void*>(
      syscall(SYS_mremap, address, from, to, flags, nullptr));  // MREMAP_FIXED: no one
}
}
#endif

namespace flagscale::train {
namespace {

size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  size_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void fill(const data::MicroBatch& batch, int64_t sequences) {
  const auto length = static_cast<int64_t>(batch.tokens.size()) / sequences;
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    batch.tokens[i] = batch.labels[i] = static_cast<int32_t>(i * 7 % 1000);
    batch.loss_mask[i] = 1;
    batch.position_ids[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
  }
  for (int64_t s = 0; s <= sequences; ++s)
    batch.cu_seqlens[static_cast<size_t>(s)] = static_cast<int32_t>(s * length);
}

model::DecoderConfig small() {
  model::DecoderConfig c;
  c.num_layers = 4, c.hidden_size = 256, c.num_heads = 8, c.num_kv_heads = 4, c.head_dim = 32;
  c.intermediate_size = 512, c.vocab_size = 8000, c.max_positions = 128, c.rope.head_dim = 32;
  c.qk_norm = c.qkv_bias = c.tie_embeddings = true;
  return c;
}

TEST(Allocation, AStepAllocatesNothingAndStaysInThePlan) {
#ifdef FLAGSCALE_SANITIZED
  GTEST_SKIP() << "sanitizers have an allocator of their own";
#endif
  for (const DType compute : {DType::kF32, DType::kBF16})
    for (const auto recompute : {model::Recompute::kNone, model::Recompute::kFull}) {
      const size_t before = resident_bytes();
      StepOptions options;
      options.compute = compute;
      options.micro_batch_size = 4, options.sequence_length = 128, options.threads = 2;
      options.recompute = {recompute, -1};
      TrainStep step(small(), options);
      const auto allocator = make_cpu_allocator();
      step.allocate(*allocator);
      step.initialise(1);
      fill(step.inputs(), 4);
      op::StepScalars scalars{1e-3f, 0.1f, 0.1f, 0.001f, 1, 0};
      for (int i = 0; i < 3; ++i) {
        allocations = 0;
        counting = i > 0;  // the first step starts the team's threads
        step.micro_batch(4, true, 2);
        step.micro_batch(4, false, 2);
        const float norm = step.gradient_norm();
        step.update(scalars);
        const auto evaluated = step.evaluate(4);
        counting = false;
        EXPECT_EQ(allocations, 0) << "step " << i;
        EXPECT_TRUE(std::isfinite(norm) && std::isfinite(evaluated.loss));
      }
      EXPECT_EQ(allocator->peak(), step.bytes());
      EXPECT_EQ(allocator->peak(), step.memory().total());
      EXPECT_LE(resident_bytes(), before + step.bytes() + (size_t{32} << 20));
    }
}

// What changes between steps is read when kernels run. A second trace would allocate: launches, buffers,
// tensors.
TEST(Allocation, NothingIsTracedAgain) {
#ifdef FLAGSCALE_SANITIZED
  GTEST_SKIP() << "sanitizers have an allocator of their own";
#endif
  data::DatasetOptions files;
  files.data_path = {FLAGSCALE_SOURCE_DIR "/tests/golden/data/a"};
  files.split = "1", files.sequence_length = 128, files.samples[data::kTrain] = 100;
  const auto splits = data::build_datasets(files);
  data::MaskOptions mask;
  mask.eod_token = 0, mask.reset_position_ids = mask.reset_attention_mask = mask.eod_mask_loss = true;
  StepOptions options;
  options.micro_batch_size = 4, options.sequence_length = 128, options.threads = 2;
  options.cu_seqlens_capacity = data::max_cu_seqlens(4, 128, mask);
  TrainStep step(small(), options);
  const auto allocator = make_cpu_allocator();
  step.allocate(*allocator);
  step.initialise(1);
  const data::MicroBatch inputs = step.inputs();
  std::vector<int64_t> sequences;
  sequences.reserve(100);
  double loss = 0;
  for (int i = 0; i < 8; ++i) {
    allocations = 0;
    counting = i > 0;
    const int micro_batches = 1 + i % 3;  // as a batch that ramps up
    for (int m = 0; m < micro_batches; ++m) {
      const int64_t entries =
          data::fill_micro_batch(*splits[data::kTrain], 4 * m, mask, inputs);  // packed documents
      sequences.push_back(entries - 1);
      loss = step.micro_batch(entries - 1, m == 0, micro_batches).loss;
    }
    step.gradient_norm();
    const int64_t skip = i % 4 == 3 ? 1 : 0;
    step.update({1e-3f * static_cast<float>(i + 1), 0.01f * static_cast<float>(i), 0.1f, 0.001f,
                 i % 2 ? 1.f : 0.f, skip});
    if (i % 2) {
      fill(inputs, 4);
      step.evaluate(4);
    }
    counting = false;
    EXPECT_EQ(allocations, 0) << "step " << i;
    EXPECT_TRUE(std::isfinite(loss));
  }
  EXPECT_GT(std::set<int64_t>(sequences.begin(), sequences.end()).size(), 1u) << "the lengths do not vary";
}

TEST(Allocation, TheCounterCounts) {
#ifdef FLAGSCALE_SANITIZED
  GTEST_SKIP() << "sanitizers have an allocator of their own";
#endif
  const auto counted = [](const char* name, auto allocate) {
    allocations = 0;
    counting = true;
    void* const volatile p = allocate();
    counting = false;
    EXPECT_EQ(allocations, 1) << name;
    return p;
  };
  std::free(counted("malloc", [] { return std::malloc(100); }));
  std::free(counted("calloc", [] { return std::calloc(10, 10); }));
  std::free(counted("aligned_alloc", [] { return std::aligned_alloc(64, 128); }));
  std::free(counted("memalign", [] { return memalign(64, 100); }));
  std::free(counted("valloc", [] { return valloc(100); }));
  std::free(counted("posix_memalign", [] {
    void* p = nullptr;
    return posix_memalign(&p, 64, 100) == 0 ? p : nullptr;
  }));
  operator delete(counted("new", [] { return operator new(100); }));
  void* const small = std::malloc(100);
  std::free(counted("realloc", [&] { return std::realloc(small, 100'000); }));
  const auto map = [] { return mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); };
  void* const mapped = counted("mmap", map);
  void* const moved = counted("mremap", [&] { return mremap(mapped, 4096, 8192, MREMAP_MAYMOVE); });
  munmap(moved, 8192);
}

}  // namespace
}  // namespace flagscale::train
