#include "kernel/cuda/cublas_places.h"

#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace flagscale::cuda {
namespace {
namespace fs = std::filesystem;

// What a pattern of the shell finds, the newest library first.
void add_found(const std::string& pattern, std::vector<std::string>& to) {
  glob_t found{};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    std::for_each_n(std::make_reverse_iterator(found.gl_pathv + found.gl_pathc), found.gl_pathc,
                    [&](const char* file) { to.emplace_back(file); });
  globfree(&found);
}

constexpr const char* kFile = "/libcublasLt.so.1[23]";

void add_environment(const fs::path& environment, std::vector<std::string>& to) {
  const std::string packages = environment.string() + "/lib/python3*/site-packages/nvidia/";
  for (const char* wheel : {"cu13/lib", "cublas/lib"}) add_found(packages + wheel + kFile, to);
}

}  // namespace

std::vector<std::string> cublas_places() {
  if (const char* chosen = std::getenv("FLAGSCALE_CUBLAS"); chosen && *chosen) return {chosen};
  std::vector<std::string> places{"libcublasLt.so.13", "libcublasLt.so.12"};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* root = std::getenv(variable)) add_found(std::string(root) + "/lib64" + kFile, places);
  add_found(std::string("/usr/local/cuda/lib64") + kFile, places);
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* root = std::getenv(variable)) add_environment(root, places);
  std::error_code error;
  for (fs::path folder = fs::read_symlink("/proc/self/exe", error); folder.has_relative_path();
       folder = folder.parent_path())
    if (const fs::path own = folder.parent_path() / ".deps" / "cuda"; fs::is_directory(own, error)) {
      add_environment(own, places);
      break;
    }
  return places;
}

}  // namespace flagscale::cuda
