#include "launch/launcher/batch_system.h"

#include <chrono>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/interrupt.h"

namespace flagscale::launch {

namespace fs = std::filesystem;

namespace {
constexpr std::chrono::milliseconds kOutputTick{200};  // at the output
constexpr std::chrono::milliseconds kStateTick{1000};  // for the state, which loads the system's controller
constexpr int kInterrupted = 130;
}  // namespace

std::unique_ptr<BatchSystem> make_batch_system(const std::string& name, const LauncherOptions& options) {
  const BatchKind* kind = Registry<BatchKind>::instance().find(name);
  return kind ? kind->make(options) : nullptr;
}

void write_batch_files(const std::vector<BatchFile>& files) {
  for (const BatchFile& file : files) {
    std::error_code error;
    fs::create_directories(file.path.parent_path(), error);
    std::ofstream out(file.path, std::ios::binary);
    out << file.text;
    if (!out.flush()) fail(ErrorKind::kResource, "cannot write {}", file.path.string());
  }
}

int follow(const BatchSystem& system, const BatchJob& job, const std::string& id,
           const std::function<void(const BatchState&)>& state,
           const std::function<void(std::string_view)>& output, OnCtrlC on_ctrl_c) {
  size_t place = 0;
  bool cancelled = false;
  BatchState shown;
  shown.text = "\n";  // like no state
  auto asked = std::chrono::steady_clock::now() - kStateTick;
  while (true) {
    if (interrupted() && on_ctrl_c == OnCtrlC::kLeave) return kInterrupted;
    if (interrupted() && !cancelled) {
      system.cancel(id);
      cancelled = true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - asked >= kStateTick) {
      asked = now;
      if (const BatchState current = system.state(id); current != shown) state(shown = current);
    }
    if (const std::string text = system.output(job, id, place); !text.empty()) output(text);
    if (shown.phase == BatchState::Phase::kEnded) return cancelled ? kInterrupted : shown.exit_code;
    std::this_thread::sleep_for(kOutputTick);
  }
}

}  // namespace flagscale::launch
