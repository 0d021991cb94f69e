#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "base/library_function.h"
#include "kernel/cuda/cublas.h"
#include "kernel/cuda/errors.h"
#include "kernel/cuda/no_memory.h"
#include "kernel/cuda/product_table.h"

namespace flagscale::cuda {

namespace {

constexpr size_t kMostWorkspace = kProductWorkspace - 256;

struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmulDescCreate) describe;
  decltype(&cublasLtMatmulDescSetAttribute) set;
  decltype(&cublasLtMatrixLayoutCreate) layout;
  decltype(&cublasLtMatmulPreferenceCreate) preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) prefer;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) look;
  decltype(&cublasLtMatmul) multiply;
  decltype(&cublasLtGetVersion) version;
  cublasLtHandle_t handle;
};

template <class Function>
void find(void* library, const char* name, Function& function) {
  if (!find_function(library, name, function)) library_failed("cuBLASLt is too old", name);
}

const Library& library() {
  static const Library opened = [] {
    void* file = cublas_library();
    Library l{};
    find(file, "cublasLtCreate", l.create);
    find(file, "cublasLtMatmulDescCreate", l.describe);
    find(file, "cublasLtMatmulDescSetAttribute", l.set);
    find(file, "cublasLtMatrixLayoutCreate", l.layout);
    find(file, "cublasLtMatmulPreferenceCreate", l.preference);
    find(file, "cublasLtMatmulPreferenceSetAttribute", l.prefer);
    find(file, "cublasLtMatmulAlgoGetHeuristic", l.choose);
    find(file, "cublasLtMatmulAlgoConfigGetAttribute", l.look);
    find(file, "cublasLtMatmul", l.multiply);
    find(file, "cublasLtGetVersion", l.version);
    const cublasStatus_t status = l.create(&l.handle);
    if (status == CUBLAS_STATUS_ALLOC_FAILED) no_memory_for("cuBLASLt");
    if (status != CUBLAS_STATUS_SUCCESS) library_failed("cuBLASLt", "it does not start on this GPU");
    return l;
  }();
  return opened;
}

void check(cublasStatus_t status, const Product& p) {
  if (status != CUBLAS_STATUS_SUCCESS) product_failed(p.m, p.n, p.k, p.in, p.out, static_cast<int>(status));
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }
cudaDataType_t type_of(DType dtype, const Fp8Side& side) {
  if (dtype != DType::kU8) return type_of(dtype);
  return side.format == Fp8::kE4M3 ? CUDA_R_8F_E4M3 : CUDA_R_8F_E5M2;
}
bool in_blocks(const Product& p) { return p.in == DType::kU8 && p.a_fp8.shared != Fp8Scales::kTensor; }

constexpr int kMostChoices = 8;

// What is done again and again: a product of these sizes. The library's choices of an algorithm, best first
// as it guesses, until they have been timed.
struct Plan {
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t a, b, c;
  cublasLtMatmulAlgo_t choices[kMostChoices];
  int count, winner = 0;
  bool settled = false;  // which wins
};

// Which family an algorithm is of, in how many pieces it cuts sums along k, and how it adds them.
std::tuple<int, int, int> sums_of(const cublasLtMatmulAlgo_t& algorithm) {
  int family = 0, pieces = 0, addition = 0;
  size_t written = 0;
  const auto look = [&](cublasLtMatmulAlgoConfigAttributes_t what, int& to) {
    library().look(&algorithm, what, &to, sizeof to, &written);
  };
  look(CUBLASLT_ALGO_CONFIG_ID, family);
  look(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, pieces);
  look(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, addition);
  return {family, pieces, addition};
}

// In the way of a launch: where bias and scales lie.
void point(const Product& p, cublasLtMatmulDesc_t operation) {
  const Library& l = library();
  if (p.bias) check(l.set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias), p);
  if (p.in != DType::kU8) return;
  const void *first = p.b_fp8.scales, *second = p.a_fp8.scales;
  check(l.set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &first, sizeof first), p);
  check(l.set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &second, sizeof second), p);
}

static_assert(CUBLAS_VERSION >= kOldestCublas, "./dev cuda takes CUDA 12.9 or newer");

// How many share a scale: one a tensor where nothing is said.
void set_blocks(const Product& p, cublasLtMatmulDesc_t operation) {
  const Library& l = library();
  const auto mode_of = [](const Fp8Side& side) {
    return static_cast<int32_t>(side.shared == Fp8Scales::kRow128
                                    ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F
                                    : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
  };
  const int32_t first = mode_of(p.b_fp8), second = mode_of(p.a_fp8);
  check(l.set(operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &first, sizeof first), p);
  check(l.set(operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &second, sizeof second), p);
}

// cuBLASLt's matrices are column-major: ours are their transposes, so c^T = op(b)^T op(a)^T.
Plan make_plan(const Product& p) {
  const Library& l = library();
  Plan plan{};
  const cublasOperation_t first = p.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                          second = p.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const auto layout = [&](cublasLtMatrixLayout_t* to, cudaDataType_t type, int64_t rows, int64_t columns,
                          int64_t stride) {
    check(l.layout(to, type, static_cast<uint64_t>(columns), static_cast<uint64_t>(rows), stride), p);
  };
  check(l.describe(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), p);
  check(l.set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), p);
  check(l.set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), p);
  if (p.bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = p.in == DType::kU8 ? CUDA_R_16BF : type_of(p.in);
    check(l.set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue), p);
    check(l.set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type), p);
  }
  if (in_blocks(p)) set_blocks(p, plan.operation);
  point(p, plan.operation);
  layout(&plan.a, type_of(p.in, p.a_fp8), p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, p.a_stride);
  layout(&plan.b, type_of(p.in, p.b_fp8), p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, p.b_stride);
  layout(&plan.c, type_of(p.out), p.m, p.n, p.c_stride);
  cublasLtMatmulPreference_t preference{};
  const size_t most = kMostWorkspace;
  check(l.preference(&preference), p);
  check(l.prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most), p);
  const uint32_t alignment = 16;  // what callers promise; 256 is assumed otherwise
  for (const auto side :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    check(l.prefer(preference, side, &alignment, sizeof alignment), p);
  cublasLtMatmulHeuristicResult_t results[kMostChoices] = {};
  int found = 0;
  check(l.choose(l.handle, plan.operation, plan.b, plan.a, plan.c, plan.c, preference, kMostChoices, results,
                 &found),
        p);
  if (found == 0) check(CUBLAS_STATUS_NOT_SUPPORTED, p);
  const auto same_sums = [&](const cublasLtMatmulAlgo_t& algorithm) {
    return sums_of(algorithm) == sums_of(results[0].algo);
  };
  for (int i = 0; i < found; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS && same_sums(results[i].algo))
      plan.choices[plan.count++] = results[i].algo;
  return plan;
}

cublasStatus_t launch(const Product& p, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                      void* workspace) {
  const Library& l = library();
  point(p, plan.operation);
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(workspace) + 255) & ~uintptr_t{255};  // it insists
  const float one = 1, beta = p.add ? 1.f : 0.f;
  return l.multiply(l.handle, plan.operation, &one, p.b, plan.b, p.a, plan.a, &beta, p.c, plan.c, p.c, plan.c,
                    &algorithm, reinterpret_cast<void*>(aligned), kMostWorkspace, cudaStreamPerThread);
}

// Whether launches run now, rather than being recorded.
bool running() {
  cudaStreamCaptureStatus status{};
  return cudaStreamIsCapturing(cudaStreamPerThread, &status) == cudaSuccess &&
         status == cudaStreamCaptureStatusNone;
}

ProductTable& table() {
  static ProductTable kept = [] {
    int device = 0;
    cudaDeviceProp properties{};
    cudaGetDevice(&device);
    cudaGetDeviceProperties(&properties, device);
    return ProductTable(properties.name, library().version());
  }();
  return kept;
}

// Which of the choices is the fastest here.
int fastest(const Product& p, const Plan& plan, void* workspace) {
  cudaEvent_t begin{}, end{};
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  const auto time = [&](int choice, int launches) {  // ms each; 0 where it does not run
    bool ran = true;
    cudaEventRecord(begin, cudaStreamPerThread);
    for (int i = 0; i < launches; ++i)
      ran = ran && launch(p, plan, plan.choices[choice], workspace) == CUBLAS_STATUS_SUCCESS;
    cudaEventRecord(end, cudaStreamPerThread);
    float took = 0;
    ran = ran && cudaEventSynchronize(end) == cudaSuccess &&
          cudaEventElapsedTime(&took, begin, end) == cudaSuccess;
    return ran ? took / static_cast<float>(launches) : 0.f;
  };
  constexpr float kEnough = 0.1f;  // ms that are timed, of short products by several launches
  float best = 0;
  int winner = 0;
  for (int i = 0; i < plan.count; ++i) {
    const float first = time(i, 1);
    if (first == 0) continue;
    const float took = time(i, std::clamp(static_cast<int>(kEnough / first), 1, 10));
    if (took > 0 && (best == 0 || took < best)) best = took, winner = i;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return winner;
}

using Key =
    std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool, bool, bool, DType, DType, int>;

// Of fp8 numbers: their formats and how many share a scale.
int kind_of(const Product& p) {
  if (p.in != DType::kU8) return 0;
  int kind = 1;
  for (const Fp8Side& side : {p.a_fp8, p.b_fp8})
    kind = (kind * 2 + static_cast<int>(side.format)) * 3 + static_cast<int>(side.shared);
  return kind;
}

std::string name_of(const Key& key) {
  std::string name;
  std::apply([&](auto... part) { ((name += std::to_string(static_cast<int64_t>(part)) + ' '), ...); }, key);
  name.pop_back();
  return name;
}

// Of the choices of a large product, which is done again and again, the best stays: as an earlier run timed
// them, or as they are timed now. All give the same bits, so that it does not matter which wins: sums cut
// alike along k are chains of the same products in the same order (cublas_cuda_test.cc holds them to it).
void choose_by_time(const Product& p, const Key& key, Plan& plan, void* workspace) {
  constexpr double kLarge = 5e8;  // operations: 10 us and more of an adapter's, which memory binds
  if (plan.settled || p.add) return;
  plan.settled = true;
  if (plan.count == 1 || p.in == DType::kF32 ||
      2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k) < kLarge)
    return;
  const std::string product = name_of(key);
  int winner = table().winner(product, plan.count);
  if (winner < 0) {
    if (!running()) return;
    winner = fastest(p, plan, workspace);
    table().keep(product, winner, plan.count);
  }
  plan.winner = winner;
}

Key key_of(const Product& p) {
  return {p.m,  p.n,   p.k,       p.a_stride, p.b_stride, p.c_stride, p.trans_a, p.trans_b, p.bias != nullptr,
          p.in, p.out, kind_of(p)};
}

std::mutex one_at_a_time;  // a plan points to what its last launch took

Plan& plan_of(const Product& p, const Key& key) {
  static std::map<Key, Plan> plans;
  auto it = plans.find(key);
  if (it == plans.end()) it = plans.emplace(key, make_plan(p)).first;
  return it->second;
}

}  // namespace

void multiply(const Product& p, void* workspace) {
  const std::lock_guard lock(one_at_a_time);
  const Key key = key_of(p);
  Plan& plan = plan_of(p, key);
  choose_by_time(p, key, plan, workspace);
  check(launch(p, plan, plan.choices[plan.winner], workspace), p);
}

int product_choices(const Product& p) {
  const std::lock_guard lock(one_at_a_time);
  return plan_of(p, key_of(p)).count;
}

bool multiply_by(int choice, const Product& p, void* workspace) {
  const std::lock_guard lock(one_at_a_time);
  const Plan& plan = plan_of(p, key_of(p));
  return launch(p, plan, plan.choices[choice], workspace) == CUBLAS_STATUS_SUCCESS;
}

}  // namespace flagscale::cuda
